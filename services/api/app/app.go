// Package app is the api as a service: it answers silos from the log and hands
// their requests to the other services as commands. It holds no credential for
// Kubernetes or a database.
package app

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"berth/pkg/events/natsbus"
	"berth/pkg/service"
	"berth/pkg/service/worker"
	"berth/services/api/internal/silo"
)

// App is the api. Its Worker has Start, Stop and Run.
type App struct {
	*worker.Worker
	table *natsbus.Table
}

// New returns an api that is not started.
func New(opts worker.Options) *App {
	a := &App{}
	a.Worker = worker.New(opts, a.start)
	return a
}

// Run is the api as a program's main function.
func Run(ctx context.Context, p service.Process) error {
	return New(worker.Options{Process: p}).Run(ctx)
}

func (a *App) start(_ context.Context, w *worker.Worker) error {
	a.table = w.Bus.NewTable(true, nil)
	w.Health.Check("log", func(context.Context) error { return a.table.Ready() })
	w.Go("read the log", a.table.Run)

	requests := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "berth_http_request_duration_seconds",
		Help:    "How long requests took, by endpoint and status; long polls wait for their pods.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18),
	}, []string{"endpoint", "status"})
	waiting := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "berth_http_long_polls", Help: "Long polls that are open, by endpoint.",
	}, []string{"endpoint"})
	w.Health.Registry().MustRegister(requests, waiting, prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "berth_log_skipped_total", Help: "Messages of the log that this version cannot read.",
	}, func() float64 { return float64(a.table.Skipped()) }))

	draining, drain := context.WithCancel(context.Background())
	w.Go("let waiting clients go", func(ctx context.Context) error {
		defer drain()
		select {
		case <-w.Draining():
		case <-ctx.Done():
		}
		return nil
	})
	backend := &backend{bus: w.Bus, table: a.table, config: w.Config, draining: draining}
	handler := &silo.Handler{
		Lists: backend, Creates: backend, Deletes: backend, Log: w.Log, Traces: w.Traces,
		Observe: func(endpoint string, status int, took time.Duration) {
			requests.WithLabelValues(endpoint, strconv.Itoa(status)).Observe(took.Seconds())
		},
		Waiting: func(endpoint string, change float64) { waiting.WithLabelValues(endpoint).Add(change) },
	}
	handler.Register(w.Mux)
	return nil
}
