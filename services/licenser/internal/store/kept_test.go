package store_test

import (
	"testing"
	"time"

	"berth/pkg/events"
)

// TestFreeKeptSeats: a pod that is gone before its licenses were looked at gives back what was kept for it, and a word about an
// earlier one does not.
func TestFreeKeptSeats(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, licenseA, 1)
	f.attach(t, projectA, licenseA)
	pod := events.ProjectPod(projectA)
	f.check(t, start(projectA, 10))
	if err := f.KeepSeats(t.Context(), cluster, pod, generation(10), time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		gone int
		want string
	}{{9, "1"}, {11, "0"}} {
		if err := f.FreeSeats(t.Context(), cluster, pod, generation(step.gone), time.Time{}); err != nil {
			t.Fatal(err)
		}
		if got := seatCount(t, f, licenseA); got != step.want {
			t.Errorf("%s seats after life %d is gone, want %s", got, step.gone, step.want)
		}
	}
}
