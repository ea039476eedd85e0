package service

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func get(h http.Handler, target string) (status int, body string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, http.NoBody))
	return w.Code, w.Body.String()
}

func pass(context.Context) error { return nil }

func TestHealthEndpoints(t *testing.T) {
	t.Parallel()
	fail := func(context.Context) error { return errors.Join(errors.New("12 s behind"), errors.New("reconnecting")) }
	tests := map[string]struct {
		checks     map[string]func(context.Context) error
		target     string
		wantStatus int
		wantBody   string
	}{
		"live":                {checks: map[string]func(context.Context) error{"log": fail}, target: "/livez", wantStatus: 200, wantBody: "ok\n"},
		"ready without check": {target: "/readyz", wantStatus: 200, wantBody: "ok\n"},
		"ready":               {checks: map[string]func(context.Context) error{"nats": pass}, target: "/readyz", wantStatus: 200, wantBody: "ok\n"},
		"ready, verbose":      {checks: map[string]func(context.Context) error{"nats": pass}, target: "/readyz?verbose", wantStatus: 200, wantBody: "[+] nats\nok\n"},
		"not ready": {
			checks: map[string]func(context.Context) error{"log": fail}, target: "/readyz",
			wantStatus: 503, wantBody: "[-] log: 12 s behind reconnecting\nnot ready\n",
		},
		"unknown": {target: "/", wantStatus: 404, wantBody: "404 page not found\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := NewHealth(Identity{Service: "creator"})
			for name, f := range tc.checks {
				h.Check(name, f)
			}
			status, body := get(h.Handler(), tc.target)
			if diff := cmp.Diff(tc.wantBody, body); diff != "" || status != tc.wantStatus {
				t.Errorf("status %d, want %d; body (-want +got):\n%s", status, tc.wantStatus, diff)
			}
		})
	}
}

func TestHealthReady(t *testing.T) {
	t.Parallel()
	h := NewHealth(Identity{Service: "creator"})
	if err := h.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	broken := errors.New("broken")
	h.Check("nats", pass)
	h.Check("log", func(context.Context) error { return broken })
	err := h.Ready(t.Context())
	wantError(t, err, "log: broken")
	if !errors.Is(err, broken) {
		t.Errorf("Ready = %v does not wrap the error of the check", err)
	}
}

// A check that hangs costs a second and one goroutine, however often it is asked for.
func TestHealthCheckHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := NewHealth(Identity{Service: "creator"})
		release, calls := make(chan struct{}), 0
		h.Check("deaf", func(context.Context) error { calls++; <-release; return nil })
		h.Check("slow", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		for range 3 {
			begun := time.Now()
			err := h.Ready(t.Context())
			if err == nil || !strings.HasPrefix(err.Error(), "deaf: check gave no answer: context deadline exceeded\nslow: ") {
				t.Errorf("Ready = %v", err)
			}
			if took := time.Since(begun); took != checkLimit {
				t.Errorf("Ready took %v, want %v", took, checkLimit)
			}
		}
		close(release)
		synctest.Wait()
		if calls != 1 {
			t.Errorf("the check was called %d times, want once", calls)
		}
	})
}

// The first of those who ask together may go away; the others get the answer of the check.
func TestHealthCheckIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := NewHealth(Identity{Service: "creator"})
		release, calls := make(chan struct{}), 0
		h.Check("nats", func(ctx context.Context) error {
			calls++
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		var group sync.WaitGroup
		first, leave := context.WithCancel(t.Context())
		group.Go(func() {
			if err := h.Ready(first); !errors.Is(err, context.Canceled) {
				t.Errorf("Ready of the first = %v", err)
			}
		})
		synctest.Wait()
		group.Go(func() {
			if err := h.Ready(t.Context()); err != nil {
				t.Errorf("Ready of the second = %v", err)
			}
		})
		synctest.Wait()
		leave()
		synctest.Wait()
		close(release)
		group.Wait()
		if calls != 1 {
			t.Errorf("the check was called %d times, want once", calls)
		}
	})
}

// Metrics are gathered once a second, however many ask, and all are given the same bytes.
func TestHealthMetricsAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := NewHealth(Identity{Service: "creator"})
		calls := 0
		h.Registry().MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "berth_test_total", Help: "A test."}, func() float64 {
			calls++
			return float64(calls)
		}))
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() {
				if _, body := get(h.Handler(), "/metrics"); !strings.Contains(body, "\nberth_test_total 1\n") {
					t.Errorf("metrics = %s", body)
				}
			})
		}
		group.Wait()
		one, _ := h.metrics.read(h.Registry())
		two, err := h.metrics.read(h.Registry())
		if err != nil || &one[0] != &two[0] {
			t.Errorf("the metrics are copied, %v", err)
		}
		<-time.After(metricsAge)
		if _, body := get(h.Handler(), "/metrics"); !strings.Contains(body, "\nberth_test_total 2\n") {
			t.Errorf("metrics after a second = %s", body)
		}
	})
}

type brokenCollector struct{}

func (brokenCollector) Describe(chan<- *prometheus.Desc) {}
func (brokenCollector) Collect(to chan<- prometheus.Metric) {
	to <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(errors.New("broken")), errors.New("broken"))
}

func TestHealthMetricsFail(t *testing.T) {
	t.Parallel()
	h := NewHealth(Identity{Service: "creator"})
	h.Registry().MustRegister(brokenCollector{})
	if status, body := get(h.Handler(), "/metrics"); status != http.StatusInternalServerError || !strings.HasPrefix(body, "gather metrics: ") {
		t.Errorf("status %d: %s", status, body)
	}
}

func TestHealthMetrics(t *testing.T) {
	t.Parallel()
	one := NewHealth(Identity{Service: "creator", Instance: "a", Version: "v1"})
	other := NewHealth(Identity{Service: "deleter", Instance: "b", Version: "v1"})
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "berth_test_total", Help: "A test."})
	one.Registry().MustRegister(counter)
	counter.Inc()
	_, body := get(one.Handler(), "/metrics")
	for _, want := range []string{
		`berth_build_info{instance_id="a",service="creator",version="v1"} 1`,
		"berth_test_total 1", "go_goroutines ", "process_start_time_seconds ",
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if _, body := get(other.Handler(), "/metrics"); strings.Contains(body, "berth_test_total") {
		t.Error("the metrics of one service are among those of another")
	}
}
