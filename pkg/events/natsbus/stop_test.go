package natsbus_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
)

// TestStops: each stop of a project is later in the log than all before it, whoever notes it, and none of another's.
func TestStops(t *testing.T) {
	t.Parallel()
	const one, two = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	server := eventstest.NewServer(t)
	api, licenser := eventstest.NewBus(t, server, "api"), eventstest.NewBus(t, server, "licenser")
	last := func(project string) uint64 {
		t.Helper()
		place, err := api.LastStop(t.Context(), project)
		if err != nil {
			t.Fatal(err)
		}
		return place
	}
	if place := last(one); place != 0 {
		t.Errorf("a stop at %d, and nobody has asked for one", place)
	}
	before := uint64(0)
	for range 2 {
		first, err := api.NoteStop(t.Context(), one)
		if place := last(one); err != nil || place != first {
			t.Fatalf("NoteStop = %d, %v; the last stop is at %d", first, err, place)
		}
		second, err := licenser.NoteStop(t.Context(), one)
		if place := last(one); err != nil || place != second {
			t.Fatalf("NoteStop = %d, %v; the last stop is at %d", second, err, place)
		}
		if first <= before || second <= first {
			t.Errorf("stops at %d, %d and %d, want each behind the one before", before, first, second)
		}
		before = second
	}
	if place := last(two); place != 0 {
		t.Errorf("another project's stop is at %d", place)
	}
	got, err := api.Outcome(t.Context(), events.StopCommand(one))
	want := events.Outcome{Verdict: events.Stopped, Cluster: eventstest.Cluster, Command: "stop-" + one, User: "project:" + one}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v, the outcome (-want +got):\n%s", err, d)
	}
}
