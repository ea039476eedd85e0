package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"berth/pkg/events/natsbus"
)

// metrics are the watcher's own.
type metrics struct {
	records    *prometheus.CounterVec
	comparison prometheus.Histogram
	lost       prometheus.Counter
}

func newMetrics(registry *prometheus.Registry, a *App) *metrics {
	m := &metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_watcher_records_total", Help: "Records that the watcher appended to the log, by event and reason.",
		}, []string{"event", "reason"}),
		comparison: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "berth_watcher_comparison_seconds", Help: "How long a comparison of the cluster with the log took.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		}),
	}
	m.lost = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "berth_watcher_claims_lost_total", Help: "Claims of users' storage that somebody deleted in Kubernetes under their pods.",
	})
	registry.MustRegister(m.records, m.comparison, m.lost,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "berth_watcher_volumes_hidden", Help: "1 while the API server does not let the watcher see persistentvolumes.",
		}, func() float64 {
			if a.watch.Blind() {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "berth_watcher_leading", Help: "1 while this replica leads.",
		}, func() float64 {
			if a.leading.Load() == nil {
				return 0
			}
			return 1
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "berth_watcher_watch_age_seconds", Help: "How long ago the quieter watch has last heard of the API server.",
		}, func() float64 { return a.watch.Age().Seconds() }),
	)
	return m
}

func (m *metrics) appended(e natsbus.Entry) {
	m.records.WithLabelValues(string(e.Event), string(e.Reason)).Inc()
}

func (m *metrics) claimLost() { m.lost.Inc() }

func (m *metrics) compared(took time.Duration) { m.comparison.Observe(took.Seconds()) }
