package app

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/license/wire"
)

// TestTheGuiltyIsNamed: of the licenses that have changed a pod which is refused, the refusal names those alone without which it would be taken, in a preview
// and where a project is computed again.
func TestTheGuiltyIsNamed(t *testing.T) {
	t.Parallel()
	const (
		harmless = `[{"op":"add","path":"/metadata/labels/x","value":"y"}]`
		third    = "33333333-3333-4333-8333-333333333333"
		// Each is fine without the other.
		one, two = `[{"op":"add","path":"/metadata/labels/one","value":"1"}]`, `[{"op":"add","path":"/metadata/labels/two","value":"2"}]`
	)
	both := func(r wire.DryRunRequest) bool {
		return strings.Contains(string(r.Pod), `"one"`) && strings.Contains(string(r.Pod), `"two"`)
	}
	tests := map[string]struct {
		licenses []wire.License
		refuses  func(wire.DryRunRequest) bool
		away     bool // Nobody can be asked about another pod.
		want     []string
	}{
		"the last": {
			licenses: []wire.License{patching(course, harmless), patching(storage, accountPatch)},
			want:     []string{storage},
		},
		"the first": {
			licenses: []wire.License{patching(course, accountPatch), patching(storage, harmless), patching(third, harmless)},
			want:     []string{course},
		},
		"by a gpu": {
			licenses: []wire.License{patching(course, harmless), valid(storage, `{"cpu":2,`+badTaint+`}`)},
			refuses:  func(r wire.DryRunRequest) bool { return strings.Contains(string(r.Pod), `"bad"`) },
			want:     []string{storage},
		},
		"two together": {
			licenses: []wire.License{patching(course, one), patching(storage, two), patching(third, harmless)},
			refuses:  both,
			want:     []string{course, storage},
		},
		"one that another builds on": {
			licenses: []wire.License{
				patching(course, `[{"op":"replace","path":"/spec/serviceAccountName","value":"nobody"}]`),
				patching(storage, `[{"op":"test","path":"/spec/serviceAccountName","value":"nobody"}]`), patching(third, harmless),
			},
			want: []string{course, third}, // One that only tests has changed nothing.
		},
		"none of them": {
			licenses: []wire.License{patching(course, harmless), patching(storage, one)},
			refuses:  func(wire.DryRunRequest) bool { return true },
			want:     []string{course, storage},
		},
		"nobody knows": {
			licenses: []wire.License{patching(course, harmless), patching(storage, accountPatch)}, away: true,
			want: []string{course, storage},
		},
		"the only one": {licenses: []wire.License{valid(course, `{"cpu":2}`), patching(storage, accountPatch)}, want: []string{storage}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.refuses == nil {
				tt.refuses = func(r wire.DryRunRequest) bool { return strings.Contains(string(r.Pod), `"nobody"`) }
			}
			p := newPlace(t)
			c := newCreator(t, p)
			p.save(t, valid("44444444-4444-4444-8444-444444444444", `{"cpu":1.5}`), alpha)
			d := p.ready(t, alpha, "cmd-1")
			for _, l := range tt.licenses {
				p.save(t, l, alpha)
			}
			c.set(func(c *creator) {
				c.judge = func(r wire.DryRunRequest) *wire.Verdict {
					if !tt.refuses(r) {
						if tt.away {
							return nil
						}
						return &wire.Verdict{Accepted: true}
					}
					// As a creator blames.
					var blamed []string
					for _, l := range r.Licenses {
						if l.Patched || l.Machine {
							blamed = append(blamed, l.ID)
						}
					}
					return &wire.Verdict{Reason: string(events.PodRejected), Message: strings.Join(blamed, " ")}
				}
			})
			before := p.value(t, `SELECT string_agg(s::text, ',' ORDER BY s.license_id) FROM berth.seats s`)
			got, err := ask[wire.Preview](t, p, wire.MethodPreview, wire.PreviewRequest{Project: alpha})
			if err != nil || got.Fault != nil || got.Verdict == nil {
				t.Fatalf("preview: %+v (%v)", got, err)
			}
			if d := cmp.Diff(tt.want, strings.Fields(got.Verdict.Message)); d != "" {
				t.Errorf("the preview names (-want +got):\n%s", d)
			}
			p.do(t, events.ProjectTask{Do: events.TaskRecompute, Project: alpha})
			said := strings.TrimPrefix(p.value(t, `SELECT error FROM berth.projects WHERE project_id = $1`, alpha), string(events.PodRejected)+": ")
			if d := cmp.Diff(tt.want, strings.Fields(said)); d != "" {
				t.Errorf("the project names (-want +got):\n%s", d)
			}
			if after := p.value(t, `SELECT string_agg(s::text, ',' ORDER BY s.license_id) FROM berth.seats s`); after != before {
				t.Errorf("seats of %s before and after: %s, %s", d.Generation, before, after)
			}
		})
	}
}
