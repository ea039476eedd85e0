package app

import (
	"github.com/prometheus/client_golang/prometheus"
)

// gauges are what a licenser tells as the keeper of projects. All are 0 while it is not the keeper.
type gauges struct {
	// rounds is when it has last looked at everything.
	rounds prometheus.Gauge
	// late are the things that it could not do and that it tries again, givenUp the projects that it does not start again.
	late, givenUp prometheus.Gauge
	// unreadable says by name which settings of the site cannot be read.
	unreadable *prometheus.GaugeVec
}

func newGauges() gauges {
	return gauges{
		rounds: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "berth_keeper_round_timestamp_seconds",
			Help: "When this licenser, as the keeper of projects, has last looked at everything without a fault, in Unix time; 0 while it is not the keeper.",
		}),
		late: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "berth_keeper_late",
			Help: "How many pods and requests of hubs wait because something about them could not be done, a project's row written for one; the log says what.",
		}),
		givenUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "berth_projects_given_up",
			Help: "How many projects that are to run always have failed too often in a row, and are not started again by themselves (GAVE_UP).",
		}),
		unreadable: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "berth_site_setting_unreadable",
			Help: "1 for a setting of the site whose text cannot be read, so that it counts as {}.",
		}, []string{"setting"}),
	}
}

func (g gauges) collectors() []prometheus.Collector {
	return []prometheus.Collector{g.rounds, g.late, g.givenUp, g.unreadable}
}

// reset says that the licenser is not the keeper any more.
func (g gauges) reset() {
	g.rounds.Set(0)
	g.late.Set(0)
	g.givenUp.Set(0)
	g.unreadable.Reset()
}
