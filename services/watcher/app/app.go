// Package app is the watcher as a service: it turns what happens in the cluster
// into records of the log. One replica leads and watches; the others read the
// log and stand ready.
package app

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"berth/pkg/events/natsbus"
	"berth/pkg/kube/client"
	"berth/pkg/service"
	"berth/pkg/service/worker"
	"berth/services/watcher/internal/election"
	"berth/services/watcher/internal/watch"
)

// App is the watcher. Its Worker has Start, Stop and Run.
type App struct {
	*worker.Worker

	table   *natsbus.Table
	watch   *watch.Watch
	metrics *metrics
	leading atomic.Pointer[leader]
}

// silent is the age of a watch at which the leader calls itself not ready.
const silent = 2 * time.Minute

// New returns a watcher that is not started.
func New(opts worker.Options) *App {
	a := &App{}
	a.Worker = worker.New(opts, a.start)
	return a
}

// Run is the watcher as a program's main function.
func Run(ctx context.Context, p service.Process) error {
	return New(worker.Options{Process: p}).Run(ctx)
}

func (a *App) start(_ context.Context, w *worker.Worker) error {
	client.RedirectLogs(w.Log.With().Str("library", "client-go").Logger())
	clients, config, err := client.New(client.Options{Kubeconfig: w.Kubeconfig, Service: w.Service, Version: w.Version})
	if err != nil {
		return err
	}
	a.metrics = newMetrics(w.Health.Registry(), a)
	a.watch = watch.New(clients, w.Config.Namespace, w.Log)
	a.table = w.Bus.NewTable(false, func(e natsbus.Entry) {
		if l := a.leading.Load(); l != nil {
			l.logged(e)
		}
	})
	w.Health.Check("log", func(context.Context) error { return a.table.Loaded() })
	w.Health.Check("watch", func(context.Context) error {
		if age := a.watch.Age(); a.leading.Load() != nil && age > silent {
			return fmt.Errorf("nothing heard from the API server for %s", age.Round(time.Second))
		}
		return nil
	})
	w.Go("read the log", a.table.Run)
	contest, err := election.New(config, w.Config.Namespace, "berth-watcher-"+w.Config.Cluster, w.Identity.Instance, w.Log)
	if err != nil {
		return err
	}
	w.Go("stand for election", func(ctx context.Context) error { return contest.Run(ctx, a.lead) })
	return nil
}
