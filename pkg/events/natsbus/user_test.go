package natsbus_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
)

// TestUserPods: those that are gone are there, too; a name that is another user's by
// now is not.
func TestUserPods(t *testing.T) {
	t.Parallel()
	bus := eventstest.NewBus(t, eventstest.NewServer(t), "deleter")
	const alice, bob = "alice@dtu.dk", "bob@dtu.dk"
	ready := eventstest.Bring(t, bus, "ready", alice, events.Ready)
	eventstest.Bring(t, bus, "went", alice, events.Gone)
	eventstest.Bring(t, bus, "bobs", bob, events.Ready)
	eventstest.Bring(t, bus, "passed-on", alice, events.Gone)
	if _, _, err := bus.Append(t.Context(), "passed-on", eventstest.Claim("passed-on", bob, "cmd-2")); err != nil {
		t.Fatal(err)
	}
	entries, err := bus.UserPods(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Pod)
		if e.Pod == "ready" && (e.Sequence != ready.Sequence || e.Generation != ready.Generation) {
			t.Errorf("ready is %+v, want %+v", e, ready)
		}
	}
	slices.Sort(names)
	if d := cmp.Diff([]string{"ready", "went"}, names); d != "" {
		t.Errorf("pods (-want +got):\n%s", d)
	}
	if entries, err := bus.UserPods(t.Context(), "nobody@dtu.dk"); err != nil || len(entries) > 0 {
		t.Errorf("nobody has %+v, error %v", entries, err)
	}
}

// TestAskFinish: the same request about the same record is made once, and again for
// another bucket.
func TestAskFinish(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "watcher")
	entry := eventstest.Bring(t, bus, "p", "alice@dtu.dk", events.Running)
	for _, bucket := range []string{"", "", "7", "7"} {
		if err := bus.AskFinish(t.Context(), entry, bucket); err != nil {
			t.Fatal(err)
		}
	}
	queued := eventstest.Queued(t, server, events.StageFinish)
	if len(queued) != 2 {
		t.Fatalf("%d commands, want 2", len(queued))
	}
	if c := queued[0]; c.ID != "cmd-p" || c.Pod != "p" || c.User != entry.User || c.Generation != entry.Generation || c.After == nil || c.After.Sequence != entry.Sequence {
		t.Errorf("asked for %+v", c)
	}
}
