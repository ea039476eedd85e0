package app

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

const (
	project     = "0190f3e0-0000-7000-8000-000000000001"
	projectPod  = "project-" + project
	projectUser = "project:" + project
	nextID      = "next"
)

// running returns a deleter and a project whose pod is ready.
func running(t *testing.T) *bench {
	t.Helper()
	b := newBench(t, "")
	b.entry = eventstest.Bring(t, b.bus, projectPod, projectUser, events.Ready)
	b.pods.objects[projectPod] = "uid-" + projectPod
	return b
}

// wishes notes that another pod is to follow, as the creator does.
func (b *bench) wishes(t *testing.T) { t.Helper(); b.wishesAfter(t, nil) }

// wishesAfter has another pod follow, for somebody who knows of a stop.
func (b *bench) wishesAfter(t *testing.T, stop *uint64) {
	t.Helper()
	entry, _, err := b.bus.Append(t.Context(), projectPod, events.Fact{
		Kind: events.FactDelete, Generation: b.entry.Generation, At: time.Now(), Message: "asked for a restart",
		Restart: &events.Restart{Command: nextID, Cause: events.CauseAsked, LastStop: stop},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.entry = entry
}

func (b *bench) ofProject(request events.DeleteRequest) natsbus.Delivery {
	return natsbus.Delivery{Attempt: 1, Command: events.Command{
		Stage: events.StageDelete, ID: "cmd-" + projectPod, Cluster: eventstest.Cluster, User: projectUser, Pod: projectPod,
		Generation: b.entry.Generation, Delete: &request, After: b.entry.Known(),
	}}
}

// vanished is the news that the project's pod is no more.
func (b *bench) vanished() events.DeleteRequest {
	return events.DeleteRequest{Vanished: "uid-" + projectPod}
}

func (b *bench) last(t *testing.T) natsbus.Entry {
	t.Helper()
	entry, err := b.bus.Last(t.Context(), projectPod)
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

// follows says which starts are queued.
func (b *bench) follows(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, c := range eventstest.Queued(t, b.server, events.StageCreate) {
		if c.User != projectUser || c.Create.Project == nil || c.Create.Project.ID != project || c.Create.Project.Cause != events.CauseAsked {
			t.Errorf("queued: %+v", c)
		}
		got = append(got, c.ID)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("starts (-want +got):\n%s", d)
	}
}

// TestFollow: the pod that is to follow is asked for when the one before is gone, once,
// whatever is delivered again.
func TestFollow(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before func(t *testing.T, b *bench)
		want   []string
	}{
		"a restart": {func(t *testing.T, b *bench) {
			t.Helper()
			b.wishes(t)
			b.handled(t, b.ofProject(events.DeleteRequest{}))
			b.follows(t)
			b.handled(t, b.ofProject(b.vanished()))
		}, []string{nextID}},
		"a wish that comes during the delete": {func(t *testing.T, b *bench) {
			t.Helper()
			b.handled(t, b.ofProject(events.DeleteRequest{}))
			b.entry = b.last(t)
			news := b.ofProject(b.vanished()) // It does not know of the wish.
			b.wishes(t)
			b.handled(t, news)
		}, []string{nextID}},
		"its deleter died after gone": {func(t *testing.T, b *bench) {
			t.Helper()
			b.wishes(t)
			if _, _, err := b.bus.Append(t.Context(), projectPod, eventstest.Gone(b.entry.Generation)); err != nil {
				t.Fatal(err)
			}
			b.handled(t, b.ofProject(b.vanished()))
		}, []string{nextID}},
		"only the timer is left": {func(t *testing.T, b *bench) {
			t.Helper()
			b.wishes(t)
			if _, _, err := b.bus.Append(t.Context(), projectPod, eventstest.Gone(b.entry.Generation)); err != nil {
				t.Fatal(err)
			}
			b.handled(t, b.ofProject(events.DeleteRequest{Timer: events.TimerDelete}))
		}, []string{nextID}},
		"a stop": {func(t *testing.T, b *bench) {
			t.Helper()
			b.handled(t, b.ofProject(events.DeleteRequest{Stop: true, Reason: events.Idle, Message: "idle"}))
			if got := b.last(t); got.Event != events.Deleting || got.Reason != events.Idle || got.Message != "idle" {
				t.Errorf("%s: %s %q", got.Event, got.Reason, got.Message)
			}
			b.handled(t, b.ofProject(b.vanished()))
		}, nil},
		"a stop after the wish": {func(t *testing.T, b *bench) {
			t.Helper()
			b.wishes(t)
			b.handled(t, b.ofProject(events.DeleteRequest{}))
			b.handled(t, b.ofProject(events.DeleteRequest{Stop: true}))
			if got := b.last(t); got.Restart != nil {
				t.Errorf("to be followed by %+v", got.Restart)
			}
			b.handled(t, b.ofProject(b.vanished()))
		}, nil},
		"a stop whose sender knew of no wish": {func(t *testing.T, b *bench) {
			t.Helper()
			stop := b.ofProject(events.DeleteRequest{Stop: true})
			b.wishes(t)
			b.handled(t, stop)
			b.handled(t, b.ofProject(b.vanished()))
		}, nil},
		"a stop, and then a wish": {func(t *testing.T, b *bench) {
			t.Helper()
			b.handled(t, b.ofProject(events.DeleteRequest{Stop: true}))
			b.wishes(t)
			b.handled(t, b.ofProject(b.vanished()))
		}, []string{nextID}},
		"a stop that the wish came after": {func(t *testing.T, b *bench) {
			t.Helper()
			b.wishesAfter(t, new(uint64(5)))
			b.handled(t, b.ofProject(events.DeleteRequest{Stop: true, StopAt: 5}))
			if got := b.last(t); got.Event != events.Deleting || got.Restart == nil {
				t.Errorf("%s, to be followed by %+v", got.Event, got.Restart)
			}
			b.handled(t, b.ofProject(b.vanished()))
			b.handled(t, b.ofProject(events.DeleteRequest{Stop: true, StopAt: 5}))
			if o, err := b.bus.Outcome(t.Context(), nextID); err != nil || o.Verdict != "" {
				t.Errorf("what follows is %+v, %v", o, err)
			}
		}, []string{nextID}},
		"a stop that the wish came before": {func(t *testing.T, b *bench) {
			t.Helper()
			b.wishesAfter(t, new(uint64(5)))
			b.handled(t, b.ofProject(events.DeleteRequest{Stop: true, StopAt: 6}))
			b.handled(t, b.ofProject(b.vanished()))
		}, nil},
		"another generation": {func(t *testing.T, b *bench) {
			t.Helper()
			b.wishes(t)
			for _, fact := range []events.Fact{eventstest.Gone(b.entry.Generation), eventstest.Claim(projectPod, projectUser, nextID)} {
				if _, _, err := b.bus.Append(t.Context(), projectPod, fact); err != nil {
					t.Fatal(err)
				}
			}
			b.handled(t, b.ofProject(events.DeleteRequest{}))
		}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := running(t)
			tt.before(t, b)
			for range 3 {
				again := b.ofProject(b.vanished())
				again.Attempt = 2
				b.handled(t, again)
			}
			b.follows(t, tt.want...)
		})
	}
}

// TestStopAfterGone: what has been asked for to follow is refused, unless its pod has been
// accepted.
func TestStopAfterGone(t *testing.T) {
	t.Parallel()
	for accepted, want := range map[bool]events.Verdict{false: events.Refused, true: events.Accepted} {
		b := running(t)
		b.wishes(t)
		b.handled(t, b.ofProject(b.vanished()))
		b.follows(t, nextID)
		if accepted {
			o := events.Outcome{Verdict: events.Accepted, Command: nextID, User: projectUser, Pod: projectPod}
			if _, err := b.bus.Decide(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
		b.handled(t, b.ofProject(events.DeleteRequest{Stop: true}))
		if o, err := b.bus.Outcome(t.Context(), nextID); err != nil || o.Verdict != want {
			t.Errorf("accepted %t: %+v, %v", accepted, o, err)
		}
	}
}

// TestFollowWhenUnavailable: a pod is not given up that could not be asked for.
func TestFollowWhenUnavailable(t *testing.T) {
	t.Parallel()
	b := running(t)
	b.wishes(t)
	if _, _, err := b.bus.Append(t.Context(), projectPod, eventstest.Gone(b.entry.Generation)); err != nil {
		t.Fatal(err)
	}
	closed := eventstest.NewBus(t, b.server, "deleter")
	entry := b.last(t)
	closed.Close()
	d := &deleter{bus: closed}
	if err := d.follow(t.Context(), entry.Record, false); err == nil {
		t.Error("it was asked for without a broker")
	}
}

// TestAskToStop: a stop is no repetition of a delete that has been asked for already.
func TestAskToStop(t *testing.T) {
	t.Parallel()
	b := running(t)
	for _, request := range []events.DeleteRequest{{}, {}, {Stop: true}, {Stop: true}} {
		if err := b.bus.AskDelete(t.Context(), b.entry, request); err != nil {
			t.Fatal(err)
		}
	}
	if queued := eventstest.Queued(t, b.server, events.StageDelete); len(queued) != 2 || !queued[1].Delete.Stop {
		t.Errorf("queued: %+v", queued)
	}
}
