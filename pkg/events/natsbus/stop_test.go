package natsbus_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
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

// TestDoomed: a stop ends what a start has made that did not know of it, wherever its claim is; where nobody says what the start knew,
// what was claimed before the stop.
func TestDoomed(t *testing.T) {
	t.Parallel()
	bus := eventstest.NewBus(t, eventstest.NewServer(t), "creator")
	const project = "11111111-1111-4111-8111-111111111111"
	stop := func() uint64 {
		t.Helper()
		place, err := bus.NoteStop(t.Context(), project)
		if err != nil {
			t.Fatal(err)
		}
		return place
	}
	claim := func(pod string, known *uint64) natsbus.Entry {
		t.Helper()
		fact := eventstest.Claim(pod, events.ProjectUser(project), "start-"+pod)
		fact.Record.LastStop = known
		if _, _, err := bus.Append(t.Context(), pod, fact); err != nil {
			t.Fatal(err)
		}
		// What the start knew is in the records that follow, too.
		e, err := bus.Last(t.Context(), pod)
		if err == nil {
			e, _, err = bus.Append(t.Context(), pod, eventstest.License(e.Generation))
		}
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	first := stop()
	none := uint64(0)
	ignorant, silent, knowing := claim("ignorant", &none), claim("silent", nil), claim("knowing", &first)
	second := stop()
	tests := map[string]struct {
		entry         natsbus.Entry
		first, second bool
	}{
		"it was asked for before the first stop": {ignorant, true, true},
		"it was asked for between the two":       {knowing, false, true},
		"nobody says when it was asked for":      {silent, false, true},
		"no log has seen it begin":               {natsbus.Entry{Record: events.Record{Event: events.Ready, Generation: "?"}}, false, false},
		"there is none":                          {natsbus.Entry{}, false, false},
	}
	for name, tt := range tests {
		if got := [3]bool{tt.entry.Doomed(0), tt.entry.Doomed(first), tt.entry.Doomed(second)}; got != [3]bool{false, tt.first, tt.second} {
			t.Errorf("%s: doomed by none, the first and the second stop: %v", name, got)
		}
	}
}
