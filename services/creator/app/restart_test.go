package app

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

// restarts is a wish for another pod of a project.
func restarts(e natsbus.Entry) natsbus.Delivery {
	return natsbus.Delivery{Attempt: 1, Command: events.Command{
		Stage: events.StageRestart, ID: "next", Cluster: eventstest.Cluster, User: projectUser, Pod: projectPod, Generation: e.Generation,
		After: e.Known(), Restart: &events.Restart{Command: "next", Cause: events.CauseAsked, Message: "a license was added"},
	}}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	wish := &events.Restart{Command: "next", Cause: events.CauseAsked, Message: "a license was added"}
	another := events.Fact{Kind: events.FactDelete, Restart: &events.Restart{Command: "another"}}
	tests := map[string]struct {
		last    events.Type
		cause   events.Cause // Asked where it is empty.
		between func(t *testing.T, b *bench, e natsbus.Entry)
		event   events.Type
		wish    *events.Restart
		deletes int
		starts  []string
	}{
		"it runs":                               {last: events.Ready, event: events.Deleting, wish: wish, deletes: 1},
		"it starts":                             {last: events.Claimed, event: events.Deleting, wish: wish, deletes: 1},
		"it ended":                              {last: events.Ended, event: events.Deleting, wish: wish, deletes: 1},
		"it is gone":                            {last: events.Gone, event: events.Gone, starts: []string{"next"}},
		"it is being stopped":                   {last: events.Deleting, event: events.Deleting, wish: wish, deletes: 1},
		"it is gone, and licenses have changed": {last: events.Gone, cause: events.CauseLicenses, event: events.Gone},
		"it is being stopped, and licenses have changed": {
			last: events.Deleting, cause: events.CauseLicenses, event: events.Deleting, deletes: 1,
		},
		"another wish was first": {
			last: events.Ready, between: func(t *testing.T, b *bench, e natsbus.Entry) {
				t.Helper()
				fact := another
				fact.Generation = e.Generation
				b.appendsTo(t, projectPod, fact)
			}, event: events.Deleting, wish: another.Restart, deletes: 1,
		},
		"another wish was first, and it is gone": {
			last: events.Ready, between: func(t *testing.T, b *bench, e natsbus.Entry) {
				t.Helper()
				fact := another
				fact.Generation = e.Generation
				b.appendsTo(t, projectPod, fact, eventstest.Gone(e.Generation))
			}, event: events.Gone, wish: another.Restart, starts: []string{"another"},
		},
		"another pod has followed": {
			last: events.Gone, between: func(t *testing.T, b *bench, _ natsbus.Entry) {
				t.Helper()
				b.appendsTo(t, projectPod, eventstest.Claim(projectPod, projectUser, "later"))
			}, event: events.Claimed,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			entry := eventstest.Bring(t, b.bus, projectPod, projectUser, tt.last)
			d := restarts(entry)
			if tt.cause != "" {
				d.Restart.Cause = tt.cause
			}
			if tt.between != nil {
				tt.between(t, b, entry)
			}
			for range 3 {
				if err := b.restart(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				d.Attempt++
			}
			after := b.last(t, projectPod)
			if d := cmp.Diff(tt.wish, after.Restart); d != "" || after.Event != tt.event {
				t.Errorf("the pod is %s, want %s; to be followed by (-want +got):\n%s", after.Event, tt.event, d)
			}
			if tt.last == events.Ready && tt.wish == wish && (after.Reason != "" || after.Message != wish.Message) {
				t.Errorf("reason %q, message %q", after.Reason, after.Message)
			}
			if got := b.deletes(t); len(got) != tt.deletes {
				t.Errorf("deletes: %+v", got)
			}
			var starts []string
			for _, c := range eventstest.Queued(t, b.server, events.StageCreate) {
				if c.User != projectUser || c.Create.Project == nil || c.Create.Project.ID != project {
					t.Errorf("queued: %+v", c)
				}
				starts = append(starts, c.ID)
			}
			if d := cmp.Diff(tt.starts, starts); d != "" {
				t.Errorf("starts (-want +got):\n%s", d)
			}
		})
	}
}

// TestRestartOfAPodThatIsForgotten: its history was purged, or the log was lost.
func TestRestartOfAPodThatIsForgotten(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	d := restarts(natsbus.Entry{Record: events.Record{Generation: "1-1"}})
	if err := b.restart(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if queued := eventstest.Queued(t, b.server, events.StageCreate); len(queued) != 1 || queued[0].ID != "next" {
		t.Errorf("queued: %+v", queued)
	}
}

// TestFailRestart: a wish that is in the log goes on, another one is refused.
func TestFailRestart(t *testing.T) {
	t.Parallel()
	for wished, want := range map[bool][3]string{true: {}, false: {"refused", "", "RETRIES_EXHAUSTED"}} {
		b := newBench(t)
		entry := eventstest.Bring(t, b.bus, projectPod, projectUser, events.Ready)
		d := restarts(entry)
		if wished {
			b.appendsTo(t, projectPod, events.Fact{Kind: events.FactDelete, Generation: entry.Generation, Restart: d.Restart})
		}
		for range 2 {
			if err := b.failRestart(t.Context(), d, events.RetriesExhausted, "x"); err != nil {
				t.Fatal(err)
			}
		}
		if got := b.outcome(t, "next"); got != want {
			t.Errorf("wished %t: outcome %v, want %v", wished, got, want)
		}
		if got := len(b.deletes(t)); (got == 1) != wished {
			t.Errorf("wished %t: %d deletes", wished, got)
		}
	}
}
