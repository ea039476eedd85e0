package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"berth/pkg/events"
)

// metrics are the deleter's own.
type metrics struct {
	leftovers *prometheus.CounterVec
	gone      *prometheus.CounterVec
	sweeps    prometheus.Histogram
}

func newMetrics(registry *prometheus.Registry) *metrics {
	m := &metrics{
		leftovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_deleter_leftovers_found_total", Help: "What sweeps have found that no pod needs any more, dry runs included, by kind.",
		}, []string{"kind"}),
		gone: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_deleter_leftovers_removed_total", Help: "What sweeps have removed, by kind.",
		}, []string{"kind"}),
		sweeps: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "berth_deleter_sweep_seconds", Help: "How long a sweep took.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 14),
		}),
	}
	registry.MustRegister(m.leftovers, m.gone, m.sweeps)
	return m
}

func (m *metrics) found(all []events.Leftover) {
	for _, l := range all {
		m.leftovers.WithLabelValues(l.Kind).Inc()
	}
}

func (m *metrics) removed(kind string)      { m.gone.WithLabelValues(kind).Inc() }
func (m *metrics) swept(took time.Duration) { m.sweeps.Observe(took.Seconds()) }
