package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/progress"
	"berth/cmd/berth/internal/silo"
)

func (a *app) podsList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the pods of a user",
		Long: `List the pods of a user: name, the newest event, age, image, address, and the
reason where a pod waits or has failed. With --json stdout has the array of the
service as it is.`,
		Example: `  berth pods list --user alice@example.org
  berth pods list --json | jq -r '.[] | select(.event == "ready").pod_name'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runList(cmd.Context()) },
	}
}

func (a *app) runList(ctx context.Context) error {
	user, err := a.userID()
	if err != nil {
		return err
	}
	api, err := a.client()
	if err != nil {
		return err
	}
	defer api.Close()
	ctx, cancel := withTimeout(ctx, defaultTimeout)
	defer cancel()
	var pods []silo.Pod
	var raw json.RawMessage
	notice := a.newDisplay("").notice
	err = silo.Retry(ctx, func(e *silo.Error, pause time.Duration) { notice(busyText(e, pause)) }, func() (err error) {
		pods, raw, err = api.Pods(ctx, user)
		return err
	})
	switch {
	case err != nil:
		return failed(ctx, "list the pods at "+api.URL(), err)
	case a.json:
		fmt.Fprintln(a.Stdout, strings.TrimSpace(string(raw)))
	case len(pods) == 0 && !a.quiet:
		fmt.Fprintln(a.Stderr, user, "has no pods")
	case len(pods) > 0:
		fmt.Fprint(a.Stdout, podTable(pods))
	}
	return nil
}

func podTable(pods []silo.Pod) string {
	pods = slices.SortedFunc(slices.Values(pods), func(a, b silo.Pod) int { return cmp.Compare(a.Name, b.Name) })
	rows := make([][]string, len(pods))
	for i, p := range pods {
		rows[i] = []string{p.Name, string(p.State()), age(p.Age), p.Image, p.IP, progress.Cause(p.Reason, p.Message)}
	}
	return progress.Table([]string{"NAME", "STATUS", "AGE", "IMAGE", "IP", "REASON"}, rows)
}

// age writes h:m:s as people read it, and anything else as it is.
func age(text string) string {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return text
	}
	var d time.Duration
	for _, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return text
		}
		d = d*60 + time.Duration(n)*time.Second
	}
	if d == 0 {
		return "" // The pod has not started.
	}
	return strings.Replace(progress.Duration(d), ".0s", "s", 1)
}
