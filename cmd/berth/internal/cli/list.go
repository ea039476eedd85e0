package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/progress"
	"berth/pkg/client"
	"berth/pkg/events"
)

// list is the command line of pods list.
type list struct {
	types    []string
	ready    bool
	allUsers bool
}

func (a *app) podsList() *cobra.Command {
	var l list
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the pods of a user",
		Long: `List the pods of a user: name, the newest event, age, image, address, and the
reason where a pod waits or has failed. With --json stdout has an array of them,
with everything that the service shows.`,
		Example: `  berth pods list --user alice@example.org
  berth pods list --all-users --event failed,ended
  berth pods list --json | jq -r '.[] | select(.event == "ready").pod_name'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runList(cmd.Context(), l) },
	}
	cmd.Flags().StringSliceVar(&l.types, "event", nil, "only pods whose newest event is one of these, with commas between: ready,failed")
	cmd.Flags().BoolVar(&l.ready, "ready", false, "only pods that are ready")
	cmd.Flags().BoolVar(&l.allUsers, "all-users", false, "the pods of all users that you may see")
	return completes(cmd, map[string]cobra.CompletionFunc{"event": completeTypes})
}

func (a *app) runList(ctx context.Context, l list) error {
	q := client.Query{Limit: 500}
	if !l.allUsers {
		var err error
		if q.User, err = a.userID(); err != nil {
			return err
		}
	}
	types, err := checkTypes(l.types)
	if err != nil {
		return err
	}
	for _, t := range types {
		q.Events = append(q.Events, string(t))
	}
	if l.ready {
		q.Ready = &l.ready
	}
	pods := []shown{}
	err = a.withService(ctx, defaultTimeout, a.newDisplay(""), func(ctx context.Context, api *client.Client) error {
		for pod, err := range api.Pods(ctx, q) {
			if err != nil {
				return failed(ctx, "list the pods at "+api.URL(), err)
			}
			pods = append(pods, shown{PodName: pod.Name, Pod: pod})
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case a.json:
		a.writeJSON(a.Stdout, pods)
	case len(pods) == 0 && !a.quiet && l.allUsers:
		fmt.Fprintln(a.Stderr, "no pods")
	case len(pods) == 0 && !a.quiet:
		fmt.Fprintln(a.Stderr, a.user, "has no pods")
	case len(pods) > 0:
		fmt.Fprint(a.Stdout, podTable(pods, l.allUsers, time.Now()))
	}
	return nil
}

// shown is a pod as JSON: as the service shows it, and with its name as all
// commands call it.
type shown struct {
	client.Pod

	PodName string
}

// MarshalJSON adds pod_name to what the service shows.
func (s shown) MarshalJSON() ([]byte, error) {
	name, err := json.Marshal(s.PodName)
	if err != nil {
		return nil, err
	}
	pod, err := json.Marshal(s.Pod)
	if err != nil {
		return nil, err
	}
	return append(append([]byte(`{"pod_name":`), name...), append([]byte{','}, pod[1:]...)...), nil
}

func podTable(pods []shown, withUser bool, now time.Time) string {
	header := []string{"NAME", "STATUS", "AGE", "IMAGE", "IP", "REASON"}
	if withUser {
		header = append([]string{"USER"}, header...)
	}
	rows := make([][]string, len(pods))
	for i, p := range pods {
		address := ""
		if len(p.Addresses) > 0 {
			address = p.Addresses[0]
		}
		rows[i] = []string{p.Name, p.Event, age(p.StartedAt, now), p.Image, address, progress.Cause(events.Reason(p.Reason), p.Message)}
		if withUser {
			rows[i] = append([]string{p.User}, rows[i]...)
		}
	}
	return progress.Table(header, rows)
}

// age is how long ago a pod has started, in whole seconds; empty for one that has not.
func age(started, now time.Time) string {
	if started.IsZero() || now.Before(started) {
		return ""
	}
	return strings.Replace(progress.Duration(now.Sub(started).Truncate(time.Second)), ".0s", "s", 1)
}
