// Package app is the deleter as a service: it removes pods from the cluster with
// all that belongs to them, and users with all that is theirs; it ends creates that
// take too long, looks at intervals for what no pod needs any more, and forgets the
// history of pods that have been gone for long.
package app

import (
	"context"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube/client"
	"berth/pkg/service"
	"berth/pkg/service/worker"
	"berth/services/deleter/internal/cluster"
	"berth/services/deleter/internal/reap"
)

// App is the deleter. Its Worker has Start, Stop and Run.
type App struct{ *worker.Worker }

// forgetEvery is how often old history is looked for.
const forgetEvery = time.Hour

// New returns a deleter that is not started.
func New(opts worker.Options) *App {
	a := &App{}
	a.Worker = worker.New(opts, a.start)
	return a
}

// Run is the deleter as a program's main function.
func Run(ctx context.Context, p service.Process) error {
	return New(worker.Options{Process: p}).Run(ctx)
}

func (a *App) start(_ context.Context, w *worker.Worker) error {
	client.RedirectLogs(w.Log.With().Str("library", "client-go").Logger())
	clients, _, err := client.New(client.Options{Kubeconfig: w.Kubeconfig, Service: w.Service, Version: w.Version})
	if err != nil {
		return err
	}
	objects := cluster.New(clients, w.Config.Namespace)
	d := &deleter{
		bus: w.Bus, pods: objects, objects: objects,
		limits:        reap.Limits{Create: w.Config.TimeoutCreate, CreateMax: w.Config.TimeoutCreateMax},
		timeoutDelete: w.Config.TimeoutDelete, launchAttempt: launchAttempt,
	}
	s := &sweeper{bus: w.Bus, lister: objects, objects: objects, log: w.Log, metrics: newMetrics(w.Health.Registry())}
	u := &remover{bus: w.Bus, sweep: s.sweep}
	w.Consume(
		natsbus.Stage{Stage: events.StageDelete, Handler: d.handle, Fail: d.fail, Concurrency: 32},
		natsbus.Stage{
			Stage: events.StageDeleteUser, Handler: u.handle, Fail: u.fail, Concurrency: 8, Attempts: userAttempts,
		},
		// One at a time: the second would find what the first is removing.
		natsbus.Stage{
			Stage: events.StageSweep, Handler: s.handle, Fail: s.fail, Concurrency: 1, AckWait: sweepTime, Attempts: sweepAttempts,
		},
	)
	w.Go("sweep at intervals", func(ctx context.Context) error {
		return sweepEvery(ctx, w.Bus, w.Config.SweepInterval, func(err error) {
			w.Log.Warn().Err(err).Msg("Cannot ask for a sweep; trying again at the next time")
		})
	})
	w.Go("forget old history", a.forget)
	return nil
}

// forget removes the history of pods that have been gone for longer than the
// configuration keeps it.
func (a *App) forget(ctx context.Context) error {
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			removed, err := a.Bus.ForgetGone(ctx, now.Add(-a.Config.LogRetention))
			if err != nil && ctx.Err() == nil {
				a.Log.Warn().Err(err).Msg("Cannot forget old history; trying again in an hour")
			}
			if removed > 0 {
				a.Log.Info().Int("pods", removed).Msg("Forgot the history of pods that have long been gone")
			}
		}
	}
}
