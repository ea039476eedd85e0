package app

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"berth/pkg/database/dbtest"
	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/license/wire"
	"berth/pkg/service/config"
	"berth/services/licenser/internal/store"
)

var shared dbtest.Shared

func TestMain(m *testing.M) { goleak.VerifyTestMain(shared.Wrap(m)) }

// The ids of the tests.
const (
	course  = "11111111-1111-4111-8111-111111111111"
	storage = "22222222-2222-4222-8222-222222222222"
	alpha   = "09c119f5-6f0d-4c2b-9a53-1f0a6a7c2d11"
	beta    = "1f0a6a7c-2d11-4c2b-9a53-09c119f56f0d"
	secret  = "hunter2"
)

// projectTemplate is the template of the site's projects.
const projectTemplate = `{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{}},"spec":{
	"containers":[{"name":"project","image":"{PROJECT_IMAGE}:{PROJECT_TAG}","env":[{"name":"EXTRA_ENV","value":"{extra_env}"}],
		"volumeMounts":[{"name":"home","mountPath":"/home/user"},{"name":"software","mountPath":"/ext","readOnly":true}]}],
	"serviceAccountName":"projects",
	"volumes":[{"name":"home","persistentVolumeClaim":{"claimName":"projects-data"}},{"name":"software","persistentVolumeClaim":{"claimName":"projects-software"}}]}}`

// place is a site with a broker, a database, and a licenser that is not running.
type place struct {
	*licenser

	server *eventstest.Server
	url    string
}

func newPlace(tb testing.TB, change ...func(*config.Config)) *place {
	tb.Helper()
	p := &place{server: eventstest.NewServer(tb), url: shared.Migrated(tb)}
	p.licenser = p.another(tb, change...)
	return p
}

// another is one more licenser of the site.
func (p *place) another(tb testing.TB, change ...func(*config.Config)) *licenser {
	tb.Helper()
	cfg := config.Default()
	cfg.Cluster, cfg.Projects.Image, cfg.Projects.Tag = eventstest.Cluster, "hub.example/project", "v1"
	for _, f := range change {
		f(&cfg)
	}
	db, err := store.Open(tb.Context(), p.url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(db.Close)
	return newLicenser(eventstest.NewBus(tb, p.server, "licenser"), cfg, zerolog.Nop(), db)
}

// exec changes the database behind the licenser's back.
func (p *place) exec(tb testing.TB, statement string, values ...any) {
	tb.Helper()
	p.connected(tb, func(conn *pgx.Conn) error {
		_, err := conn.Exec(tb.Context(), statement, values...)
		return err
	})
}

// value reads one text out of the database; none is empty.
func (p *place) value(tb testing.TB, query string, values ...any) string {
	tb.Helper()
	var text *string
	p.connected(tb, func(conn *pgx.Conn) error { return conn.QueryRow(tb.Context(), query, values...).Scan(&text) })
	if text == nil {
		return ""
	}
	return *text
}

func (p *place) connected(tb testing.TB, f func(*pgx.Conn) error) {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), p.url)
	if err != nil {
		tb.Fatal(err)
	}
	if err := f(conn); err != nil {
		tb.Fatal(err)
	}
	if err := conn.Close(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// valid is a license that is valid and gives this.
func valid(id, gives string) wire.License {
	return wire.License{ID: id, Title: "Title " + id[:4], Activates: new(eventstest.Time()), Quota: json.RawMessage(gives)}
}

// patching is a license that gives these operations.
func patching(id, operations string) wire.License {
	text, err := json.Marshal(operations)
	if err != nil {
		panic(err)
	}
	return valid(id, `{"patch":`+string(text)+`}`)
}

// save saves a license as a hub does, without any check, and attaches it.
func (p *place) save(tb testing.TB, license wire.License, projects ...string) {
	tb.Helper()
	if _, err := p.store.PutLicense(tb.Context(), license, ""); err != nil {
		tb.Fatal(err)
	}
	for _, project := range projects {
		if err := p.store.Attach(tb.Context(), wire.Attachment{License: license.ID, Project: project}); err != nil {
			tb.Fatal(err)
		}
	}
}

// claimed is a start of a project that waits for the licenser.
func (p *place) claimed(tb testing.TB, project, command string) natsbus.Delivery {
	tb.Helper()
	name, user := events.ProjectPod(project), events.ProjectUser(project)
	entry, _, err := p.bus.Append(tb.Context(), name, events.Fact{Kind: events.FactClaim, At: time.Now().UTC(), Record: events.Record{
		Cluster: eventstest.Cluster, Pod: name, User: user, Command: command,
	}})
	if err != nil {
		tb.Fatal(err)
	}
	return natsbus.Delivery{Attempt: 1, Command: events.Command{
		Stage: events.StageLicense, ID: command, Cluster: eventstest.Cluster, User: user, Pod: name, Generation: entry.Generation,
		Rendered: json.RawMessage(projectTemplate), Project: &events.ProjectRequest{ID: project, Env: map[string]string{"PASSWORD": secret}},
		Labels: labelsOf(project), Annotations: map[string]string{"berth.dev/user": user, "berth.dev/command": command},
	}}
}

func labelsOf(project string) map[string]string {
	return map[string]string{
		"user": "project-" + project, "domain": "", "podName": events.ProjectPod(project), "run": "project", "project_id": project,
	}
}

// bring takes the pod of a start through its life, to running or to its end.
func (p *place) bring(tb testing.TB, d natsbus.Delivery, facts ...events.Fact) natsbus.Entry {
	tb.Helper()
	var entry natsbus.Entry
	for _, fact := range facts {
		fact.Generation = d.Generation
		var err error
		if entry, _, err = p.bus.Append(tb.Context(), d.Pod, fact); err != nil {
			tb.Fatal(err)
		}
	}
	return entry
}

// end deletes a pod, and it is gone.
func (p *place) end(tb testing.TB, d natsbus.Delivery) {
	tb.Helper()
	p.bring(tb, d, events.Fact{Kind: events.FactDelete}, events.Fact{Kind: events.FactGone})
}

// launches are the pods that are asked for, by pod name.
func (p *place) launches(tb testing.TB) map[string]events.Command {
	tb.Helper()
	byPod := map[string]events.Command{}
	for _, c := range eventstest.Queued(tb, p.server, events.StageLaunch) {
		byPod[c.Pod] = c
	}
	return byPod
}

// creator answers what licensers ask.
type creator struct {
	mu       sync.Mutex
	template string // Empty for none.
	manifest string
	verdict  wire.Verdict
	// judge, where it is not nil, gives the verdict; nil of it is for an API server that is away.
	judge func(wire.DryRunRequest) *wire.Verdict
	tried []json.RawMessage // By the API server.
	// rendered is what was asked last about a manifest.
	rendered wire.RenderRequest
}

func newCreator(tb testing.TB, p *place) *creator {
	tb.Helper()
	c := &creator{template: projectTemplate, verdict: wire.Verdict{Accepted: true}}
	bus := eventstest.NewBus(tb, p.server, "creator")
	end, err := bus.Answer(context.WithoutCancel(tb.Context()), events.RenderSubject(eventstest.Cluster), 8,
		func(_ context.Context, q natsbus.Question) (any, error) { return c.answer(q) })
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(end)
	return c
}

func (c *creator) set(change func(*creator)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

func (c *creator) answer(q natsbus.Question) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch q.Method {
	case wire.MethodTemplate:
		if c.template == "" {
			return nil, &natsbus.Fault{Reason: events.TemplateInvalid, Message: "there is no ConfigMap project-pod"}
		}
		var ref wire.ProjectRef
		if err := json.Unmarshal(q.Params, &ref); err != nil {
			return nil, err
		}
		return wire.Template{
			JSON: json.RawMessage(c.template), Source: "project-pod", Labels: labelsOf(ref.ID),
			Annotations: map[string]string{"berth.dev/user": events.ProjectUser(ref.ID)},
		}, nil
	case wire.MethodRender:
		if err := json.Unmarshal(q.Params, &c.rendered); err != nil {
			return nil, err
		}
		return wire.Rendered{Pod: json.RawMessage(c.manifest)}, nil
	case wire.MethodDryRun:
		var r wire.DryRunRequest
		if err := json.Unmarshal(q.Params, &r); err != nil {
			return nil, err
		}
		if !r.ReadOnly {
			c.tried = append(c.tried, r.Pod)
		}
		switch {
		case c.judge == nil && r.ReadOnly:
			return wire.Verdict{Accepted: true}, nil
		case c.judge == nil:
			return c.verdict, nil
		}
		v := c.judge(r)
		if v == nil {
			return nil, &natsbus.Fault{Reason: events.Unavailable, Message: "the API server cannot be asked now"}
		}
		return *v, nil
	default:
		return nil, fmt.Errorf("no such method: %s", q.Method)
	}
}

// look reads a value of a JSON document.
func look(tb testing.TB, document json.RawMessage, path ...any) any {
	tb.Helper()
	var node any
	if err := json.Unmarshal(document, &node); err != nil {
		tb.Fatalf("no JSON: %v: %s", err, document)
	}
	for _, step := range path {
		switch s := step.(type) {
		case string:
			object, _ := node.(map[string]any)
			node = object[s]
		case int:
			list, _ := node.([]any)
			if s >= len(list) {
				return nil
			}
			node = list[s]
		}
	}
	return node
}
