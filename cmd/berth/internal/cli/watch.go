package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/track"
	"berth/pkg/client"
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
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completePods(1),
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
	return completes(cmd, map[string]cobra.CompletionFunc{"timeout": completeTimes})
}

func (a *app) runWatch(ctx context.Context, name string, goal track.Goal, timeout time.Duration) error {
	user, err := a.userID()
	if err != nil {
		return err
	}
	if err := checkPod(name); err != nil {
		return err
	}
	w := &wait{app: a, display: a.newDisplay(name), user: user, pod: name, goal: goal, began: time.Now()}
	return a.withService(ctx, timeout, w.display, func(ctx context.Context, api *client.Client) error {
		var err error
		w.api = api
		w.known, err = api.Pod(ctx, user, name)
		switch {
		case client.NotFound(err) && goal == track.Gone:
			// A pod that does not exist is gone.
			w.known = client.Pod{Name: name, User: user}
		case err != nil:
			return a.missing(ctx, "look for", name, api, err)
		}
		return w.run(ctx)
	})
}
