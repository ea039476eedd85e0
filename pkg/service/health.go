package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
	"golang.org/x/sync/singleflight"
)

const (
	// checkLimit is how long a readiness check may take.
	checkLimit = time.Second
	// metricsAge is how old the metrics may be that are answered.
	metricsAge = time.Second
	// probeLimit is how long a client may take to read an answer of [Health.Handler], from its request on.
	probeLimit = 5 * time.Second
)

// Health answers whether a service lives and is ready, and its metrics. All methods may be
// called concurrently.
type Health struct {
	registry *prometheus.Registry
	flights  singleflight.Group // One call of a check at a time, shared by those who ask.
	metrics  metrics

	mu     sync.Mutex
	checks []check
}

type check struct {
	name string
	f    func(context.Context) error
}

// NewHealth returns a Health without checks, whose registry has the metrics of the Go
// runtime, of the process, and berth_build_info.
func NewHealth(id Identity) *Health {
	registry := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "berth_build_info", Help: "Always 1; the labels say which program this is.",
		ConstLabels: prometheus.Labels{"service": id.Service, "instance_id": id.Instance, "version": id.Version},
	})
	info.Set(1)
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info,
	)
	return &Health{registry: registry}
}

// Registry is where the service registers its metrics. Every Health has its own, so that
// several services can share a process.
func (h *Health) Registry() *prometheus.Registry { return h.registry }

// Check adds a readiness check with a name of its own. f gets a second; it may be called at any time, but never
// twice at once. Its error is shown to whoever can reach /readyz: it must hold no secret.
func (h *Health) Check(name string, f func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, check{name: name, f: f})
}

// Ready runs all checks at once and returns the errors of those that fail, each with its
// name, or nil. It takes little more than a second at most.
func (h *Health) Ready(ctx context.Context) error {
	var errs []error
	for _, r := range h.run(ctx) {
		if r.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.name, r.err))
		}
	}
	return errors.Join(errs...)
}

type result struct {
	name string
	err  error
}

func (h *Health) run(ctx context.Context) []result {
	h.mu.Lock()
	checks := slices.Clone(h.checks)
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	flights := make([]<-chan singleflight.Result, len(checks))
	for i, c := range checks {
		flights[i] = h.flights.DoChan(c.name, func() (any, error) {
			own, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkLimit)
			defer cancel()
			return nil, c.f(own)
		})
	}
	results := make([]result, len(checks))
	for i, c := range checks {
		results[i].name = c.name
		select {
		case r := <-flights[i]:
			results[i].err = r.Err
		case <-ctx.Done():
			results[i].err = fmt.Errorf("check gave no answer: %w", ctx.Err())
		}
	}
	return results
}

// Handler answers
//
//   - GET /livez: 200 as long as the process can answer at all;
//   - GET /readyz: 200 and "ok" when all checks pass, else 503 and a line for each that does not,
//     with ?verbose a line for every check;
//   - GET /metrics: the registry in the text format of Prometheus, at most a second old.
//
// Anybody may ask, so an answer that is not read costs no memory of its own, and its connection after some seconds.
func (h *Health) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", h.readyz)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		text, err := h.metrics.read(h.registry)
		if err != nil {
			writeText(w, http.StatusInternalServerError, err.Error()+"\n")
			return
		}
		writeBytes(w, http.StatusOK, string(expfmt.NewFormat(expfmt.TypeTextPlain)), text)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Where there is no connection there is no limit either.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(probeLimit))
		mux.ServeHTTP(w, r)
	})
}

// metrics are a registry's, as all who ask within [metricsAge] are answered.
type metrics struct {
	mu       sync.Mutex
	text     []byte // Never changed: those who read slowly hold it still.
	err      error
	gathered time.Time
}

// read returns the metrics, gathered now or shortly before. They must not be changed.
func (m *metrics) read(from prometheus.Gatherer) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.gathered.IsZero() && time.Since(m.gathered) < metricsAge {
		return m.text, m.err
	}
	m.text, m.err = encode(from)
	m.gathered = time.Now()
	return m.text, m.err
}

func encode(from prometheus.Gatherer) ([]byte, error) {
	families, err := from.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	var text bytes.Buffer
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			return nil, fmt.Errorf("encode metrics: %w", err)
		}
	}
	return text.Bytes(), nil
}

func (h *Health) readyz(w http.ResponseWriter, r *http.Request) {
	_, verbose := r.URL.Query()["verbose"]
	status, text := http.StatusOK, strings.Builder{}
	for _, result := range h.run(r.Context()) {
		switch {
		case result.err != nil:
			status = http.StatusServiceUnavailable
			message := strings.Join(strings.Fields(result.err.Error()), " ")
			text.WriteString("[-] " + result.name + ": " + message + "\n")
		case verbose:
			text.WriteString("[+] " + result.name + "\n")
		}
	}
	if status == http.StatusOK {
		text.WriteString("ok\n")
	} else {
		text.WriteString("not ready\n")
	}
	writeText(w, status, text.String())
}

func writeText(w http.ResponseWriter, status int, text string) {
	writeBytes(w, status, "text/plain; charset=utf-8", []byte(text))
}

func writeBytes(w http.ResponseWriter, status int, mediaType string, text []byte) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text) // The client has gone; there is nobody to tell.
}
