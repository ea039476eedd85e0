package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/license/wire"
	"berth/pkg/service"
	"berth/pkg/service/config"
	"berth/pkg/service/worker"
)

// world is what the licenser's keeper lives in: a log, a database, and somebody who does what creator, deleter and
// watcher do to the pods of projects, at once and without a cluster.
type world struct {
	server *eventstest.Server
	bus    *natsbus.Bus
	url    string
	db     *pgxpool.Pool

	mu     sync.Mutex
	begins []time.Time // Of all restarts.
	refuse events.Reason
	fails  bool // Pods fail instead of becoming ready.
	broken bool // The template cannot be used.
	claims map[string]int
	// created and accepted, where they are not nil, are called before a create is looked at, and before its pod is claimed.
	created, accepted func(context.Context) error
	// away, where it is not nil, is closed when the deleter is back.
	away chan struct{}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{server: eventstest.NewServer(t), url: shared.Migrated(t), claims: map[string]int{}}
	w.bus = eventstest.NewBus(t, w.server, "creator")
	eventstest.MarkComplete(t, w.bus)
	db, err := pgxpool.New(t.Context(), w.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	w.db = db
	end, err := w.bus.Answer(context.WithoutCancel(t.Context()), events.RenderSubject(eventstest.Cluster), 32, w.answer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	for stage, handler := range map[events.Stage]natsbus.Handler{
		events.StageCreate: w.create, events.StageLaunch: w.launch, events.StageRestart: w.restart, events.StageDelete: w.remove,
	} {
		eventstest.Go(t, func(ctx context.Context) error {
			return w.bus.Consume(ctx, natsbus.Stage{Stage: stage, Handler: handler, Concurrency: 4})
		})
	}
	return w
}

const worldTemplate = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":"project","image":"{PROJECT_IMAGE}:{PROJECT_TAG}"}]}}`

func (w *world) answer(_ context.Context, q natsbus.Question) (any, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		return nil, &natsbus.Fault{Reason: events.TemplateInvalid, Message: "it is no Pod"}
	}
	if q.Method == wire.MethodDryRun {
		return wire.Verdict{Accepted: true}, nil
	}
	return wire.Template{JSON: json.RawMessage(worldTemplate), Source: "test"}, nil
}

func (w *world) append(ctx context.Context, pod string, fact events.Fact) (natsbus.Entry, error) {
	fact.At = time.Now().UTC()
	entry, _, err := w.bus.Append(ctx, pod, fact)
	return entry, err
}

func (w *world) create(ctx context.Context, d natsbus.Delivery) error {
	w.mu.Lock()
	created, accepted := w.created, w.accepted
	w.mu.Unlock()
	if created != nil {
		if err := created(ctx); err != nil {
			return err
		}
	}
	project := d.Create.Project
	pod := events.ProjectPod(project.ID)
	outcome := events.Outcome{Verdict: events.Accepted, Command: d.ID, User: d.User, Pod: pod}
	w.mu.Lock()
	if w.refuse != "" {
		outcome = events.Outcome{Verdict: events.Refused, Command: d.ID, User: d.User, Reason: w.refuse, Message: "no"}
	}
	w.mu.Unlock()
	if entry, err := w.bus.Last(ctx, pod); err != nil {
		return err
	} else if entry.Event != "" && entry.User != d.User {
		outcome = events.Outcome{Verdict: events.Refused, Command: d.ID, User: d.User, Reason: events.Conflict, Message: "somebody else has the name"}
	}
	off, err := w.calledOff(ctx, project)
	if err != nil {
		return err
	}
	if off {
		outcome = events.Outcome{Verdict: events.Refused, Command: d.ID, User: d.User, Reason: events.Deleted, Message: "stopped before it was started"}
	}
	held, err := w.bus.Decide(ctx, outcome)
	if err != nil && !errors.Is(err, events.ErrDecided) || held.Verdict != events.Accepted {
		return err
	}
	if accepted != nil {
		if err := accepted(ctx); err != nil {
			return err
		}
	}
	// The name is taken once for a command.
	if done, err := w.bus.Claimed(ctx, pod, d.ID); done || err != nil {
		return err
	}
	entry, err := w.append(ctx, pod, events.Fact{Kind: events.FactClaim, Record: events.Record{
		Cluster: eventstest.Cluster, Pod: pod, User: d.User, Command: d.ID, LastStop: project.LastStop,
	}})
	if err != nil {
		return natsbus.Permanent(events.AlreadyRunning, err)
	}
	w.mu.Lock()
	w.claims[project.ID]++
	w.mu.Unlock()
	if off, err := w.calledOff(ctx, project); err != nil {
		return err
	} else if off {
		return w.bus.AskDelete(ctx, entry, events.DeleteRequest{Stop: true})
	}
	return w.bus.Publish(ctx, events.Command{
		Stage: events.StageLicense, ID: d.ID, Cluster: eventstest.Cluster, User: d.User, Pod: pod, Generation: entry.Generation,
		Rendered: json.RawMessage(worldTemplate), Project: project,
	}, "1")
}

// calledOff is what the creator asks before and after it claims.
func (w *world) calledOff(ctx context.Context, project *events.ProjectRequest) (bool, error) {
	last, err := w.bus.LastStop(ctx, project.ID)
	return project.LastStop != nil && last > *project.LastStop, err
}

// stop stops a project as the api does.
func (w *world) stop(t *testing.T, project string) {
	t.Helper()
	eventstest.Eventually(t, "a licenser answers", func() bool {
		return w.bus.Ask(t.Context(), events.LicenseSubject(eventstest.Cluster), wire.MethodStop, wire.ProjectRef{ID: project}, nil) == nil
	})
	if _, err := w.bus.NoteStop(t.Context(), project); err != nil {
		t.Fatal(err)
	}
	if entry := w.last(t, project); entry.Event != "" && entry.Event != events.Gone {
		if err := w.bus.AskDelete(t.Context(), entry, events.DeleteRequest{Stop: true}); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) launch(ctx context.Context, d natsbus.Delivery) error {
	facts := []events.Fact{
		eventstest.Launch(d.Generation), eventstest.Launched(d.Generation, d.Generation), eventstest.Observe(d.Generation, eventstest.Ready(d.Generation, "9")),
	}
	w.mu.Lock()
	if w.fails {
		facts = []events.Fact{eventstest.Launch(d.Generation), eventstest.Fail(d.Generation, events.ImagePull, "no such image")}
	}
	w.mu.Unlock()
	for _, fact := range facts {
		entry, err := w.append(ctx, d.Pod, fact)
		if err != nil {
			return ignoreOver(err)
		}
		if entry.Event == events.Failed {
			return w.bus.AskDelete(ctx, entry, events.DeleteRequest{})
		}
	}
	return nil
}

func (w *world) restart(ctx context.Context, d natsbus.Delivery) error {
	begun := time.Now()
	entry, err := w.append(ctx, d.Pod, events.Fact{Kind: events.FactDelete, Generation: d.Generation, Restart: d.Restart})
	if err != nil {
		return ignoreOver(err) // Of a pod that is over already.
	}
	w.mu.Lock()
	w.begins = append(w.begins, begun)
	w.mu.Unlock()
	return w.bus.AskDelete(ctx, entry, events.DeleteRequest{})
}

func (w *world) remove(ctx context.Context, d natsbus.Delivery) error {
	w.mu.Lock()
	away := w.away
	w.mu.Unlock()
	if away != nil {
		select {
		case <-away:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if _, err := w.append(ctx, d.Pod, events.Fact{
		Kind: events.FactDelete, Generation: d.Generation, Stop: d.Delete.Stop, StopAt: d.Delete.StopAt, Reason: d.Delete.Reason, Message: d.Delete.Message,
	}); err != nil {
		return ignoreOver(err)
	}
	entry, err := w.append(ctx, d.Pod, eventstest.Gone(d.Generation))
	if err != nil {
		return ignoreOver(err)
	}
	return w.bus.AskFollowUp(ctx, entry.Record)
}

func ignoreOver(err error) error {
	if errors.Is(err, events.ErrOver) || errors.Is(err, events.ErrGeneration) || errors.Is(err, events.ErrOrder) {
		return nil
	}
	return err
}

// licenser starts one, and stops it when the test ends.
func (w *world) licenser(t *testing.T, change ...func(*config.Projects)) *App {
	t.Helper()
	cfg := config.Default()
	cfg.Projects.RestartsPerSecond, cfg.Projects.CatchUpInterval = 1000, time.Second
	cfg.Projects.Image, cfg.Projects.Tag = "hub.example/project", "v1"
	for _, f := range change {
		f(&cfg.Projects)
	}
	a := New(worker.Options{InProcess: w.server, Process: service.Process{
		Identity: service.NewIdentity("licenser"), Config: cfg, Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel), Listen: "127.0.0.1:0", DatabaseURL: w.url,
	}})
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return a
}

func (w *world) exec(t *testing.T, statement string, values ...any) {
	t.Helper()
	if _, err := w.db.Exec(t.Context(), statement, values...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// one reads a text from the database; NULL is empty.
func (w *world) one(t *testing.T, query string, values ...any) string {
	t.Helper()
	text := ""
	if err := w.db.QueryRow(t.Context(), `SELECT coalesce((`+query+`)::text, '')`, values...).Scan(&text); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return text
}

// id is a UUID of a kind and a number.
func id(kind byte, n int) string { return fmt.Sprintf("%c0000000-0000-4000-8000-%012d", kind, n) }

func projectNo(n int) string { return id('a', n) }
func licenseNo(n int) string { return id('b', n) }

// license saves one that is valid now.
func (w *world) license(t *testing.T, license, quota string) {
	t.Helper()
	w.exec(t, `INSERT INTO public.site_licenses (id, title, activates, quota) VALUES ($1, 'L', now() - interval '1 day', $2)
		ON CONFLICT (id) DO UPDATE SET quota = $2`, license, quota)
}

// row makes the row of a project that has licenses.
func (w *world) row(t *testing.T, project string, licenses ...string) {
	t.Helper()
	attached := map[string]struct{}{}
	for _, license := range licenses {
		attached[license] = struct{}{}
	}
	w.exec(t, `INSERT INTO public.projects (project_id, site_license, settings) VALUES ($1, $2, '{}')`, project, attached)
}

// start asks for projects, and waits until all are ready.
func (w *world) start(t *testing.T, projects ...string) {
	t.Helper()
	for i, project := range projects {
		err := w.bus.AskStart(t.Context(), "start-"+project+strconv.Itoa(i), events.ProjectRequest{ID: project, Cause: events.CauseAsked})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, project := range projects {
		w.until(t, project, events.Ready)
	}
}

// last is the newest record of a project's pod.
func (w *world) last(t *testing.T, project string) natsbus.Entry {
	t.Helper()
	entry, err := w.bus.Last(t.Context(), events.ProjectPod(project))
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

// until waits for an event of a project's pod.
func (w *world) until(t *testing.T, project string, event events.Type) natsbus.Entry {
	t.Helper()
	var entry natsbus.Entry
	eventstest.Eventually(t, "project "+project+" is "+string(event), func() bool {
		entry = w.last(t, project)
		return entry.Event == event
	})
	return entry
}

// state is the state in the project's row.
func (w *world) state(t *testing.T, project string) string {
	t.Helper()
	return w.one(t, `SELECT state ->> 'state' FROM public.projects WHERE project_id = $1`, project)
}

// restarts counts those begun.
func (w *world) restarts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.begins)
}

// pods counts those that a project has had.
func (w *world) pods(project string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.claims[project]
}
