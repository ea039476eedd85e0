package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/progress"
	"berth/cmd/berth/internal/track"
	"berth/pkg/client"
)

// create is the command line of pods create.
type create struct {
	set     []string
	noWait  bool
	timeout time.Duration
}

func (a *app) podsCreate() *cobra.Command {
	var c create
	cmd := &cobra.Command{
		Use:   "create MANIFEST_URL",
		Short: "Make a pod and wait until it is ready",
		Long: `Make a pod for a user from the manifest at a URL, and wait until it is ready.

The name of the pod goes to stdout as soon as it has one; progress goes to
stderr. With --json stdout has one object, at the end: pod_name, user_id, event,
reason, message, duration_seconds and the phases.`,
		Example: `  berth pods create https://example.org/notebook.yaml --user alice@example.org
  berth pods create https://example.org/notebook.yaml --set notebook.LANG=da_DK.UTF-8
  POD=$(berth pods create --no-wait https://example.org/notebook.yaml)`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runCreate(cmd.Context(), args[0], c) },
	}
	cmd.Flags().StringArrayVar(&c.set, "set", nil, "set a variable of a container, `CONTAINER.NAME=VALUE`; may be repeated")
	cmd.Flags().BoolVar(&c.noWait, "no-wait", false, "do not wait until the pod is ready")
	cmd.Flags().DurationVar(&c.timeout, "timeout", defaultTimeout, "how long to wait in all; 0 is for ever")
	return completes(cmd, map[string]cobra.CompletionFunc{"timeout": completeTimes})
}

func (a *app) runCreate(ctx context.Context, manifest string, c create) error {
	user, err := a.userID()
	if err != nil {
		return err
	}
	if err := checkManifest(manifest); err != nil {
		return err
	}
	settings, err := parseSettings(c.set)
	if err != nil {
		return err
	}
	w := &wait{app: a, display: a.newDisplay(""), user: user, goal: track.Ready, began: time.Now()}
	return a.withService(ctx, c.timeout, w.display, func(ctx context.Context, api *client.Client) error {
		w.api = api
		if err := w.create(ctx, manifest, settings); err != nil {
			return err
		}
		switch {
		case c.noWait && a.json:
			a.writeJSON(a.Stdout, outcome{Pod: w.pod, User: user, Event: progress.Requested, Duration: seconds(time.Since(w.began))})
			return nil
		case !a.json:
			w.display.above(func() { fmt.Fprintln(a.Stdout, w.pod) })
		}
		if c.noWait {
			return nil
		}
		return w.run(ctx)
	})
}

// create asks for the pod.
func (w *wait) create(ctx context.Context, manifest string, settings map[string]map[string]string) error {
	stop := w.display.start()
	defer stop()
	w.display.show([]progress.Change{{Event: progress.Requested, At: w.began}})
	var err error
	w.known, err = w.api.CreatePod(ctx, client.Create{User: w.user, ManifestURL: manifest, Settings: settings})
	if err == nil {
		w.pod = w.known.Name
		w.display.rename(w.pod)
		return nil
	}
	f := failed(ctx, "create a pod at "+w.api.URL(), err)
	if client.Uncertain(err) {
		f.message += "; a pod may be on its way all the same"
		f.hint = w.again("pods list")
	}
	return f
}
