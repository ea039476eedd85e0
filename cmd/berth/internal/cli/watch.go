package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/progress"
	"berth/cmd/berth/internal/silo"
	"berth/cmd/berth/internal/track"
	"berth/pkg/events"
)

func (a *app) podsWatch() *cobra.Command {
	var untilGone bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "watch NAME",
		Short: "Watch a pod until it is ready, or gone",
		Long: `Watch a pod of a user until it is ready, or never will be. With --delete, watch
one that is being deleted until it is gone; a pod that does not exist is gone.`,
		Example: `  berth pods watch notebook-alice-example-org --user alice@example.org
  berth pods watch --delete notebook-alice-example-org --timeout 1m`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			goal := track.Ready
			if untilGone {
				goal = track.Gone
			}
			return a.runWatch(cmd.Context(), args[0], goal, timeout)
		},
	}
	cmd.Flags().BoolVar(&untilGone, "delete", false, "watch a delete until the pod is gone")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultTimeout, "how long to watch; 0 is for ever")
	return cmd
}

func (a *app) runWatch(ctx context.Context, name string, goal track.Goal, timeout time.Duration) error {
	user, err := a.userID()
	if err != nil {
		return err
	}
	if err := checkPod(name); err != nil {
		return err
	}
	api, err := a.client()
	if err != nil {
		return err
	}
	defer api.Close()
	ctx, cancel := withTimeout(ctx, timeout)
	defer cancel()
	w := &wait{app: a, api: api, display: a.newDisplay(name), user: user, pod: name, goal: goal, began: time.Now()}
	var there bool
	err = silo.Retry(ctx, w.busy, func() (err error) {
		_, there, err = api.Pod(ctx, user, name)
		return err
	})
	switch {
	case err != nil:
		return failed(ctx, "look for "+name+" at "+api.URL(), err)
	case !there && goal == track.Ready:
		return &failure{
			code: ExitNotFound, reason: string(events.NotFound), pod: name,
			message: fmt.Sprintf("%s has no pod %s", user, name),
		}
	}
	if w.log, err = w.openLog(ctx, w.display.notice); err != nil {
		return err
	}
	if w.log != nil {
		defer w.log.Close()
	}
	return w.run(ctx)
}

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
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runDelete(cmd.Context(), args, noWait, timeout)
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until the pods are gone")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultTimeout, "how long to wait in all; 0 is for ever")
	return cmd
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
	api, err := a.client()
	if err != nil {
		return err
	}
	defer api.Close()
	ctx, cancel := withTimeout(ctx, timeout)
	defer cancel()

	var first *failure
	fail := func(f *failure) {
		if first == nil {
			first = f
			return
		}
		a.report(f, a.json)
	}
	var deleting []*wait
	for _, name := range names {
		w := &wait{app: a, api: api, display: a.newDisplay(name), user: user, pod: name, goal: track.Gone, began: time.Now()}
		w.display.show([]progress.Change{{Event: progress.Requested, At: w.began}})
		err := silo.Retry(ctx, w.busy, func() error { return api.Delete(ctx, user, name) })
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
	if !noWait && len(deleting) > 0 {
		if err := a.waitGone(ctx, deleting, fail); err != nil {
			return err
		}
	}
	if first != nil {
		return first
	}
	return nil
}

// waitGone waits for pods that are being deleted, one after the other; they go
// at the same time.
func (a *app) waitGone(ctx context.Context, deleting []*wait, fail func(*failure)) error {
	log, err := a.openLog(ctx, deleting[0].display.notice)
	if err != nil {
		return err
	}
	if log != nil {
		defer log.Close()
	}
	for _, w := range deleting {
		w.log = log
		if err := w.run(ctx); err != nil {
			fail(asFailure(err, nil))
		}
	}
	return nil
}
