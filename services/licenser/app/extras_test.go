package app

import (
	"errors"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/services/licenser/internal/licensing"
)

// TestStartThatComesToNothing: what a start has asked for that failed before its pod was launched is not what the next one has, whether
// a keeper has looked at it or not; what a launched one has asked for is, also when it failed later.
func TestStartThatComesToNothing(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	fail := events.Fact{Kind: events.FactFail, Reason: events.PodRejected, Message: "no"}
	over := []events.Fact{{Kind: events.FactDelete}, {Kind: events.FactGone}}
	for name, tt := range map[string]struct {
		facts []events.Fact
		want  string
	}{
		"failed before":       {[]events.Fact{{Kind: events.FactLaunch, At: now}, fail}, "hub.example/project:v1"},
		"stopped before":      {nil, "asked:v1"},
		"failed once it runs": {[]events.Fact{{Kind: events.FactLaunch, At: now}, {Kind: events.FactLaunched, At: now}, fail}, "asked:v1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			d := p.claimed(t, alpha, "cmd-1")
			d.Project = &events.ProjectRequest{ID: alpha, Image: "asked"}
			if err := p.license(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			for i := range tt.facts {
				if tt.facts[i].Kind == events.FactLaunched {
					tt.facts[i].Observed.UID = "uid"
				}
			}
			p.bring(t, d, append(tt.facts, over...)...)
			d = p.claimed(t, alpha, "cmd-2")
			d.Project = &events.ProjectRequest{ID: alpha}
			if err := p.license(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			for _, launch := range eventstest.Queued(t, p.server, events.StageLaunch) {
				if launch.ID != "cmd-2" {
					continue
				}
				if got := look(t, launch.Rendered, "spec", "containers", 0, "image"); got != tt.want {
					t.Errorf("the next start has %v, want %s", got, tt.want)
				}
			}
		})
	}
}

// TestKeeperForgetsAFailedStart: the keeper takes back what a start has asked for that came to nothing.
func TestKeeperForgetsAFailedStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fails = true
	w.licenser(t)
	w.row(t, projectNo(1))
	if err := w.bus.AskStart(t.Context(), "start", events.ProjectRequest{ID: projectNo(1), Image: "bad", Cause: events.CauseAsked}); err != nil {
		t.Fatal(err)
	}
	w.until(t, projectNo(1), events.Gone)
	eventstest.Eventually(t, "it is forgotten", func() bool {
		return w.one(t, `SELECT count(*) FROM berth.projects WHERE image IS NULL AND before IS NULL`) == "1"
	})
}

// TestWhatCannotBeKept: a value that the database does not take is the start's fault, not the licenses'.
func TestWhatCannotBeKept(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	d := p.claimed(t, alpha, "cmd-1")
	d.Project.Env = map[string]string{"A": secret + "\x00"}
	err := p.license(t.Context(), d)
	if fault := (*licensing.Fault)(nil); !errors.As(err, &fault) || fault.Reason != events.RequestInvalid {
		t.Fatalf("license = %v, want %s", err, events.RequestInvalid)
	}
	refusedWith(t, p.told(err, ""), events.RequestInvalid, "env")
}
