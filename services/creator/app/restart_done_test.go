package app

import (
	"testing"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
)

// TestRestartDone: a wish whose pod has come, and has been replaced since, is not wished again: its create would make none.
func TestRestartDone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.endOf(t, eventstest.Bring(t, b.bus, projectPod, projectUser, events.Ready))
	b.endOf(t, b.appendsTo(t, projectPod, eventstest.Claim(projectPod, projectUser, "next")))
	now := b.appendsTo(t, projectPod, eventstest.Claim(projectPod, projectUser, "later"))
	if err := b.restart(t.Context(), restarts(now)); err != nil {
		t.Fatal(err)
	}
	if after := b.last(t, projectPod); after.Event != events.Claimed || after.Generation != now.Generation {
		t.Errorf("the pod is %s, to be followed by %+v", after.Event, after.Restart)
	}
	if got := b.deletes(t); len(got) != 0 {
		t.Errorf("deletes: %+v", got)
	}
}

// TestCreateDone: a create that is asked for again when its pod has come and gone makes none, also where nobody knows that
// it was delivered before.
func TestCreateDone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	d := starts("c1")
	d.Attempt = 1
	b.creates(t, d)
	b.endOf(t, b.last(t, projectPod))
	b.endOf(t, b.appendsTo(t, projectPod, eventstest.Claim(projectPod, projectUser, "later")))
	gone := b.last(t, projectPod)
	b.creates(t, d)
	if after := b.last(t, projectPod); after.Event != events.Gone || after.Generation != gone.Generation {
		t.Errorf("the pod is %s, of generation %s", after.Event, after.Generation)
	}
}
