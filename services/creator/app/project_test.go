package app

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/service/config"
	"berth/services/creator/internal/template"
)

const (
	project      = "0190f3e0-0000-7000-8000-000000000001"
	projectPod   = "project-" + project
	projectUser  = "project:" + project
	templateText = `{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"main","image":"{PROJECT_IMAGE}"}]}}`
)

// fakeTemplates has a template, or an error.
type fakeTemplates struct {
	text string
	err  error
}

func (f *fakeTemplates) Text() (json.RawMessage, error) {
	if f.err != nil {
		return nil, f.err
	}
	return json.RawMessage(f.text), nil
}

func (f *fakeTemplates) Source() string { return "ConfigMap project-pod" }

// starts is a create of the project as the api sends it.
func starts(id string, change ...func(*natsbus.Delivery)) natsbus.Delivery {
	return command(id, append([]func(*natsbus.Delivery){func(d *natsbus.Delivery) {
		d.User = projectUser
		d.Create.ManifestURL, d.Create.Settings, d.Create.Silo = "", nil, events.Silo{}
		d.Create.Project = &events.ProjectRequest{ID: project, Tag: "v1", Env: map[string]string{"SECRET": "xyzzy"}, Cause: events.CauseAsked}
	}}, change...)...)
}

func (b *bench) appendsTo(t *testing.T, pod string, facts ...events.Fact) natsbus.Entry {
	t.Helper()
	var entry natsbus.Entry
	for _, fact := range facts {
		var err error
		if entry, _, err = b.bus.Append(t.Context(), pod, fact); err != nil {
			t.Fatal(err)
		}
	}
	return entry
}

func TestCreateOfAProject(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.manifests.err = errors.New("no manifest is asked for")
	d := starts("c1")
	b.creates(t, d)
	if got, want := b.outcome(t, "c1"), [3]string{"accepted", projectPod, ""}; got != want {
		t.Errorf("outcome = %v, want %v", got, want)
	}
	entry := b.last(t, projectPod)
	want := events.Record{
		Event: events.Claimed, Cluster: eventstest.Cluster, Pod: projectPod, User: projectUser, Generation: entry.Generation, Command: "c1",
		ClaimedAt: entry.ClaimedAt,
	}
	if d := cmp.Diff(want, entry.Record, cmp.AllowUnexported(events.Record{}, events.Observed{})); d != "" {
		t.Errorf("record (-want +got):\n%s", d)
	}
	queued := b.queued(t)
	if len(queued) != 1 {
		t.Fatalf("queued: %+v", queued)
	}
	license := events.Command{
		Stage: events.StageLicense, ID: "c1", Cluster: eventstest.Cluster, User: projectUser, Pod: projectPod, Generation: entry.Generation,
		After: entry.Known(), Rendered: json.RawMessage(templateText), Project: d.Create.Project,
		Labels:      map[string]string{"user": "project-" + project, "domain": "", "podName": projectPod, "run": "project", "project_id": project},
		Annotations: map[string]string{"berth.dev/user": projectUser, "berth.dev/command": "c1"},
	}
	if d := cmp.Diff(license, queued[0], cmp.AllowUnexported(events.Record{}, events.Observed{})); d != "" {
		t.Errorf("queued (-want +got):\n%s", d)
	}
	armed := eventstest.Armed(t, b.server)
	if len(armed) != 1 || armed[0].Timer != events.TimerCreate {
		t.Errorf("armed = %+v, want the create timer", armed)
	}
	d.Attempt++
	b.creates(t, d)
	if again := b.queued(t); len(again) != 1 {
		t.Errorf("queued after another attempt: %+v", again)
	}
}

func TestCreateOfAProjectRefused(t *testing.T) {
	t.Parallel()
	other := eventstest.Claim(projectPod, projectUser, "c0")
	tests := map[string]struct {
		before func(t *testing.T, b *bench)
		reason events.Reason
		says   string
	}{
		"no template": {func(_ *testing.T, b *bench) {
			b.templates.err = &template.Error{Message: "the template is missing"}
		}, events.TemplateInvalid, "the template is missing"},
		"it has a pod": {func(t *testing.T, b *bench) { t.Helper(); b.appendsTo(t, projectPod, other) }, events.AlreadyRunning, "has a pod already"},
		"its pod is being deleted": {func(t *testing.T, b *bench) {
			t.Helper()
			b.appendsTo(t, projectPod, eventstest.Delete(b.appendsTo(t, projectPod, other).Generation))
		}, events.Conflict, "being stopped"},
		"its pod has failed": {func(t *testing.T, b *bench) {
			t.Helper()
			b.appendsTo(t, projectPod, eventstest.Fail(b.appendsTo(t, projectPod, other).Generation, events.Timeout, ""))
		}, events.Conflict, "being stopped"},
		"the name is a person's": {func(t *testing.T, b *bench) {
			t.Helper()
			b.appendsTo(t, projectPod, eventstest.Claim(projectPod, project, "c0"))
		}, events.Conflict, "not the project's"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			tt.before(t, b)
			d := starts("c1")
			for range 2 {
				b.creates(t, d)
				d.Attempt++
			}
			o, err := b.bus.Outcome(t.Context(), "c1")
			if err != nil || o.Verdict != events.Refused || o.Reason != tt.reason || !strings.Contains(o.Message, tt.says) {
				t.Errorf("outcome = %+v, %v; want %s that says %q", o, err, tt.reason, tt.says)
			}
			if queued := b.queued(t); len(queued) > 0 {
				t.Errorf("queued: %+v", queued)
			}
			if entry := b.last(t, projectPod); entry.Command == "c1" {
				t.Errorf("the pod is %s", entry.Event)
			}
		})
	}
}

// knowing is a start whose asker knew of a stop.
func knowing(stop uint64) func(*natsbus.Delivery) {
	return func(d *natsbus.Delivery) { d.Create.Project.LastStop = &stop }
}

// stops notes a stop of the project and returns its place.
func (b *bench) stops(t *testing.T) uint64 {
	t.Helper()
	if _, err := b.bus.NoteStop(t.Context(), project); err != nil {
		t.Fatal(err)
	}
	place, err := b.bus.LastStop(t.Context(), project)
	if err != nil {
		t.Fatal(err)
	}
	return place
}

// TestCreateAfterAStop: a start is called off by a stop that whoever asked for it did not know of, and by no other.
func TestCreateAfterAStop(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		stops, known int
		silent       bool // It does not say what it knew.
		accepted     bool // An earlier attempt got so far.
		outcome      [3]string
		queued       []events.Stage
	}{
		"no stop":                         {outcome: [3]string{"accepted", projectPod, ""}, queued: []events.Stage{events.StageLicense}},
		"an older stop":                   {stops: 1, known: 1, outcome: [3]string{"accepted", projectPod, ""}, queued: []events.Stage{events.StageLicense}},
		"a stop":                          {stops: 1, outcome: [3]string{"refused", "", "DELETED"}},
		"another stop":                    {stops: 2, known: 1, outcome: [3]string{"refused", "", "DELETED"}},
		"one that does not say":           {stops: 1, silent: true, outcome: [3]string{"accepted", projectPod, ""}, queued: []events.Stage{events.StageLicense}},
		"a stop after it was accepted":    {stops: 1, accepted: true, outcome: [3]string{"accepted", projectPod, ""}, queued: []events.Stage{events.StageDelete}},
		"an older stop than its acceptor": {stops: 1, known: 1, accepted: true, outcome: [3]string{"accepted", projectPod, ""}, queued: []events.Stage{events.StageLicense}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if tt.accepted {
				o := events.Outcome{Verdict: events.Accepted, Command: "c1", User: projectUser, Pod: projectPod}
				if _, err := b.bus.Decide(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			}
			places := []uint64{0}
			for range tt.stops {
				places = append(places, b.stops(t))
			}
			d := starts("c1", knowing(places[tt.known]))
			if tt.silent {
				d.Create.Project.LastStop = nil
			}
			if tt.accepted {
				d.Attempt = 2
			}
			for range 2 {
				b.creates(t, d)
				d.Attempt++
			}
			if got := b.outcome(t, "c1"); got != tt.outcome {
				t.Errorf("outcome = %v, want %v", got, tt.outcome)
			}
			var queued []events.Stage
			for _, stage := range []events.Stage{events.StageLicense, events.StageDelete} {
				for _, c := range eventstest.Queued(t, b.server, stage) {
					if queued = append(queued, c.Stage); c.Delete != nil && !c.Delete.Stop {
						t.Errorf("the delete lets another pod follow: %+v", c.Delete)
					}
				}
			}
			if d := cmp.Diff(tt.queued, queued); d != "" {
				t.Errorf("queued (-want +got):\n%s", d)
			}
			// Until it is deleted, nobody takes a claim that is to be taken back for what a start after the stop asks for.
			takenBack := slices.Contains(tt.queued, events.StageDelete)
			if entry := b.last(t, projectPod); entry.Doomed(places[tt.stops]) != takenBack {
				t.Errorf("the %s pod is doomed: %t, want %t", entry.Event, !takenBack, takenBack)
			}
		})
	}
}

// TestCreateOfAProjectRedelivered lets an attempt die at each of its steps.
func TestCreateOfAProjectRedelivered(t *testing.T) {
	t.Parallel()
	accept := func(t *testing.T, b *bench) {
		t.Helper()
		o := events.Outcome{Verdict: events.Accepted, Command: "c1", User: projectUser, Pod: projectPod}
		if _, err := b.bus.Decide(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	claim := eventstest.Claim(projectPod, projectUser, "c1")
	tests := map[string]struct {
		before  func(t *testing.T, b *bench)
		outcome [3]string
		owner   string
		queued  int
	}{
		"accepted, not claimed":  {accept, [3]string{"accepted", projectPod, ""}, "c1", 1},
		"claimed, not handed on": {func(t *testing.T, b *bench) { t.Helper(); accept(t, b); b.appendsTo(t, projectPod, claim) }, [3]string{"accepted", projectPod, ""}, "c1", 1},
		"another took it meanwhile": {func(t *testing.T, b *bench) {
			t.Helper()
			accept(t, b)
			b.appendsTo(t, projectPod, eventstest.Claim(projectPod, projectUser, "c2"))
		}, [3]string{"refused", "", "ALREADY_RUNNING"}, "c2", 0},
		"refused by a stop, say": {func(t *testing.T, b *bench) { t.Helper(); b.refusesNext(t, "c1") }, [3]string{"refused", "", "DELETED"}, "", 0},
		"come and gone":          {func(t *testing.T, b *bench) { t.Helper(); accept(t, b); b.endOf(t, b.appendsTo(t, projectPod, claim)) }, [3]string{"accepted", projectPod, ""}, "c1", 0},
		"the template went meanwhile": {func(t *testing.T, b *bench) {
			t.Helper()
			accept(t, b)
			b.templates.err = &template.Error{Message: "gone"}
		}, [3]string{"refused", "", "TEMPLATE_INVALID"}, "", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			tt.before(t, b)
			d := starts("c1")
			for range 3 {
				d.Attempt++
				b.creates(t, d)
			}
			if got := b.outcome(t, "c1"); got != tt.outcome {
				t.Errorf("outcome = %v, want %v", got, tt.outcome)
			}
			if got := b.last(t, projectPod).Command; got != tt.owner {
				t.Errorf("the name is %q's, want %q's", got, tt.owner)
			}
			if queued := b.queued(t); len(queued) != tt.queued {
				t.Errorf("%d commands are queued, want %d: %+v", len(queued), tt.queued, queued)
			}
		})
	}
}

func (b *bench) refusesNext(t *testing.T, id string) {
	t.Helper()
	if _, err := b.bus.Decide(t.Context(), events.Outcome{Verdict: events.Refused, Command: id, User: projectUser, Reason: events.Deleted}); err != nil {
		t.Fatal(err)
	}
}

// endOf brings a pod to its end.
func (b *bench) endOf(t *testing.T, e natsbus.Entry) {
	t.Helper()
	b.appendsTo(t, e.Pod, eventstest.Delete(e.Generation), eventstest.Gone(e.Generation))
}

// TestCreateOfAProjectsName: a person whose id looks like a project's gets another name than
// that project's pod, also while there is none.
func TestCreateOfAProjectsName(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.manifests.text = strings.ReplaceAll(text, "name: notebook", "name: project")
	b.creates(t, command("c1", func(d *natsbus.Delivery) { d.User = project }))
	if got, want := b.outcome(t, "c1"), [3]string{"accepted", projectPod + "-1", ""}; got != want {
		t.Errorf("outcome = %v, want %v", got, want)
	}
	b.creates(t, starts("c2"))
	if got, want := b.outcome(t, "c2"), [3]string{"accepted", projectPod, ""}; got != want {
		t.Errorf("outcome of the project = %v, want %v", got, want)
	}
}

// TestCreateWithoutAWord: a template that is not known yet decides nothing.
func TestCreateWithoutAWord(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.templates.err = template.ErrUnknown
	if err := b.create(t.Context(), starts("c1")); !errors.Is(err, template.ErrUnknown) {
		t.Errorf("create = %v", err)
	}
	if got := b.outcome(t, "c1"); got[0] != "" {
		t.Errorf("outcome = %v", got)
	}
}

// TestCreateTooLarge: what does not fit into a command fails, with the reason.
func TestCreateTooLarge(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	d := starts("c1", func(d *natsbus.Delivery) { d.Create.Project.Env["X"] = strings.Repeat("x", events.MaxCommand) })
	err := b.create(t.Context(), d)
	if !errors.Is(err, events.ErrTooLarge) {
		t.Fatalf("create = %v", err)
	}
	if err := b.failCreate(t.Context(), d, events.RequestInvalid, err.Error()); err != nil {
		t.Fatal(err)
	}
	if e := b.last(t, projectPod); e.Event != events.Failed || e.Reason != events.RequestInvalid {
		t.Errorf("the pod is %s: %s", e.Event, e.Reason)
	}
}

// TestCreateAfterADeath: a creator that is killed between the outcome of a create and its
// claim leaves enough time to another one, so that whoever waits for it gets the name.
func TestCreateAfterADeath(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	dying := eventstest.NewBus(t, b.server, "creator")
	accepted, ended := make(chan time.Time, 1), make(chan struct{})
	stage := natsbus.Stage{
		Stage: events.StageCreate, AckWait: createAckWait, Time: createTime, Attempts: createAttempts,
		Handler: func(ctx context.Context, d natsbus.Delivery) error {
			o := events.Outcome{Verdict: events.Accepted, Command: d.ID, User: d.User, Pod: name}
			if _, err := dying.Decide(ctx, o); err != nil {
				t.Error(err)
			}
			accepted <- time.Now()
			<-ended
			return nil
		},
	}
	eventstest.Go(t, func(ctx context.Context) error { return dying.Consume(ctx, stage) })
	t.Cleanup(func() { close(ended) })
	if err := b.bus.Publish(t.Context(), command("c1").Command, "1"); err != nil {
		t.Fatal(err)
	}
	begun := eventstest.Receive(t, "the outcome", accepted)
	dying.Close()
	stage.Handler, stage.Fail = b.create, b.failCreate
	eventstest.Go(t, func(ctx context.Context) error { return b.bus.Consume(ctx, stage) })
	eventstest.Eventually(t, "the name is claimed", func() bool { return b.last(t, name).Event == events.Claimed })
	if took, wait := time.Since(begun), config.Default().CreateDeadline; took > wait*3/4 {
		t.Errorf("claimed after %s; clients wait for %s", took, wait)
	}
}
