package chaos

import (
	"math/rand/v2"
	"testing"

	"berth/pkg/events"
)

// TestSamples: the seats of the limited license are fewer than the projects, each license has projects at the beginning, and
// the patch of an edition is what the books read.
func TestSamples(t *testing.T) {
	t.Parallel()
	for projects := 2; projects < 30; projects++ {
		limits := 0
		for _, s := range samples(projects) {
			if s.limit > 0 {
				limits++
			}
			if s.limit >= projects || s.from >= s.to || s.to > projects {
				t.Errorf("of %d projects: %+v", projects, s)
			}
		}
		if limits != 1 {
			t.Errorf("%d limited licenses", limits)
		}
	}
	if got, want := samples(2)[1].patch(7), `[{"op":"add","path":"/metadata/labels/edition-1","value":"7"}]`; got != want {
		t.Errorf("patch %s, want %s", got, want)
	}
	if !events.ProjectID(samples(2)[3].id) || !events.ProjectID(projectID(12)) {
		t.Error("an id is no UUID")
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	met := map[string]bool{}
	for range 2000 {
		met[choose(random, deeds())] = true
	}
	for _, d := range deeds() {
		if !met[d.endpoint] {
			t.Errorf("nobody ever does: %s", d.endpoint)
		}
	}
}

// TestLasting: of the commands that are left over only the timers of tasks may stay.
func TestLasting(t *testing.T) {
	t.Parallel()
	for stored, want := range map[string]bool{
		"cmd.main.timer.project-1.idle map[] of 12:00:00":      true,
		"cmd.main.timer.project-1.start map[] of 12:00:00":     true,
		"cmd.main.timer.license-1.expires map[] of 12:00:00":   true,
		"cmd.main.timer.project-1.recompute map[] of 12:00:00": false,
		"cmd.main.timer.c1.create map[] of 12:00:00":           false,
		"cmd.main.timer.c1.delete map[] of 12:00:00":           false,
		"cmd.main.project.project-1 map[] of 12:00:00":         false,
	} {
		if got := lasting(stored); got != want {
			t.Errorf("%s: %t", stored, got)
		}
	}
}
