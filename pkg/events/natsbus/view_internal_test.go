package natsbus

import (
	"testing"
	"time"

	"github.com/rs/zerolog"

	"berth/pkg/events"
)

func entry(event events.Type, sequence uint64, at time.Time) Entry {
	return Entry{
		Record:   events.Record{Event: event, Cluster: "main", Pod: "p", User: "u", Command: "c", Observed: events.Observed{IPs: []string{"10.0.0.1"}}},
		Sequence: sequence, EventID: "e", Time: at,
	}
}

func TestViewForgetsWhatIsGone(t *testing.T) {
	t.Parallel()
	now := time.Now()
	tests := map[string]struct {
		entry    Entry
		wantKept bool
	}{
		"just gone":      {entry(events.Gone, 1, now.Add(-goneKept)), true},
		"long gone":      {entry(events.Gone, 1, now.Add(-goneKept-time.Second)), false},
		"there for long": {entry(events.Ready, 1, now.Add(-24*time.Hour)), true},
	}
	for name, tc := range tests {
		v := newView(1, 1)
		v.put(tc.entry)
		v.forgetGone(now)
		_, kept := v.pods["p"]
		if indexed := len(v.byUser) + len(v.byCommand) + len(v.byAddress); kept != tc.wantKept || kept != (indexed == 3) {
			t.Errorf("%s: kept %t with %d keys, want %t", name, kept, indexed, tc.wantKept)
		}
	}
}

func TestViewTakesTheNewerOnly(t *testing.T) {
	t.Parallel()
	v := newView(1, 1)
	now := time.Now()
	for _, step := range []struct {
		sequence uint64
		want     bool
	}{{5, true}, {5, false}, {4, false}, {6, true}} {
		if got := v.put(entry(events.Ready, step.sequence, now)); got != step.want {
			t.Errorf("%d after %d: taken %t, want %t", step.sequence, v.pods["p"].Sequence, got, step.want)
		}
	}
}

// The first snapshot leaves out what has been gone for long. One that is read
// after a loss has it, if nobody was told yet.
func TestReaderLeavesOutWhatIsLongGone(t *testing.T) {
	t.Parallel()
	gone := entry(events.Gone, 7, time.Now())
	e := events.Event{ID: gone.EventID, Source: "test", Time: gone.Time, Record: &gone.Record}
	data, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	raw := rawRecord{
		event: events.Gone, subject: events.PodSubject("main", "p", "u", events.Gone), sequence: 7,
		time: time.Now().Add(-goneKept - time.Minute), data: data,
	}
	young := raw
	young.time = time.Now()
	tests := map[string]struct {
		raw   rawRecord
		again bool
		told  uint64
		want  bool
	}{
		"at first":                    {raw, false, 0, false},
		"again, and it was told":      {raw, true, 7, false},
		"again, and it was not":       {raw, true, 6, true},
		"at first, but it is young":   {young, false, 0, true},
		"again, told, but it's young": {young, true, 7, true},
	}
	for name, tc := range tests {
		table := (&Bus{log: zerolog.Nop()}).NewTable(false, nil)
		table.told = tc.told
		got, ok := newReader(table, time.Now(), 1).newestOf([]rawRecord{tc.raw}, tc.again)
		if ok != tc.want || ok && got.Sequence != 7 {
			t.Errorf("%s: %+v, %t, want %t", name, got, ok, tc.want)
		}
	}
}
