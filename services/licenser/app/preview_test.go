package app

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/license"
	"berth/pkg/license/wire"
)

// TestPreviewIsTheStart: the pod that is shown is the one that is made, and showing it keeps nothing.
func TestPreviewIsTheStart(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := newCreator(t, p)
	l := patching(course, `[{"op":"add","path":"/metadata/labels/mylabel","value":"test123"}]`)
	l.RunLimit = new(1)
	p.save(t, l, alpha)
	d := p.claimed(t, alpha, "cmd-1")
	d.Annotations = map[string]string{"berth.dev/user": d.User}
	if err := p.license(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	before := p.value(t, `SELECT string_agg(s::text, ',') FROM berth.seats s`)
	got, err := ask[wire.Preview](t, p, wire.MethodPreview, wire.PreviewRequest{Project: alpha})
	if err != nil || got.Fault != nil {
		t.Fatalf("preview: %+v (%v)", got.Fault, err)
	}
	if d := cmp.Diff(string(p.launches(t)[d.Pod].Rendered), string(got.Pod)); d != "" {
		t.Errorf("the pod (-start +preview):\n%s", d)
	}
	if d := cmp.Diff([]wire.LicenseStatus{{ID: course, Title: l.Title, Status: "active", Patched: true}}, got.Licenses); d != "" {
		t.Errorf("licenses (-want +got):\n%s", d)
	}
	var steps license.Explanation
	if err := json.Unmarshal(got.Explanation, &steps); err != nil || len(steps.Steps) == 0 {
		t.Errorf("the explanation is %s (%v)", got.Explanation, err)
	}
	if !strings.Contains(string(got.Diff), "test123") || look(t, got.Quota, "cpu_limit") != 1.0 {
		t.Errorf("diff %s, quota %s", got.Diff, got.Quota)
	}
	if got.Verdict == nil || !got.Verdict.Accepted || len(c.tried) != 1 {
		t.Errorf("the verdict is %+v", got.Verdict)
	}
	if after := p.value(t, `SELECT string_agg(s::text, ',') FROM berth.seats s`); after != before {
		t.Errorf("seats before and after: %s, %s", before, after)
	}
	// Somebody else's project finds the seat taken.
	got, err = ask[wire.Preview](t, p, wire.MethodPreview, wire.PreviewRequest{Project: beta, Licenses: []wire.License{{ID: course}}, NoDryRun: true})
	if err != nil || len(got.Licenses) != 1 || got.Licenses[0].Status != "exhausted" || got.Verdict != nil {
		t.Errorf("of another project the preview is %+v (%v)", got.Licenses, err)
	}
	if n := p.value(t, `SELECT count(*)::text FROM public.projects`); n != "1" {
		t.Errorf("there are %s projects", n)
	}
}

func TestPreviewOfHypotheses(t *testing.T) {
	t.Parallel()
	edited := valid(course, `{"cpu":3}`)
	limited := valid(course, `{"cpu":3}`)
	limited.RunLimit = new(1)
	tests := map[string]struct {
		ask    wire.PreviewRequest
		cpu    any
		status string
		fault  events.Reason
	}{
		"as it is":               {ask: wire.PreviewRequest{}, cpu: "2000m", status: "active"},
		"no license":             {ask: wire.PreviewRequest{Licenses: []wire.License{}}, cpu: "1000m"},
		"one that is saved":      {ask: wire.PreviewRequest{Licenses: []wire.License{{ID: storage}}}, cpu: "1500m", status: "active"},
		"one that is not saved":  {ask: wire.PreviewRequest{Licenses: []wire.License{valid("33333333-3333-4333-8333-333333333333", `{"cpu":2.5}`)}}, cpu: "2500m", status: "active"},
		"one that is nowhere":    {ask: wire.PreviewRequest{Licenses: []wire.License{{ID: "33333333-3333-4333-8333-333333333333"}}}, cpu: "1000m", status: "expired"},
		"an edited one":          {ask: wire.PreviewRequest{Change: &edited}, cpu: "3000m", status: "active"},
		"a limit on it":          {ask: wire.PreviewRequest{Change: &limited}, cpu: "1000m", status: "exhausted"},
		"one that it has not":    {ask: wire.PreviewRequest{Change: new(valid(storage, `{"cpu":3}`))}, cpu: "2000m", status: "active"},
		"a bad patch":            {ask: wire.PreviewRequest{Change: new(patching(course, `[{"op":"test","path":"/kind","value":1}]`))}, fault: events.PatchInvalid},
		"a template that is bad": {ask: wire.PreviewRequest{Template: json.RawMessage(`{"kind":"Job"}`)}, fault: events.TemplateInvalid},
		"another template": {
			ask: wire.PreviewRequest{Template: json.RawMessage(`{"kind":"Pod","spec":{"containers":[{"name":"x","image":"y"}]}}`)},
			cpu: "2000m", status: "active",
		},
	}
	p := newPlace(t)
	newCreator(t, p)
	p.save(t, valid(course, `{"cpu":2}`), alpha, beta)
	p.save(t, valid(storage, `{"cpu":1.5}`))
	if err := p.license(t.Context(), p.claimed(t, beta, "cmd-b")); err != nil { // It has a seat.
		t.Fatal(err)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.ask.Project, tt.ask.NoDryRun = alpha, true
			got, err := ask[wire.Preview](t, p, wire.MethodPreview, tt.ask)
			if err != nil {
				t.Fatal(err)
			}
			if tt.fault != "" {
				if got.Fault == nil || got.Fault.Reason != string(tt.fault) {
					t.Errorf("fault = %+v, want %s", got.Fault, tt.fault)
				}
				return
			}
			if got.Fault != nil {
				t.Fatalf("fault: %+v", got.Fault)
			}
			if cpu := look(t, got.Pod, "spec", "containers", 0, "resources", "limits", "cpu"); cpu != tt.cpu {
				t.Errorf("cpu limit = %v, want %v", cpu, tt.cpu)
			}
			status := ""
			if len(got.Licenses) > 0 {
				status = got.Licenses[0].Status
			}
			if status != tt.status {
				t.Errorf("status = %q, want %q", status, tt.status)
			}
		})
	}
}

func TestPreviewOfAPerson(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := newCreator(t, p)
	c.set(func(c *creator) {
		c.manifest = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"jupyter-alice"},"spec":{"containers":[{"name":"jupyter","image":"jupyter:1"}]}}`
		c.verdict = wire.Verdict{Reason: "POD_REJECTED", Message: "no"}
	})
	silo := wire.Silo{Name: "silo1", DataAddress: "10.2.0.1", HostName: "silo1.example.org"}
	request := wire.PreviewQuestion{PreviewRequest: wire.PreviewRequest{User: user, ManifestURL: "https://example.org/jupyter.yaml"}, For: silo}
	got, err := ask[wire.Preview](t, p, wire.MethodPreview, request)
	if err != nil || string(got.Diff) != `[]` || got.Verdict == nil || got.Verdict.Accepted {
		t.Errorf("without licenses: %+v (%v)", got, err)
	}
	if d := cmp.Diff(wire.RenderRequest{User: user, ManifestURL: request.ManifestURL, Silo: silo}, c.rendered); d != "" {
		t.Errorf("the manifest's question (-want +got):\n%s", d)
	}
	request.Licenses = []wire.License{valid(course, `{"ram":3}`)}
	got, err = ask[wire.Preview](t, p, wire.MethodPreview, request)
	if err != nil || look(t, got.Pod, "spec", "containers", 0, "resources", "limits", "memory") != "3000Mi" {
		t.Errorf("with one: %s (%v)", got.Pod, err)
	}
}

func TestPreviewRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ask  wire.PreviewRequest
		says string
	}{
		"nobody":              {wire.PreviewRequest{}, "either"},
		"both":                {wire.PreviewRequest{Project: alpha, User: user}, "either"},
		"no id":               {wire.PreviewRequest{Project: "x"}, "project_id"},
		"no manifest":         {wire.PreviewRequest{User: user}, "manifest_url"},
		"a project's user":    {wire.PreviewRequest{User: events.ProjectUser(alpha), ManifestURL: "x"}, "user_id"},
		"a manifest too many": {wire.PreviewRequest{Project: alpha, ManifestURL: "x"}, "manifest_url"},
		"an image too many":   {wire.PreviewRequest{User: user, ManifestURL: "x", Image: "y"}, "image"},
		"many licenses":       {wire.PreviewRequest{Project: alpha, Licenses: make([]wire.License, 101)}, "licenses"},
		"a license without":   {wire.PreviewRequest{Project: alpha, Licenses: []wire.License{{}}}, "licenses[0].id"},
		"twice":               {wire.PreviewRequest{Project: alpha, Licenses: []wire.License{{ID: course}, {ID: course}}}, "licenses[1].id"},
		"a change without":    {wire.PreviewRequest{Project: alpha, Change: &wire.License{}}, "change.id"},
		"a huge template":     {wire.PreviewRequest{Project: alpha, Template: json.RawMessage(`"` + strings.Repeat("x", events.MaxManifest) + `"`)}, "template"},
	}
	p := newPlace(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ask[wire.Preview](t, p, wire.MethodPreview, tt.ask)
			refusedWith(t, err, events.RequestInvalid, tt.says)
		})
	}
	_, err := ask[wire.Preview](t, p, wire.MethodPreview, wire.PreviewRequest{Project: alpha})
	refusedWith(t, err, events.Unavailable, "creator")

	// What could not be saved is not tried.
	bad := valid(course, `{"rams":3}`)
	_, err = ask[wire.Preview](t, p, wire.MethodPreview, wire.PreviewRequest{Project: alpha, Licenses: []wire.License{{ID: storage}, bad}})
	refusedWith(t, err, events.LicenseInvalid, "licenses[1]", "quota.rams")
	_, err = ask[wire.Preview](t, p, wire.MethodPreview, wire.PreviewRequest{Project: alpha, Change: &bad})
	refusedWith(t, err, events.LicenseInvalid, "change", "quota.rams")
	bad.Quota, bad.RunLimit = nil, new(-1)
	_, err = ask[wire.Replay](t, p, wire.MethodReplay, wire.ReplayRequest{Since: time.Now(), Change: &bad})
	refusedWith(t, err, events.LicenseInvalid, "change", "run_limit")
}

// TestChangeOfAnother: a preview says that the change is one of a license that the project does not have.
func TestChangeOfAnother(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	newCreator(t, p)
	p.save(t, valid(course, `{"cpu":2}`), alpha)
	for id, wantsTold := range map[string]bool{course: false, storage: true} {
		got, err := ask[wire.Preview](t, p, wire.MethodPreview, wire.PreviewRequest{Project: alpha, Change: new(valid(id, `{"cpu":3}`)), NoDryRun: true})
		if err != nil || got.Fault != nil {
			t.Fatalf("preview: %+v (%v)", got.Fault, err)
		}
		if told := strings.Contains(string(got.Explanation), "it is not attached"); told != wantsTold {
			t.Errorf("of %s it says so: %t, want %t: %s", id, told, wantsTold, got.Explanation)
		}
	}
}

// TestReplay: of all projects that were started, those that a change makes another pod of, or none.
func TestReplay(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := newCreator(t, p)
	p.save(t, valid(course, `{"cpu":2}`))
	p.save(t, valid(storage, `{"cpu":1.5}`))
	const projects = 60
	for i := range projects {
		project, license := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i), course
		if i%2 == 1 {
			license = storage
		}
		p.save(t, valid(license, `{"cpu":2}`), project)
		d := p.claimed(t, project, fmt.Sprintf("cmd-%d", i))
		if err := p.license(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	eventstest.Bring(t, p.bus, notebook, user, events.Licensed)
	replay := func(r wire.ReplayRequest) (looked, differ int, last wire.Replayed) {
		t.Helper()
		r.Since = time.Now().Add(-time.Hour)
		for parts := 0; parts == 0 || r.After != ""; parts++ {
			answer, err := ask[wire.Replay](t, p, wire.MethodReplay, r)
			if err != nil {
				t.Fatal(err)
			}
			looked, differ, r.After = looked+answer.Looked, differ+len(answer.Different), answer.Next
			if answer.Looked > 50 || parts > 5 {
				t.Fatalf("%d starts in part %d", answer.Looked, parts)
			}
			for _, last = range answer.Different {
				continue
			}
		}
		return looked, differ, last
	}
	if looked, differ, _ := replay(wire.ReplayRequest{}); looked != projects || differ != 0 {
		t.Errorf("without a change %d of %d starts differ, want 0 of %d", differ, looked, projects)
	}
	looked, differ, last := replay(wire.ReplayRequest{Change: new(valid(course, `{"cpu":3}`)), DryRun: true})
	if looked != projects || differ != projects/2 {
		t.Errorf("with an edited license %d of %d starts differ, want %d", differ, looked, projects/2)
	}
	if !strings.Contains(string(last.Diff), "3000m") || last.Verdict == nil || last.Fault != nil {
		t.Errorf("one is %+v", last)
	}
	if _, differ, last = replay(wire.ReplayRequest{Change: new(patching(course, `[{"op":"test","path":"/kind","value":1}]`))}); differ != projects/2 ||
		last.Fault == nil || last.Fault.Reason != string(events.PatchInvalid) {
		t.Errorf("with a bad patch %d fail, one is %+v", differ, last)
	}
	if _, differ, _ = replay(wire.ReplayRequest{Template: json.RawMessage(strings.ReplaceAll(projectTemplate, `"projects"`, `"others"`))}); differ != projects {
		t.Errorf("with another template %d differ, want %d", differ, projects)
	}
	// What fails today fails with the change, too.
	c.set(func(c *creator) { c.template = `{"kind":"Pod","spec":{"containers":"none"}}` })
	if _, differ, last = replay(wire.ReplayRequest{Change: new(valid(course, `{"cpu":3}`))}); differ != 0 {
		t.Errorf("with a bad template %d differ, one is %+v", differ, last)
	}
	_, err := ask[wire.Replay](t, p, wire.MethodReplay, wire.ReplayRequest{Since: time.Now().Add(-1000 * 24 * time.Hour)})
	refusedWith(t, err, events.RequestInvalid, "since")
	_, err = ask[wire.Replay](t, p, wire.MethodReplay, wire.ReplayRequest{Since: time.Now(), After: "x"})
	refusedWith(t, err, events.RequestInvalid, "after")
}
