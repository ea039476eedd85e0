// Package app is the licenser as a service: it decides for each pod which
// licenses apply and what they make of it, keeps seats and projects true to the log, and answers
// questions about licenses. A site without a database has no licenses, and every pod passes unchanged.
package app

import (
	"context"
	"math"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/service"
	"berth/pkg/service/config"
	"berth/pkg/service/worker"
	"berth/services/licenser/internal/store"
)

// App is the licenser. Its Worker has Start, Stop and Run.
type App struct{ *worker.Worker }

// New returns a licenser that is not started.
func New(opts worker.Options) *App {
	a := &App{}
	a.Worker = worker.New(opts, start)
	return a
}

// Run is the licenser as a program's main function.
func Run(ctx context.Context, p service.Process) error {
	return New(worker.Options{Process: p}).Run(ctx)
}

// licenser is what the stages, the answers and the keeper have in common.
type licenser struct {
	bus    *natsbus.Bus
	config config.Config
	log    zerolog.Logger
	// store is nil at a site without a database.
	store        *store.Store
	methods      map[string]method
	transactions *prometheus.HistogramVec
	gauges       gauges
}

// newLicenser returns a licenser whose metrics are not registered.
func newLicenser(bus *natsbus.Bus, cfg config.Config, log zerolog.Logger, db *store.Store) *licenser {
	return &licenser{
		bus: bus, config: cfg, log: log, store: db, methods: methods(),
		transactions: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "berth_license_transaction_seconds",
			Help:    "How long the database transaction of a license check took, decision included, by what it was for and how it ended.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"mode", "outcome"}),
		gauges: newGauges(),
	}
}

// patience is how often a command is tried that waits for a database: as good as for ever. A
// start has a create timer of its own.
const patience = math.MaxInt32

// questions is how many are answered at once.
const questions = 32

func start(ctx context.Context, w *worker.Worker) error {
	l := newLicenser(w.Bus, w.Config, w.Log, nil)
	w.Health.Registry().MustRegister(append(l.gauges.collectors(), l.transactions)...)
	if w.DatabaseURL != "" {
		db, err := store.Open(ctx, w.DatabaseURL)
		if err != nil {
			return err
		}
		l.store = db
		w.OnStop("close database", func(context.Context) error { db.Close(); return nil })
		w.Health.Check("database", db.Ready)
		w.Go("keep projects", l.keep)
	}
	w.Go("answer questions", func(ctx context.Context) error {
		end, err := w.Bus.Answer(ctx, events.LicenseSubject(w.Config.Cluster), questions, l.answer)
		if err != nil {
			return err
		}
		<-ctx.Done()
		end()
		return nil
	})
	w.Consume(natsbus.Stage{
		Stage: events.StageLicense, Handler: l.license, Fail: l.failed, Concurrency: 32, Attempts: patience,
	}, natsbus.Stage{
		Stage: events.StageProject, Handler: l.task, Attempts: patience,
	})
	return nil
}
