// Package app is the licenser as a service: it decides for each pod which
// licenses apply and what they make of it. A site without licenses has an empty
// list, and every pod passes unchanged.
package app

import (
	"context"
	"errors"
	"strconv"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/service"
	"berth/pkg/service/worker"
)

// App is the licenser. Its Worker has Start, Stop and Run.
type App struct{ *worker.Worker }

// New returns a licenser that is not started.
func New(opts worker.Options) *App {
	a := &App{}
	a.Worker = worker.New(opts, a.start)
	return a
}

// Run is the licenser as a program's main function.
func Run(ctx context.Context, p service.Process) error {
	return New(worker.Options{Process: p}).Run(ctx)
}

func (a *App) start(_ context.Context, w *worker.Worker) error {
	w.Consume(natsbus.Stage{
		Stage: events.StageLicense, Handler: a.license, Concurrency: 32,
		Fail: func(ctx context.Context, d natsbus.Delivery, reason events.Reason, message string) error {
			return a.Bus.Fail(ctx, d.Pod, d.Generation, reason, message, events.DeleteRequest{})
		},
	})
	return nil
}

// license appends the licenses of a pod and hands it on to be launched.
func (a *App) license(ctx context.Context, d natsbus.Delivery) error {
	entry, _, err := a.Bus.AppendAfter(ctx, d.Newest(), d.Pod, events.Fact{
		Kind: events.FactLicense, Generation: d.Generation, At: time.Now().UTC(), Licenses: []events.License{},
	})
	switch {
	case errors.Is(err, events.ErrOver), errors.Is(err, events.ErrGeneration):
		return nil // Deleted or failed meanwhile; there is nothing to make any more.
	case err != nil:
		return err
	case !entry.LaunchedAt.IsZero():
		return nil
	}
	launch := d.Command
	launch.Stage, launch.After = events.StageLaunch, entry.Known()
	return a.Bus.Publish(ctx, launch, strconv.FormatUint(entry.Sequence, 10))
}
