package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/progress"
	"berth/cmd/berth/internal/track"
	"berth/pkg/client"
	"berth/pkg/events"
)

func (a *app) podsDelete() *cobra.Command {
	var noWait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "delete NAME...",
		Short: "Delete pods and wait until they are gone",
		Long: `Delete pods of a user, and wait until nothing of them is left. All are asked to
be deleted before the first is waited for. The exit code is that of the first
that failed. With --json stdout has an object a pod.`,
		Example: `  berth pods delete notebook-alice-example-org --user alice@example.org
  berth pods delete --no-wait first second third`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completePods(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runDelete(cmd.Context(), args, noWait, timeout)
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until the pods are gone")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultTimeout, "how long to wait in all; 0 is for ever")
	return completes(cmd, map[string]cobra.CompletionFunc{"timeout": completeTimes})
}

func (a *app) runDelete(ctx context.Context, names []string, noWait bool, timeout time.Duration) error {
	user, err := a.userID()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := checkPod(name); err != nil {
			return err
		}
	}
	return a.withService(ctx, timeout, a.newDisplay(""), func(ctx context.Context, api *client.Client) error {
		return a.deletePods(ctx, api, user, names, noWait)
	})
}

// deletePods deletes pods and waits for them; it tells of all that fail, and returns the first.
func (a *app) deletePods(ctx context.Context, api *client.Client, user string, names []string, noWait bool) error {
	var first *failure
	fail := func(f *failure) {
		a.report(f, a.json)
		if first == nil {
			first = &failure{code: f.code, told: true}
		}
	}
	var deleting []*wait
	for _, name := range names {
		w := &wait{app: a, api: api, display: a.newDisplay(name), user: user, pod: name, goal: track.Gone, began: time.Now()}
		w.display.show([]progress.Change{{Event: progress.Requested, At: w.began}})
		// What is known of the pod before says which life of the name is waited for.
		var err error
		if w.known, err = api.Pod(ctx, user, name); err == nil {
			err = api.DeletePod(ctx, user, name, false)
		}
		switch {
		case err != nil:
			f := failed(ctx, "delete "+name+" at "+api.URL(), err)
			f.pod = name
			fail(f)
		case noWait && a.json:
			a.writeJSON(a.Stdout, outcome{Pod: name, User: user, Event: events.Deleting, Duration: seconds(time.Since(w.began))})
		default:
			deleting = append(deleting, w)
		}
	}
	// One after the other; they go at the same time.
	for _, w := range deleting {
		if noWait {
			break
		}
		if err := w.run(ctx); err != nil {
			fail(asFailure(err, nil))
		}
	}
	if first != nil {
		return first
	}
	return nil
}
