// Package worker is what the services of Berth have in common beyond the process
// kit: one listener with health and metrics, one connection to the log, and the
// consumers of stages.
package worker

import (
	"context"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/errgroup"

	"berth/pkg/events/natsbus"
	"berth/pkg/service"
	"berth/pkg/service/config"
)

// Options are what a service is made from.
type Options struct {
	service.Process
	// InProcess, where set, is the NATS server in this process, instead of NATSURL.
	InProcess nats.InProcessConnProvider
}

// Worker is a service that is connected to the log. Its Lifecycle has Start,
// Stop and Run.
type Worker struct {
	*service.Lifecycle
	Options
	// Bus is the connection; it is open when the service's own start is called.
	Bus *natsbus.Bus
	// Health has a check of the connection already.
	Health *service.Health
	// Mux answers at Listen. Health and metrics are registered.
	Mux *http.ServeMux

	server   *service.Server
	commands *prometheus.HistogramVec
}

// New returns a service that is not started. start is called with the worker
// connected, to add checks, handlers, stages and whatever else it needs; it
// must not wait for a NATS server that may be away.
func New(opts Options, start func(ctx context.Context, w *Worker) error) *Worker {
	if opts.Traces == nil {
		opts.Traces = noop.NewTracerProvider()
	}
	w := &Worker{Options: opts}
	w.Lifecycle = service.NewLifecycle(opts.Service, opts.Log, func(ctx context.Context) error {
		return w.start(ctx, start)
	})
	return w
}

func (w *Worker) start(ctx context.Context, start func(context.Context, *Worker) error) error {
	w.Health = service.NewHealth(w.Identity)
	w.Health.Check("service", w.Ready)
	w.Mux = http.NewServeMux()
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		w.Mux.Handle("GET "+path, w.Health.Handler())
	}
	w.commands = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "berth_command_duration_seconds",
		Help:    "How long a stage took for one delivery of a command, by what came of it.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	}, []string{"stage", "verdict"})
	w.Health.Registry().MustRegister(w.commands)

	server, err := service.Listen(ctx, w.Listen, w.Mux, w.Log)
	if err != nil {
		return err
	}
	w.server = server
	w.OnStop("close listener", func(context.Context) error { return server.Close() })

	bus, err := natsbus.Connect(natsbus.Options{
		URL: w.NATSURL, User: w.NATSUser, Password: w.NATSPassword, InProcess: w.InProcess, Service: w.Service, Instance: w.Instance,
		Cluster: w.Config.Cluster, Replicas: w.Config.Replicas, AuditRetention: w.Config.AuditRetention, Logger: w.Log,
	})
	if err != nil {
		return err
	}
	w.Bus = bus
	w.OnStop("close NATS", func(context.Context) error { bus.Close(); return nil })
	w.Health.Check("nats", func(context.Context) error { return bus.Connected() })

	if err := start(ctx, w); err != nil {
		return err
	}
	// Registered last, so that it stops first: nobody new is let in while the
	// rest comes to its end.
	w.Go("serve", server.Serve)
	w.Log.Info().Str("address", server.Addr()).Msg("Listening")
	return nil
}

// Addr is the address that the service listens on; it is known after Start.
func (w *Worker) Addr() string { return w.server.Addr() }

// OnReload calls take with each configuration that is reloaded, until the service stops; see
// [service.Reloads].
func (w *Worker) OnReload(take func(config.Config)) {
	cancel := w.Reloads.Subscribe(take)
	w.OnStop("end reloads", func(context.Context) error { cancel(); return nil })
}

// Consume carries out the commands of stages until the service stops. All of
// them stop together.
func (w *Worker) Consume(stages ...natsbus.Stage) {
	w.Go("consume commands", func(ctx context.Context) error {
		if err := w.Bus.Provision(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		group, ctx := errgroup.WithContext(ctx)
		for _, s := range stages {
			name := string(s.Stage)
			s.Done = func(d time.Duration, verdict string) {
				w.commands.WithLabelValues(name, verdict).Observe(d.Seconds())
			}
			s.Handler = w.traced(s.Handler)
			group.Go(func() error { return w.Bus.Consume(ctx, s) })
		}
		return group.Wait()
	})
}

// traced makes a span of each delivery, as a part of the command's trace. What
// the handler appends and publishes carries the span's context on.
func (w *Worker) traced(handle natsbus.Handler) natsbus.Handler {
	tracer := w.Traces.Tracer("berth/pkg/service/worker")
	return func(ctx context.Context, d natsbus.Delivery) error {
		ctx, span := tracer.Start(service.WithTraceparent(ctx, d.Traceparent), "stage "+string(d.Stage), trace.WithAttributes(
			attribute.String("berth.command_id", d.ID), attribute.String("berth.pod_name", d.Pod),
			attribute.Int64("berth.attempt", int64(d.Attempt)), //nolint:gosec // A count of deliveries.
		))
		defer span.End()
		d.Traceparent = service.Traceparent(ctx)
		err := handle(natsbus.WithTraceparent(ctx, d.Traceparent), d)
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		return err
	}
}
