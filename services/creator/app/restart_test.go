package app

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/services/creator/internal/template"
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

// TestRestartAfterAStop: a wish for another pod is called off by a stop that whoever wished did not know of; one that is in
// the record hands on what it knew.
func TestRestartAfterAStop(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]events.Type{"it runs": events.Ready, "it is being stopped": events.Deleting, "it is gone": events.Gone} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			entry := eventstest.Bring(t, b.bus, projectPod, projectUser, last)
			d := restarts(entry)
			d.Restart.LastStop = new(uint64(0))
			stop := b.stops(t)
			if err := b.restart(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if got, want := b.outcome(t, "next"), [3]string{"refused", "", "DELETED"}; got != want {
				t.Errorf("outcome = %v, want %v", got, want)
			}
			if now := b.last(t, projectPod); now.Event != last || now.Restart != nil {
				t.Errorf("the pod is %s, to be followed by %+v", now.Event, now.Restart)
			}
			d.ID, d.Restart.Command, d.Restart.LastStop = "later", "later", &stop
			if err := b.restart(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			follows := b.last(t, projectPod).Restart
			for _, c := range eventstest.Queued(t, b.server, events.StageCreate) {
				follows = &events.Restart{Command: c.ID, LastStop: c.Create.Project.LastStop}
			}
			if follows == nil || follows.Command != "later" || follows.LastStop == nil || *follows.LastStop != stop {
				t.Errorf("followed by %+v, want what was asked for after the stop", follows)
			}
		})
	}
}

// TestRestartBesideAnotherWish: of two wishes for what follows a pod the first holds, but where there was a stop in between: that has ended
// the first, also where nobody has carried it out yet.
func TestRestartBesideAnotherWish(t *testing.T) {
	t.Parallel()
	const early, late = "another", "next"
	tests := map[string]struct {
		knows   bool         // Whoever wishes knows of the stop.
		both    bool         // Whoever wished first knew of it, too.
		cause   events.Cause // Asked where it is empty.
		last    events.Type
		wish    string // What the record says that follows.
		creates []string
	}{
		"a stop in between":                            {knows: true, last: events.Deleting, wish: late},
		"a stop before both":                           {knows: true, both: true, last: events.Deleting, wish: early},
		"nobody says when":                             {last: events.Deleting, wish: early},
		"it is gone, a stop in between":                {knows: true, last: events.Gone, wish: early, creates: []string{late}},
		"it is gone, a stop before both":               {knows: true, both: true, last: events.Gone, wish: early, creates: []string{early}},
		"it is gone, nobody says when":                 {last: events.Gone, wish: early, creates: []string{early}},
		"it is gone, a stop in between, licenses":      {knows: true, cause: events.CauseLicenses, last: events.Gone, wish: early},
		"it is gone, a stop before both, and licenses": {knows: true, both: true, cause: events.CauseLicenses, last: events.Gone, wish: early, creates: []string{early}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			entry := eventstest.Bring(t, b.bus, projectPod, projectUser, events.Ready)
			stop := b.stops(t)
			first := &events.Restart{Command: early, LastStop: new(uint64(0))}
			if tt.both {
				first.LastStop = &stop
			}
			facts := []events.Fact{{Kind: events.FactDelete, Generation: entry.Generation, Restart: first}}
			if tt.last == events.Gone {
				facts = append(facts, eventstest.Gone(entry.Generation))
			}
			b.appendsTo(t, projectPod, facts...)
			d := restarts(entry)
			if tt.cause != "" {
				d.Restart.Cause = tt.cause
			}
			if tt.knows {
				d.Restart.LastStop = &stop
			}
			for range 2 {
				if err := b.restart(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				d.Attempt++
			}
			if now := b.last(t, projectPod); now.Event != tt.last || now.Restart == nil || now.Restart.Command != tt.wish {
				t.Errorf("the pod is %s, to be followed by %+v; want %s and %s", now.Event, now.Restart, tt.last, tt.wish)
			}
			var creates []string
			for _, c := range eventstest.Queued(t, b.server, events.StageCreate) {
				creates = append(creates, c.ID)
				if known := c.Create.Project.LastStop; c.ID == late && (known == nil || *known != stop) {
					t.Errorf("it knows of the stop at %v, want %d", known, stop)
				}
			}
			if d := cmp.Diff(tt.creates, creates); d != "" {
				t.Errorf("creates (-want +got):\n%s", d)
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

// TestRestartWithoutATemplate: the pod that is there lives on where no other one could follow, and whoever wishes is told; what the
// keeper wishes can be wished again.
func TestRestartWithoutATemplate(t *testing.T) {
	t.Parallel()
	refused := [3]string{"refused", "", "TEMPLATE_INVALID"}
	tests := map[string]struct {
		cause   events.Cause
		last    events.Type
		wished  bool
		err     error
		again   bool
		outcome [3]string
		deletes int
	}{
		"somebody asks":                 {cause: events.CauseAsked, last: events.Ready, outcome: refused},
		"a hub asks":                    {cause: events.CauseHub, last: events.Ready, outcome: refused},
		"it is gone":                    {cause: events.CauseAsked, last: events.Gone, outcome: refused},
		"licenses have changed":         {cause: events.CauseLicenses, last: events.Ready},
		"the wish is in the log":        {cause: events.CauseAsked, last: events.Ready, wished: true, deletes: 1},
		"the keeper's is in the log":    {cause: events.CauseLicenses, last: events.Ready, wished: true, deletes: 1},
		"the template is not known yet": {cause: events.CauseAsked, last: events.Ready, err: template.ErrUnknown, again: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			entry := eventstest.Bring(t, b.bus, projectPod, projectUser, tt.last)
			d := restarts(entry)
			d.Restart.Cause = tt.cause
			event := tt.last
			if tt.wished {
				b.appendsTo(t, projectPod, events.Fact{Kind: events.FactDelete, Generation: entry.Generation, Restart: d.Restart})
				event = events.Deleting
			}
			b.templates.err = &template.Error{Message: "the template is broken"}
			if tt.err != nil {
				b.templates.err = tt.err
			}
			for range 2 {
				if err := b.restart(t.Context(), d); (err != nil) != tt.again {
					t.Fatal(err)
				}
				d.Attempt++
			}
			if got := b.outcome(t, "next"); got != tt.outcome {
				t.Errorf("outcome %v, want %v", got, tt.outcome)
			}
			if now := b.last(t, projectPod); now.Event != event {
				t.Errorf("the pod is %s, want %s", now.Event, event)
			}
			if got := len(b.deletes(t)); got != tt.deletes {
				t.Errorf("%d deletes, want %d", got, tt.deletes)
			}
			if got := len(eventstest.Queued(t, b.server, events.StageCreate)); got != 0 {
				t.Errorf("%d creates", got)
			}
		})
	}
}
