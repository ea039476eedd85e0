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
	"berth/pkg/service/config"
	"berth/pkg/service/worker"
	"berth/services/api/internal/access"
	"berth/services/api/internal/audit"
	"berth/services/api/internal/silo"
	"berth/services/api/internal/v1"
)

// App is the api. Its Worker has Start, Stop and Run.
type App struct {
	*worker.Worker
	table *natsbus.Table
	// backend answers what the endpoints ask.
	backend *backend
	// secure answers over TLS; nil without a certificate.
	secure *service.Server
	// waits are the usual ones; tests have others.
	waits waits
}

// New returns an api that is not started.
func New(opts worker.Options) *App {
	a := &App{waits: usualWaits()}
	a.Worker = worker.New(opts, a.start)
	return a
}

// Run is the api as a program's main function.
func Run(ctx context.Context, p service.Process) error {
	return New(worker.Options{Process: p}).Run(ctx)
}

func (a *App) start(ctx context.Context, w *worker.Worker) error {
	owners := newOwners()
	hub := &v1.Hub{}
	a.table = w.Bus.NewTable(true, func(e natsbus.Entry) {
		owners.put(e)
		tellV1(hub, a.table, e)
	})
	owners.created = a.table.Created
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
	pulse := &pulse{now: time.Now}
	silence, err := w.Bus.OnHeartbeat(pulse.beat)
	if err != nil {
		return err
	}
	w.OnStop("stop listening to the watcher", func(context.Context) error { silence(); return nil })

	guard := access.New(w.Config, time.Now)
	w.OnReload(guard.Reload)
	trail := a.trail(w)
	backend := &backend{
		bus: w.Bus, table: a.table, config: w.Config, owners: owners, pulse: pulse, draining: draining,
		confirms: newConfirms(w.Bus.ConfirmAddress), waits: a.waits,
	}
	a.backend = backend
	handler := &silo.Handler{
		Guard: guard, Lists: backend, Creates: backend, Deletes: backend, Cleans: backend, Log: w.Log, Audit: trail.Record, Traces: w.Traces,
		Observe: func(endpoint string, status int, took time.Duration) {
			requests.WithLabelValues(endpoint, strconv.Itoa(status)).Observe(took.Seconds())
		},
		Waiting: func(endpoint string, change float64) { waiting.WithLabelValues(endpoint).Add(change) },
	}
	handler.Register(w.Mux)
	resources := newV1(backend, guard, hub)
	resources.Log, resources.Audit, resources.Traces = w.Log, trail.Record, w.Traces
	resources.Observe, resources.Waiting = handler.Observe, handler.Waiting
	if err := resources.Register(w.Mux); err != nil {
		return err
	}
	return a.serveTLS(ctx, w)
}

// trail is where requests are noted down.
func (a *App) trail(w *worker.Worker) *audit.Trail {
	lost := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "berth_audit_lost_total", Help: "Audit records that are not in the audit stream; the log of the process has them.",
	})
	w.Health.Registry().MustRegister(lost)
	trail := audit.New(w.Bus, w.Log, lost.Inc)
	w.Go("keep the audit trail", trail.Run)
	return trail
}

// serveTLS answers over TLS too, where the site has a certificate. A certificate that was replaced is taken
// over with the configuration. Both listeners drain at once: the stop has time for one after the other only
// where nobody is slow.
func (a *App) serveTLS(ctx context.Context, w *worker.Worker) error {
	if w.Config.TLSListen == "" {
		return nil
	}
	certificate, err := service.LoadCertificate(w.Config.TLSCertificateFile, w.Config.TLSKeyFile)
	if err != nil {
		return err
	}
	w.OnReload(func(cfg config.Config) {
		if err := certificate.Reload(cfg.TLSCertificateFile, cfg.TLSKeyFile); err != nil {
			w.Log.Error().Err(err).Msg("Certificate not reloaded: the one before stays")
		}
	})
	if a.secure, err = service.ListenTLS(ctx, w.Config.TLSListen, certificate, w.Mux, w.Log); err != nil {
		return err
	}
	w.OnStop("close TLS listener", func(context.Context) error { return a.secure.Close() })
	w.Go("serve TLS", func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(a.backend.draining, cancel)()
		return a.secure.Serve(ctx)
	})
	w.Log.Info().Str("address", a.secure.Addr()).Msg("Listening with TLS")
	return nil
}
