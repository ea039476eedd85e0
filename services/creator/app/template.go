package app

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"berth/services/creator/internal/template"
)

// templateGauge is whether projects can be started as far as their template goes.
func templateGauge(t templates) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "berth_project_template_valid",
		Help: "1 while the template of the projects' pods can be used; 0 while it is missing, cannot be used, or is not known yet: no project can be started.",
	}, func() float64 {
		if _, err := t.Text(); err != nil {
			return 0
		}
		return 1
	})
}

// templateLog returns what tells the log whether the template can be used, whenever that changes. It is for one goroutine. A site that
// has never had one may have no projects, which is no reason to warn.
func templateLog(log zerolog.Logger) func(error) {
	heard, broken := false, false
	return func(err error) {
		fault := (*template.Error)(nil)
		switch {
		case err == nil && broken:
			log.Info().Msg("The template of the projects' pods can be used")
		case err == nil:
		case !heard && errors.As(err, &fault) && fault.Missing:
			log.Info().Str("cause", err.Error()).Msg("There is no template of the projects' pods; a site without projects needs none")
		default:
			log.Warn().Err(err).Msg("No project can be started until the template of the projects' pods is mended")
		}
		heard, broken = true, err != nil
	}
}
