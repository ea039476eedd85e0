package worker_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/service"
	"berth/pkg/service/config"
	"berth/pkg/service/servicetest"
	"berth/pkg/service/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(server *eventstest.Server) worker.Options {
	return worker.Options{InProcess: server, Process: service.Process{
		Identity: service.NewIdentity("worker"), Config: config.Default(), Log: zerolog.Nop(), Listen: "127.0.0.1:0",
	}}
}

func idle(context.Context, *worker.Worker) error { return nil }

// start starts a worker and stops it when the test ends.
func start(t *testing.T, opts worker.Options, f func(context.Context, *worker.Worker) error) *worker.Worker {
	t.Helper()
	w := worker.New(opts, f)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return w
}

// get answers a GET with its status and body.
func get(t *testing.T, w *worker.Worker, path string) (int, string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.Addr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	w := start(t, options(server), func(_ context.Context, w *worker.Worker) error {
		w.Mux.HandleFunc("GET /own", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
		return nil
	})
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/metrics": 200, "/own": 418, "/other": 404} {
		if status, body := get(t, w, path); status != want {
			t.Errorf("GET %s = %d %s, want %d", path, status, body, want)
		}
	}
	server.Stop()
	eventstest.Eventually(t, "it says that NATS is away", func() bool {
		status, body := get(t, w, "/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "[-] nats: NATS is ")
	})
	if status, _ := get(t, w, "/livez"); status != http.StatusOK {
		t.Errorf("livez = %d; a restart would not bring NATS back", status)
	}
	server.Start()
	eventstest.Eventually(t, "it is ready again", func() bool { status, _ := get(t, w, "/readyz"); return status == http.StatusOK })
}

// TestNATSIsAway: a service starts and waits; it does not fail.
func TestNATSIsAway(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	server.Stop()
	w := start(t, options(server), idle)
	if status, _ := get(t, w, "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("readyz = %d without NATS", status)
	}
	server.Start()
	eventstest.Eventually(t, "it is ready", func() bool { status, _ := get(t, w, "/readyz"); return status == http.StatusOK })
}

func TestStartThatFails(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	broken := errors.New("broken")
	w := worker.New(options(server), func(context.Context, *worker.Worker) error { return broken })
	if err := w.Start(t.Context()); !errors.Is(err, broken) {
		t.Errorf("Start = %v, want %v", err, broken)
	}
	taken := start(t, options(server), idle)
	opts := options(server)
	opts.Listen = taken.Addr()
	if err := worker.New(opts, idle).Start(t.Context()); err == nil || !strings.Contains(err.Error(), taken.Addr()) {
		t.Errorf("Start on a port in use = %v", err)
	}
	opts = options(server)
	opts.Config.Cluster = ""
	if err := worker.New(opts, idle).Start(t.Context()); err == nil {
		t.Error("it started without a cluster's name")
	}
}

// TestConsume: stages are carried out, measured and traced.
func TestConsume(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "test")
	spans := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(spans))
	opts := options(server)
	opts.Traces = provider
	got := make(chan natsbus.Delivery, 2)
	w := start(t, opts, func(_ context.Context, w *worker.Worker) error {
		stage := func(s events.Stage) natsbus.Stage {
			return natsbus.Stage{Stage: s, Handler: func(_ context.Context, d natsbus.Delivery) error {
				got <- d
				if s == events.StageLaunch {
					return natsbus.Permanent(events.PodRejected, errors.New("no"))
				}
				return nil
			}}
		}
		w.Consume(stage(events.StageLicense), stage(events.StageLaunch))
		return nil
	})
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, c := range []events.Command{
		eventstest.LicenseCommand("c1", "alice", "n", "1-1"), eventstest.LaunchCommand("c1", "alice", "n", "1-1"),
	} {
		c.Traceparent = parent
		if err := bus.Publish(t.Context(), c, "1"); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		d := eventstest.Receive(t, "a command", got)
		if !strings.HasPrefix(d.Traceparent, parent[:36]) || d.Traceparent == parent {
			t.Errorf("traceparent = %q, want a span of its own in the trace of %q", d.Traceparent, parent)
		}
	}
	eventstest.Eventually(t, "both verdicts are measured", func() bool {
		_, metrics := get(t, w, "/metrics")
		return strings.Contains(metrics, `berth_command_duration_seconds_count{stage="license",verdict="ack"} 1`) &&
			strings.Contains(metrics, `berth_command_duration_seconds_count{stage="launch",verdict="dead"} 1`)
	})
	if n := len(spans.Ended()); n != 2 {
		t.Errorf("%d spans, want 2", n)
	}
}

func TestStress(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	servicetest.Stress(t, 5, func() servicetest.Service {
		return worker.New(options(server), func(_ context.Context, w *worker.Worker) error {
			w.Consume(natsbus.Stage{Stage: events.StageLicense, Handler: func(context.Context, natsbus.Delivery) error { return nil }})
			return nil
		})
	})
}
