package app

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"berth/pkg/database"
	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/license/wire"
	"berth/pkg/service/config"
	"berth/services/licenser/internal/licensing"
	"berth/services/licenser/internal/store"
)

// TestStartOfAProject: from the template to the pod that is launched, and what is kept of it.
func TestStartOfAProject(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	l := patching(course, `[{"op":"add","path":"/metadata/labels/mylabel","value":"test123"}]`)
	l.RunLimit = new(3)
	p.save(t, l, alpha)
	d := p.claimed(t, alpha, "cmd-1")
	for range 3 { // Delivered again, it comes to the same.
		if err := p.license(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		d.Attempt++
	}
	launch := p.launches(t)[d.Pod]
	if got := look(t, launch.Rendered, "metadata", "labels", "mylabel"); got != "test123" {
		t.Errorf("the label is %v", got)
	}
	if got := look(t, launch.Rendered, "metadata", "labels", "podName"); got != d.Pod {
		t.Errorf("the pod is known as %v", got)
	}
	if got := look(t, launch.Rendered, "metadata", "annotations", "berth.dev/command"); got != "cmd-1" {
		t.Errorf("the pod's command is %v", got)
	}
	wantEnv := base64.StdEncoding.EncodeToString([]byte(`{"PASSWORD":"` + secret + `"}`))
	if got := look(t, launch.Rendered, "spec", "containers", 0, "env", 0, "value"); got != wantEnv {
		t.Errorf("the variables are %v, want %v", got, wantEnv)
	}
	if launch.Project != nil || launch.Labels != nil {
		t.Error("the launch carries what it does not need")
	}
	entry, err := p.bus.Last(t.Context(), d.Pod)
	if err != nil {
		t.Fatal(err)
	}
	want := []events.License{{ID: course, Title: l.Title, Status: "active", Patched: true}}
	if diff := cmp.Diff(want, entry.Licenses); diff != "" {
		t.Errorf("licenses in the log (-want +got):\n%s", diff)
	}
	if entry.Container != "project" || entry.Image != "hub.example/project:v1" {
		t.Errorf("the record names %q of %q", entry.Image, entry.Container)
	}
	if entry.Licensing == nil || entry.Licensing.PodDigest == "" || !strings.Contains(string(entry.Licensing.Explanation), course) {
		t.Errorf("the record explains %+v", entry.Licensing)
	}
	record, err := json.Marshal(entry.Record)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(record, []byte(wantEnv)) || bytes.Contains(record, []byte(secret)) {
		t.Error("the log has a variable")
	}
	if got := p.value(t, `SELECT run_quota->'patch'->0->>'value' FROM public.projects WHERE project_id = $1`, alpha); got != "test123" {
		t.Errorf("run_quota has the patch %q", got)
	}
	if got := p.value(t, `SELECT site_license->$2->>'status' FROM public.projects WHERE project_id = $1`, alpha, course); got != "active" {
		t.Errorf("the status is %q", got)
	}
	if got := p.value(t, `SELECT string_agg(pod || ' ' || generation, ',') FROM berth.seats`); got != d.Pod+" "+d.Generation {
		t.Errorf("seats: %s", got)
	}

	c, err := p.compute(t.Context(), computeRequest{
		Mode: store.Recompute, Pod: d.Pod, Generation: d.Generation, User: d.User, Project: &events.ProjectRequest{ID: alpha}, Base: d.Rendered,
	})
	if err != nil || c.Changed {
		t.Errorf("computed again it has changed: %v (%v)", c.Changed, err)
	}
}

// TestRecompute keeps nothing where the quota changes: the start that follows does.
func TestRecompute(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	newCreator(t, p)
	p.save(t, valid(course, `{"cpu":0.1,"ram":7.26}`), alpha)
	d := p.claimed(t, alpha, "cmd-1")
	if err := p.license(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	again := computeRequest{Mode: store.Recompute, Pod: d.Pod, Generation: d.Generation, User: d.User, Project: &events.ProjectRequest{ID: alpha}}
	if c, err := p.compute(t.Context(), again); err != nil || c.Changed {
		t.Fatalf("nothing was changed, and Changed = %v (%v)", c.Changed, err)
	}
	for range 2 {
		p.save(t, valid(course, `{"cpu":2}`))
		if c, err := p.compute(t.Context(), again); err != nil || !c.Changed {
			t.Fatalf("the license was edited, and Changed = %v (%v)", c.Changed, err)
		}
	}
	// Another one that gives the same takes its place, and its seat.
	p.save(t, valid(course, `{"cpu":0.1,"ram":7.26}`))
	p.save(t, valid(storage, `{"cpu":0.1,"ram":7.26}`), alpha)
	over := valid(course, `{"cpu":0.1,"ram":7.26}`)
	over.Expires = new(eventstest.Time().Add(time.Hour))
	p.save(t, over)
	if c, err := p.compute(t.Context(), again); err != nil || c.Changed {
		t.Fatalf("another license gives the same, and Changed = %v (%v)", c.Changed, err)
	}
	if got := p.value(t, `SELECT string_agg(license_id::text, ',') FROM berth.seats`); got != storage {
		t.Errorf("seats: %s, want %s", got, storage)
	}

	early := valid(storage, `{"cpu":0.1,"ram":7.26}`)
	early.Expires = new(time.Now().Add(time.Hour).UTC().Truncate(time.Second))
	p.save(t, early)
	again.NotBefore = *early.Expires
	if c, err := p.compute(t.Context(), again); err != nil || !c.Changed {
		t.Errorf("when it expires, Changed = %v (%v)", c.Changed, err)
	}
}

func TestLicenseFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		license wire.License
		change  func(*natsbus.Delivery)
		want    events.Reason
		says    []string
	}{
		"a bad patch": {
			license: patching(course, `[{"op":"remove","path":"/metadata/labels"},{"op":"add","path":"/metadata/labels/a","value":"hunter2"}]`),
			want:    events.PatchInvalid, says: []string{"Title 1111", course, "operation 0", "/metadata/labels"},
		},
		"a patch that is no JSON": {license: patching(course, `[`), want: events.PatchInvalid, says: []string{course, "patch"}},
		"a bad amount":            {license: valid(course, `{"ram":"much"}`), want: events.LicenseInvalid, says: []string{course, "quota.ram"}},
		"a bad template": {
			license: valid(course, `{"cpu":2}`), change: func(d *natsbus.Delivery) { d.Rendered = json.RawMessage(`["Pod"]`) },
			want: events.TemplateInvalid, says: []string{"Pod"},
		},
		"another pod's name": {
			license: valid(course, `{"cpu":2}`), change: func(d *natsbus.Delivery) { d.User = events.ProjectUser(beta) },
			want: events.RequestInvalid, says: []string{"name"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.save(t, tt.license, alpha)
			d := p.claimed(t, alpha, "cmd-1")
			if tt.change != nil {
				tt.change(&d)
			}
			err := p.license(t.Context(), d)
			fault := (*licensing.Fault)(nil)
			if !errors.As(err, &fault) || fault.Reason != tt.want {
				t.Fatalf("license = %v, want %s", err, tt.want)
			}
			for _, part := range tt.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q has a value", err)
			}
			if n := p.value(t, `SELECT count(*)::text FROM berth.seats`); n != "0" {
				t.Errorf("%s seats are taken", n)
			}
		})
	}
}

// TestAnUnknownProject: a hub's database says what projects there are; Berth's own takes any.
func TestAnUnknownProject(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.exec(t, `UPDATE berth.settings SET value = 'false' WHERE name = 'owns_tables'`)
	err := p.license(t.Context(), p.claimed(t, alpha, "cmd-1"))
	fault := (*licensing.Fault)(nil)
	if !errors.As(err, &fault) || fault.Reason != events.ProjectUnknown {
		t.Errorf("license = %v, want %s", err, events.ProjectUnknown)
	}
}

// TestWithoutADatabase: no project can be started, and the log says so.
func TestWithoutADatabase(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.store = nil
	err := p.license(t.Context(), p.claimed(t, alpha, "cmd-1"))
	fault := (*licensing.Fault)(nil)
	if !errors.As(err, &fault) || fault.Reason != events.ProjectUnknown {
		t.Errorf("license = %v, want %s", err, events.ProjectUnknown)
	}
}

// TestRunLimit: the second of two projects runs without the license, until the first is gone.
func TestRunLimit(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	l := valid(course, `{"cpu":2}`)
	l.RunLimit = new(1)
	p.save(t, l, alpha, beta)
	a, b := p.claimed(t, alpha, "cmd-a"), p.claimed(t, beta, "cmd-b")
	for _, d := range []natsbus.Delivery{a, b} {
		if err := p.license(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	limit := func(d natsbus.Delivery) any {
		return look(t, p.launches(t)[d.Pod].Rendered, "spec", "containers", 0, "resources", "limits", "cpu")
	}
	if limit(a) != "2000m" || limit(b) != "1000m" {
		t.Errorf("cpu limits: %v and %v, want 2000m and 1000m", limit(a), limit(b))
	}
	entry, err := p.bus.Last(t.Context(), b.Pod)
	if err != nil {
		t.Fatal(err)
	}
	if want := []events.License{{ID: course, Title: l.Title, Status: "exhausted", Reason: "exhausted"}}; cmp.Diff(want, entry.Licenses) != "" {
		t.Errorf("the second has %+v", entry.Licenses)
	}
}

// TestLateCommand: a command of a pod that is gone takes no seat, gives back what it had, and
// leaves the next pod of the name alone.
func TestLateCommand(t *testing.T) {
	t.Parallel()
	over := []events.Fact{{Kind: events.FactDelete}, {Kind: events.FactGone}}
	tests := map[string]struct {
		before   bool // It was carried out before.
		facts    []events.Fact
		next     bool // There is another pod of the name by now, which has been licensed.
		seats    string
		launches int
	}{
		"gone":                         {facts: over},
		"gone, with a seat":            {before: true, facts: over, launches: 1},
		"gone, and another one":        {before: true, facts: over, next: true, seats: "cmd-2", launches: 1},
		"being deleted":                {before: true, facts: over[:1], seats: "cmd-1", launches: 1},
		"gone, and another one is due": {before: true, facts: []events.Fact{{Kind: events.FactDelete, Restart: &events.Restart{Command: "cmd-2"}}, over[1]}, seats: "kept", launches: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.save(t, valid(course, `{"cpu":2}`), alpha)
			d := p.claimed(t, alpha, "cmd-1")
			if tt.before {
				if err := p.license(t.Context(), d); err != nil {
					t.Fatal(err)
				}
			}
			p.bring(t, d, tt.facts...)
			generations := map[string]string{"cmd-1": d.Generation}
			if tt.next {
				next := p.claimed(t, alpha, "cmd-2")
				generations["cmd-2"] = next.Generation
				if err := p.license(t.Context(), next); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.license(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			got := p.value(t, `SELECT string_agg(CASE WHEN kept_until > now() THEN 'kept' ELSE generation END, ',') FROM berth.seats`)
			if want := generations[tt.seats]; got != want && got != tt.seats {
				t.Errorf("seats: %q, want %s (%q)", got, tt.seats, want)
			}
			if n := len(p.launches(t)); n != tt.launches {
				t.Errorf("%d launches are asked for, want %d", n, tt.launches)
			}
		})
	}
}

// TestDeletedMeanwhile: a seat that was granted to a pod that went at the same moment is free again.
func TestDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.save(t, valid(course, `{"cpu":2}`), alpha)
	d := p.claimed(t, alpha, "cmd-1")
	entry, err := p.bus.Last(t.Context(), d.Pod)
	if err != nil {
		t.Fatal(err)
	}
	req, err := startOf(d)
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.compute(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	p.bring(t, d, events.Fact{Kind: events.FactDelete}, events.Fact{Kind: events.FactGone})
	if err := p.handOn(t.Context(), d, entry, c); err != nil {
		t.Fatal(err)
	}
	if n := p.value(t, `SELECT count(*)::text FROM berth.seats`); n != "0" {
		t.Errorf("%s seats are taken", n)
	}
	if n := p.value(t, `SELECT count(*)::text FROM berth.usage_log WHERE stop IS NULL`); n != "0" {
		t.Errorf("%s uses have no end", n)
	}
}

// TestEditedBetween: a license that is edited between two deliveries is in the pod and in the log.
func TestEditedBetween(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.save(t, valid(course, `{"cpu":2}`), alpha)
	d := p.claimed(t, alpha, "cmd-1")
	if err := p.license(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	p.exec(t, `UPDATE public.site_licenses SET expires = now() - interval '1 minute'`)
	if err := p.license(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	entry, err := p.bus.Last(t.Context(), d.Pod)
	if err != nil {
		t.Fatal(err)
	}
	if entry.Event != events.Licensed || entry.Licenses[0].Status != "expired" {
		t.Errorf("the log has %s %+v", entry.Event, entry.Licenses)
	}
	if got := look(t, p.launches(t)[d.Pod].Rendered, "spec", "containers", 0, "resources", "limits", "cpu"); got != "1000m" {
		t.Errorf("cpu limit = %v, want 1000m", got)
	}
}

// TestPersonsPod: a person's licenses are for the pods of manifests.
func TestPersonsPod(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	rendered := json.RawMessage(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"` + notebook + `"},"spec":{"containers":[{"name":"jupyter","image":"example.org/jupyter:1"}]}}`)
	start := func(name string) (natsbus.Delivery, natsbus.Entry) {
		entry := eventstest.Bring(t, p.bus, name, user, events.Claimed)
		d := natsbus.Delivery{Attempt: 1, Command: eventstest.LicenseCommand("cmd-"+name, user, name, entry.Generation)}
		d.Rendered = rendered
		if err := p.license(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		entry, err := p.bus.Last(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return d, entry
	}
	d, entry := start("without")
	if got := p.launches(t)[d.Pod]; string(got.Rendered) != string(rendered) || len(entry.Licenses) != 0 || entry.Licensing != nil {
		t.Errorf("without a license the pod is %s, its record %+v", got.Rendered, entry.Record)
	}

	l := valid(course, `{"cpu":2,"ram":3,"patch":"[{\"op\":\"replace\",\"path\":\"/spec/containers/0/image\",\"value\":\"example.org/jupyter:2\"}]"}`)
	p.save(t, l)
	if err := p.store.Attach(t.Context(), wire.Attachment{License: course, User: user}); err != nil {
		t.Fatal(err)
	}
	d, entry = start("with")
	if got := look(t, p.launches(t)[d.Pod].Rendered, "spec", "containers", 0, "resources", "limits", "cpu"); got != "2000m" {
		t.Errorf("cpu limit = %v, want 2000m", got)
	}
	if entry.Image != "example.org/jupyter:2" || entry.Container != "jupyter" {
		t.Errorf("the record names %q of %q", entry.Image, entry.Container)
	}
	if got := p.value(t, `SELECT string_agg(user_id || ' ' || pod, ',') FROM berth.seats`); got != user+" with" {
		t.Errorf("seats: %s", got)
	}
}

// TestManyAtOnce: 50 projects start at the same moment on ten seats, at two licensers.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	const projects, limit = 50, 10
	p := newPlace(t)
	both := []*licenser{p.licenser, p.another(t)}
	l := valid(course, `{"cpu":2}`)
	l.RunLimit = new(limit)
	p.save(t, l)
	var starts []natsbus.Delivery
	for i := range projects {
		project := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
		p.save(t, l, project)
		starts = append(starts, p.claimed(t, project, fmt.Sprintf("cmd-%d", i)))
	}
	var wait sync.WaitGroup
	for i, d := range starts {
		wait.Go(func() {
			for range 2 { // Each is delivered twice, and again where others have the lock for too long.
				err := both[i%2].license(t.Context(), d)
				for again := d; errors.Is(err, store.ErrAway) && again.Attempt < strays; err = both[i%2].license(t.Context(), again) {
					again.Attempt++
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	counts := map[string]int{}
	for _, d := range starts {
		entry, err := p.bus.Last(t.Context(), d.Pod)
		if err != nil {
			t.Fatal(err)
		}
		if len(entry.Licenses) != 1 {
			t.Fatalf("licenses of %s: %v", d.Pod, entry.Licenses)
		}
		counts[entry.Licenses[0].Status]++
	}
	if d := cmp.Diff(map[string]int{"active": limit, "exhausted": projects - limit}, counts); d != "" {
		t.Errorf("statuses (-want +got):\n%s", d)
	}
	if n := p.value(t, `SELECT count(*)::text FROM berth.seats`); n != "10" {
		t.Errorf("%s seats are taken, want %d", n, limit)
	}
}

// TestServiceWaitsForItsDatabase: what it cannot do yet stays queued, and it says why.
func TestServiceWaitsForItsDatabase(t *testing.T) {
	t.Parallel()
	p := &place{server: eventstest.NewServer(t), url: shared.Empty(t)}
	p.licenser = newLicenser(eventstest.NewBus(t, p.server, "creator"), config.Default(), zerolog.Nop(), nil)
	opts := optionsOf(p.server)
	opts.DatabaseURL = p.url
	a := New(opts)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := p.claimed(t, alpha, "cmd-1")
	if err := p.bus.Publish(t.Context(), d.Command, "1"); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, "readiness says what is missing", func() bool {
		err := a.Health.Ready(t.Context())
		return err != nil && strings.Contains(err.Error(), "database") && strings.Contains(err.Error(), "berth migrate")
	})
	if n := len(eventstest.Queued(t, p.server, events.StageLicense)); n != 1 {
		t.Errorf("%d commands wait, want 1", n)
	}
	if _, err := database.Migrate(t.Context(), p.url, func(string) {}); err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, "the pod is launched", func() bool { return len(p.launches(t)) == 1 })
	if err := a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestServiceSaysWhatFails: a start that a bad patch fails ends in the log with its reason.
func TestServiceSaysWhatFails(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.save(t, patching(course, `[{"op":"test","path":"/kind","value":"Job"}]`), alpha)
	opts := optionsOf(p.server)
	opts.DatabaseURL = p.url
	a := New(opts)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := p.claimed(t, alpha, "cmd-1")
	if err := p.bus.Publish(t.Context(), d.Command, "1"); err != nil {
		t.Fatal(err)
	}
	var entry natsbus.Entry
	eventstest.Eventually(t, "the start has failed", func() bool {
		var err error
		entry, err = p.bus.Last(t.Context(), d.Pod)
		return err == nil && entry.Event == events.Failed
	})
	if entry.Reason != events.PatchInvalid || !strings.Contains(entry.Message, `license "Title 1111" (`+course+`): operation 0, path "/kind"`) {
		t.Errorf("it failed with %s: %s", entry.Reason, entry.Message)
	}
	if err := a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestDbgProjectPatching: the log of the process shows what a patch does, and no variable.
func TestDbgProjectPatching(t *testing.T) {
	t.Parallel()
	p := newPlace(t, func(c *config.Config) { c.Projects.DbgProjectPatching = true })
	var out bytes.Buffer
	p.log = zerolog.New(&out)
	p.save(t, patching(course, `[{"op":"add","path":"/metadata/labels/mylabel","value":"test123"}]`), alpha)
	d := p.claimed(t, alpha, "cmd-1")
	if err := p.license(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	for _, begins := range []string{`"message":"project_pod_before={`, `"message":"patch=[`, `"message":"project_pod={`} {
		if n := strings.Count(out.String(), begins); n != 1 {
			t.Errorf("%d lines have %s", n, begins)
		}
	}
	if strings.Contains(out.String(), base64.StdEncoding.EncodeToString([]byte(`{"PASSWORD":"`+secret+`"}`))) {
		t.Error("a variable is in the log")
	}
}
