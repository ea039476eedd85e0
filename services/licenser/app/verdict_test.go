package app

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/license/wire"
)

const (
	// yearPatch makes a pod that no start can read, accountPatch one that the API server of the tests refuses.
	yearPatch    = `[{"op":"add","path":"/metadata/labels/year","value":2026}]`
	accountPatch = `[{"op":"add","path":"/spec/serviceAccountName","value":"nobody"}]`
	unreadable   = "read rendered pod: a number in metadata.labels"
	noAccount    = `pods "p" is forbidden: serviceaccount "nobody" not found`
)

// judge is a creator that cannot read yearPatch, before an API server that refuses accountPatch.
func judge(r wire.DryRunRequest) *wire.Verdict {
	switch pod := string(r.Pod); {
	case strings.Contains(pod, `"year":2026`):
		return &wire.Verdict{Invalid: true, Reason: string(events.PodRejected), Message: unreadable}
	case strings.Contains(pod, `"nobody"`) && !r.ReadOnly:
		return &wire.Verdict{Reason: string(events.PodRejected), Message: noAccount}
	}
	return &wire.Verdict{Accepted: true}
}

// TestPutTriesThePod: a license whose patch makes no pod is refused; what may pass, or is the template's, is a warning.
func TestPutTriesThePod(t *testing.T) {
	t.Parallel()
	away := func(wire.DryRunRequest) *wire.Verdict { return nil }
	odd := strings.Replace(projectTemplate, `"labels":{}`, `"labels":{"year":2026}`, 1)
	tests := map[string]struct {
		patch, template string
		judge           func(wire.DryRunRequest) *wire.Verdict
		refused         bool
		warns           string // Empty for no warning.
	}{
		"a good one":           {patch: `[{"op":"add","path":"/metadata/labels/a","value":"b"}]`, judge: judge},
		"a number for a text":  {patch: yearPatch, judge: judge, refused: true},
		"a missing account":    {patch: accountPatch, judge: judge, warns: noAccount},
		"the template is odd":  {patch: `[{"op":"add","path":"/metadata/labels/a","value":"b"}]`, template: odd, judge: judge, warns: unreadable},
		"nobody can be asked":  {patch: yearPatch, judge: away, warns: "not tried"},
		"what the server says": {patch: yearPatch, judge: func(wire.DryRunRequest) *wire.Verdict { return &wire.Verdict{Accepted: true, Warnings: []string{"hm"}} }, warns: "hm"},
	}
	p := newPlace(t)
	c := newCreator(t, p)
	for name, tt := range tests {
		c.set(func(c *creator) {
			c.judge, c.template = tt.judge, projectTemplate
			if tt.template != "" {
				c.template = tt.template
			}
		})
		for _, dry := range []bool{true, false} {
			got, err := ask[wire.License](t, p, wire.MethodPut, wire.PutLicense{License: patching(course, tt.patch), DryRun: dry})
			switch {
			case tt.refused:
				refusedWith(t, err, events.PatchInvalid, `license "Title 1111" (`+course+`)`, unreadable)
			case err != nil:
				t.Errorf("%s: %v", name, err)
			case tt.warns == "" && len(got.Warnings) > 0, tt.warns != "" && (len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], tt.warns)):
				t.Errorf("%s, dry %t: warnings %q, want %q", name, dry, got.Warnings, tt.warns)
			}
		}
		if _, err := ask[any](t, p, wire.MethodDelete, wire.LicenseRef{ID: course}); err != nil && !tt.refused {
			t.Fatal(err)
		}
	}
}

// TestRecomputeKeepsThePod: a change whose pod would be refused restarts nothing and keeps nothing of it, and the project says why.
func TestRecomputeKeepsThePod(t *testing.T) {
	t.Parallel()
	full := func(makesRoom bool) func(wire.DryRunRequest) *wire.Verdict {
		return func(wire.DryRunRequest) *wire.Verdict {
			return &wire.Verdict{Reason: string(events.QuotaExceeded), Message: "exceeded quota: cpu", MakesRoom: makesRoom}
		}
	}
	tests := map[string]struct {
		changed  wire.License
		another  bool // One more license is attached.
		judge    func(wire.DryRunRequest) *wire.Verdict
		restarts int
		passes   bool   // The task is tried again.
		faulty   string // What the project says.
		armed    bool   // It is looked at again.
	}{
		"a good change":          {changed: valid(course, `{"cpu":3}`), another: true, judge: judge, restarts: 1},
		"no pod at all":          {changed: patching(course, yearPatch), another: true, judge: judge, faulty: "POD_REJECTED: " + unreadable, armed: true},
		"a missing account":      {changed: patching(course, accountPatch), judge: judge, faulty: "POD_REJECTED: " + noAccount, armed: true},
		"a bad patch":            {changed: patching(course, `[{"op":"test","path":"/kind","value":1}]`), judge: judge, faulty: "PATCH_INVALID: "},
		"more in a full place":   {changed: valid(course, `{"cpu":3}`), judge: full(false), faulty: "QUOTA_EXCEEDED: exceeded quota", armed: true},
		"less in a full place":   {changed: valid(course, `{"cpu":1.5}`), judge: full(true), restarts: 1},
		"nobody can be asked":    {changed: valid(course, `{"cpu":3}`), judge: func(wire.DryRunRequest) *wire.Verdict { return nil }, passes: true},
		"a change of little use": {changed: valid(course, `{"cpu":2,"ram":0.1}`), judge: func(wire.DryRunRequest) *wire.Verdict { return nil }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			c := newCreator(t, p)
			c.set(func(c *creator) { c.judge = tt.judge })
			p.save(t, valid(course, `{"cpu":2}`), alpha)
			d := p.claimed(t, alpha, "cmd-1")
			if err := p.license(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			p.bring(t, d, eventstest.Launch(""), eventstest.Launched("", "uid"), eventstest.Observe("", eventstest.Ready("uid", "9")))
			before := p.value(t, `SELECT run_quota::text FROM public.projects WHERE project_id = $1`, alpha)
			p.save(t, tt.changed)
			if tt.another {
				p.save(t, valid(storage, `{"ram":4}`), alpha)
			}
			task := natsbus.Delivery{Attempt: 1, Command: events.Command{Task: &events.ProjectTask{Do: events.TaskRecompute, Project: alpha}}}
			if err := p.task(t.Context(), task); (err != nil) != tt.passes {
				t.Errorf("task = %v, want an error: %t", err, tt.passes)
			}
			if got := len(eventstest.Queued(t, p.server, events.StageRestart)); got != tt.restarts {
				t.Errorf("%d restarts, want %d", got, tt.restarts)
			}
			said := p.value(t, `SELECT error FROM berth.projects WHERE project_id = $1`, alpha)
			if tt.faulty == "" && said != "" || !strings.HasPrefix(said, tt.faulty) {
				t.Errorf("the project says %q, want %q", said, tt.faulty)
			}
			timer := events.TimerSubject(eventstest.Cluster, "project-"+alpha, events.TimerRecompute)
			if got := slices.Contains(eventstest.QueueSubjects(t, p.server), timer); got != tt.armed {
				t.Errorf("looked at again: %t, want %t", got, tt.armed)
			}
			if d := cmp.Diff(before, p.value(t, `SELECT run_quota::text FROM public.projects WHERE project_id = $1`, alpha)); d != "" {
				t.Errorf("the quota that it runs with (-want +got):\n%s", d)
			}
			reserved := p.value(t, `SELECT count(*)::text FROM berth.seats WHERE license_id = $1`, storage)
			if (reserved == "1") != (tt.another && tt.restarts == 1) {
				t.Errorf("%s seats of the license that is new", reserved)
			}
		})
	}
}

// TestReplayTells: what a change makes of past starts is told without values, and with what would be wrong with it.
func TestReplayTells(t *testing.T) {
	t.Parallel()
	variables := variables(map[string]string{"PASSWORD": secret})
	tests := map[string]struct {
		saved  wire.License
		replay wire.ReplayRequest
		want   wire.Replay
	}{
		"values are withheld": {
			saved: valid(course, `{"cpu":2}`),
			replay: wire.ReplayRequest{Template: json.RawMessage(strings.Replace(
				strings.Replace(projectTemplate, `"env":[`, `"args":["--with={extra_env}"],"env":[{"name":"SAME","value":"{extra_env}"},`, 1),
				`"labels":{}`, `"labels":{"a":"b"},"annotations":{"c":"{extra_env}"}`, 1))},
			want: wire.Replay{Looked: 1, Different: []wire.Replayed{{}}},
		},
		"a number for a text": {
			saved:  valid(course, `{"cpu":2}`),
			replay: wire.ReplayRequest{Change: new(patching(course, yearPatch))},
			want: wire.Replay{Looked: 1, Concerned: new(1), Different: []wire.Replayed{{
				Verdict: &wire.Verdict{Invalid: true, Reason: string(events.PodRejected), Message: unreadable},
			}}},
		},
		"a missing account": {
			saved:  valid(course, `{"cpu":2}`),
			replay: wire.ReplayRequest{Change: new(patching(course, accountPatch)), DryRun: true},
			want: wire.Replay{Looked: 1, Concerned: new(1), Different: []wire.Replayed{{
				Verdict: &wire.Verdict{Reason: string(events.PodRejected), Message: noAccount},
			}}},
		},
		"a license of nobody": {
			saved:  valid(course, `{"cpu":2}`),
			replay: wire.ReplayRequest{Change: new(valid(storage, `{"cpu":3}`))},
			want:   wire.Replay{Looked: 1, Concerned: new(0), Different: []wire.Replayed{}},
		},
		"a patch is mended": {
			saved:  patching(course, `[{"op":"test","path":"/kind","value":1}]`),
			replay: wire.ReplayRequest{Change: new(valid(course, `{"cpu":2}`))},
			want: wire.Replay{Looked: 1, Concerned: new(1), Different: []wire.Replayed{{
				Today: &wire.PreviewFault{Reason: string(events.PatchInvalid), Message: `license "Title 1111" (` + course + `): operation 0, path "/kind": another value is there (test-failed)`},
			}}},
		},
		"a number is mended": {
			saved:  patching(course, yearPatch),
			replay: wire.ReplayRequest{Change: new(valid(course, `{"cpu":2}`))},
			want: wire.Replay{Looked: 1, Concerned: new(1), Different: []wire.Replayed{{
				Today: &wire.PreviewFault{Reason: string(events.PodRejected), Message: unreadable},
			}}},
		},
		"not mended": {
			saved:  patching(course, yearPatch),
			replay: wire.ReplayRequest{Change: new(patching(course, strings.Replace(yearPatch, "]", `,{"op":"add","path":"/metadata/labels/a","value":"b"}]`, 1)))},
			want:   wire.Replay{Looked: 1, Concerned: new(1), Different: []wire.Replayed{}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			c := newCreator(t, p)
			c.set(func(c *creator) { c.judge = judge })
			p.save(t, valid(course, `{"cpu":1}`), alpha)
			if err := p.license(t.Context(), p.claimed(t, alpha, "cmd-1")); err != nil {
				t.Fatal(err)
			}
			p.save(t, tt.saved)
			tt.replay.Since = time.Now().Add(-time.Hour)
			got, err := ask[wire.Replay](t, p, wire.MethodReplay, tt.replay)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(got)
			if err != nil || strings.Contains(string(text), variables) {
				t.Errorf("it has the project's variables (%v): %s", err, text)
			}
			for i := range got.Different {
				one := &got.Different[i]
				if (one.Diff == nil) != (one.Today != nil && one.Today.Reason == string(events.PatchInvalid)) {
					t.Errorf("the diff is %s", one.Diff)
				}
				if name == "values are withheld" && (!strings.Contains(string(one.Diff), `"withheld":true`) || !strings.Contains(string(one.Diff), `"value":"b"`)) {
					t.Errorf("the diff is %s", one.Diff)
				}
				*one = wire.Replayed{Fault: one.Fault, Today: one.Today, Verdict: one.Verdict}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
