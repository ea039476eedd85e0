package natsbus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
)

// TestStarts: the newest of each name and user, in the order of the log.
func TestStarts(t *testing.T) {
	t.Parallel()
	bus := eventstest.NewBus(t, eventstest.NewServer(t), "licenser")
	since := time.Now().Add(-time.Minute)
	if starts, err := bus.Starts(t.Context(), since); err != nil || len(starts) != 0 {
		t.Errorf("an empty log has %+v (%v)", starts, err)
	}
	gone := eventstest.Bring(t, bus, "a", "adam", events.Gone)
	b := eventstest.Bring(t, bus, "b", "bob", events.Licensed)
	eventstest.Bring(t, bus, "c", "carol", events.Claimed)
	eventstest.Bring(t, bus, "a", "alice", events.Licensed)
	starts, err := bus.Starts(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range starts {
		got = append(got, s.Pod+" "+s.User)
		if s.User == "bob" && s.Sequence != b.Sequence || s.User == "adam" && s.Sequence >= gone.Sequence {
			t.Errorf("%s was licensed at %d", s.User, s.Sequence)
		}
		if s.At.Before(since) {
			t.Errorf("%s started at %s", s.Pod, s.At)
		}
	}
	want := []string{"a adam", "b bob", "a alice"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("starts (-want +got):\n%s", d)
	}
	if starts, err := bus.Starts(t.Context(), time.Now().Add(time.Hour)); err != nil || len(starts) != 0 {
		t.Errorf("of the future it says %+v (%v)", starts, err)
	}
}

// TestStartsOfMany: more than one request of a consumer brings.
func TestStartsOfMany(t *testing.T) {
	t.Parallel()
	bus := eventstest.NewBus(t, eventstest.NewServer(t), "licenser")
	const pods = 1200
	for i := range pods {
		eventstest.Bring(t, bus, fmt.Sprintf("pod-%d", i), "alice", events.Licensed)
	}
	starts, err := bus.Starts(t.Context(), time.Time{})
	if err != nil || len(starts) != pods {
		t.Errorf("%d starts (%v), want %d", len(starts), err, pods)
	}
}
