// Package app is the creator as a service: it renders pods from manifests,
// claims their names, makes them in Kubernetes with all that belongs to them, and
// copies their tokens. It keeps the template of the projects' pods, has projects started
// again, and says to others what a pod would be like.
package app

import (
	"context"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube/client"
	"berth/pkg/service"
	"berth/pkg/service/config"
	"berth/pkg/service/worker"
	"berth/services/creator/internal/cluster"
	"berth/services/creator/internal/manifest"
	"berth/services/creator/internal/template"
)

// App is the creator. Its Worker has Start, Stop and Run.
type App struct{ *worker.Worker }

// New returns a creator that is not started.
func New(opts worker.Options) *App {
	a := &App{}
	a.Worker = worker.New(opts, a.start)
	return a
}

// Run is the creator as a program's main function.
func Run(ctx context.Context, p service.Process) error {
	return New(worker.Options{Process: p}).Run(ctx)
}

func (a *App) start(ctx context.Context, w *worker.Worker) error {
	client.RedirectLogs(w.Log.With().Str("library", "client-go").Logger())
	clients, connection, err := client.New(client.Options{Kubeconfig: w.Kubeconfig, Service: w.Service, Version: w.Version})
	if err != nil {
		return err
	}
	fetcher, err := manifest.New(manifest.Options{
		Allow: w.Config.WhitelistManifestRegex.String(), UserAgent: "berth-creator/" + w.Version,
	})
	if err != nil {
		return err
	}
	w.OnStop("close manifest fetcher", func(context.Context) error { fetcher.Close(); return nil })
	w.OnReload(func(next config.Config) {
		if err := fetcher.Allow(next.WhitelistManifestRegex.String()); err != nil {
			w.Log.Error().Err(err).Msg("The allow-list stays as it was")
		}
	})
	projects := template.New(clients, w.Config.Namespace, w.Config.Projects.TemplateConfigMap, w.Config.Projects.TemplateKey, templateLog(w.Log))
	w.Health.Check("template", projects.Synced)
	w.Health.Registry().MustRegister(templateGauge(projects))
	w.Go("watch the template", projects.Run)
	objects := cluster.New(clients, w.Config.Namespace)
	c := &creator{
		bus: w.Bus, config: w.Config, manifests: fetcher, templates: projects, pods: objects, trials: objects,
		storages: objects, files: cluster.NewFiles(clients, connection, w.Config.Namespace), claims: &claims{draining: w.Draining()}, draining: w.Draining(),
		boundPatience: boundPatience, tokenPatience: tokenPatience,
	}
	forget, err := w.Bus.OnBound(c.claims.say)
	if err != nil {
		return err
	}
	w.OnStop("end news of claims", func(context.Context) error { forget(); return nil })
	answering, end := context.WithCancel(context.WithoutCancel(ctx))
	forgetQuestions, err := w.Bus.Answer(answering, events.RenderSubject(w.Config.Cluster), answersAtOnce, c.answer)
	if err != nil {
		end()
		return err
	}
	w.OnStop("end answers", func(context.Context) error { end(); forgetQuestions(); return nil })
	w.Go("rescue stranded commands", w.Bus.Rescue)
	w.Consume(
		natsbus.Stage{
			Stage: events.StageCreate, Handler: c.create, Fail: c.failCreate, Concurrency: createPlaces,
			AckWait: createAckWait, Time: createTime, Attempts: createAttempts,
		},
		natsbus.Stage{
			Stage: events.StageLaunch, Handler: c.launch, Fail: c.failLaunch, Concurrency: launchPlaces, Attempts: launchAttempts,
		},
		natsbus.Stage{
			Stage: events.StageFinish, Handler: c.finish, Fail: c.failFinish, Concurrency: finishPlaces, AckWait: finishTime,
		},
		natsbus.Stage{Stage: events.StageRestart, Handler: c.restart, Fail: c.failRestart, Attempts: createAttempts},
	)
	return nil
}
