package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSchedule(t *testing.T) {
	t.Parallel()
	const n, gap = 2000, time.Second
	plan := Schedule(7, n, gap, 2)
	if d := cmp.Diff(plan, Schedule(7, n, gap, 2)); d != "" {
		t.Errorf("the same seed makes another schedule:\n%s", d)
	}
	if cmp.Equal(plan, Schedule(8, n, gap, 2)) {
		t.Error("another seed makes the same schedule")
	}
	if last := plan[n-1].At; last < 9*n*gap/10 || last > 11*n*gap/10 {
		t.Errorf("the last of %d faults comes after %s, want about %s", n, last, n*gap)
	}
	if !slices.IsSortedFunc(plan, func(a, b Planned) int { return int(a.At - b.At) }) {
		t.Error("the faults are not in the order of time")
	}
	met := map[string]bool{}
	for _, p := range plan {
		met[p.Kind+" "+p.Target] = true
		if p.For < 0 || p.For > 20*time.Second || p.Share < 0.3 || p.Share > 1 || p.Delay <= 0 {
			t.Errorf("%+v", p)
		}
		if strings.HasPrefix(p.Kind, "kube: ") && (strings.HasPrefix(p.Target, "api-") || strings.HasPrefix(p.Target, "licenser-")) {
			t.Errorf("%s has no network to the API server", p.Target)
		}
		if strings.HasPrefix(p.Kind, "db: ") && !strings.HasPrefix(p.Target, "licenser-") {
			t.Errorf("%s has no network to the database", p.Target)
		}
	}
	for _, s := range sorts(2) {
		for _, target := range s.targets {
			if !met[s.kind+" "+target] {
				t.Errorf("%s of %s never happens", s.kind, target)
			}
		}
	}
}
