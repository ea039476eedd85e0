package app

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/services/deleter/internal/reap"
)

const (
	pod  = "notebook-alice"
	user = "alice@example.org"
	uid  = "uid-" + pod
)

// fakePods is a cluster that holds objects by UID.
type fakePods struct {
	mu      sync.Mutex
	objects map[string]string // Name to UID.
	lingers bool              // A deleted object stays for a while.
	err     error
	calls   []string
}

func (p *fakePods) Find(_ context.Context, name, _ string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, "find "+name)
	return p.objects[name], p.err
}

func (p *fakePods) Exists(_ context.Context, name, uid string) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, "exists "+name+" "+uid)
	return p.objects[name] == uid, p.err
}

func (p *fakePods) Delete(_ context.Context, name, uid string) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, "delete "+name+" "+uid)
	if p.err != nil {
		return false, p.err
	}
	if p.objects[name] != uid {
		return true, nil
	}
	if !p.lingers {
		delete(p.objects, name)
	}
	return false, nil
}

// bench is a deleter with a pod that has come to an event.
type bench struct {
	*deleter
	server *eventstest.Server
	bus    *natsbus.Bus
	pods   *fakePods
	entry  natsbus.Entry
}

func newBench(t *testing.T, last events.Type) *bench {
	t.Helper()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "deleter")
	b := &bench{server: server, bus: bus, pods: &fakePods{objects: map[string]string{}}}
	if last != "" {
		b.entry = eventstest.Bring(t, bus, pod, user, last)
		if !b.entry.LaunchedAt.IsZero() && last != events.Gone {
			b.pods.objects[pod] = uid
		}
	}
	b.deleter = &deleter{
		bus: bus, pods: b.pods, objects: newFakeObjects(), timeoutDelete: time.Minute, launchAttempt: 100 * time.Hour * 24 * 365,
		limits: reap.Limits{Create: 90 * time.Second, CreateMax: 15 * time.Minute},
	}
	return b
}

// delivery is the delete command of the bench's pod.
func (b *bench) delivery(request events.DeleteRequest) natsbus.Delivery {
	return natsbus.Delivery{Attempt: 1, Command: events.Command{
		Stage: events.StageDelete, ID: "cmd-" + pod, Cluster: eventstest.Cluster, User: user, Pod: pod,
		Generation: b.entry.Generation, Delete: &request,
	}}
}

func (b *bench) event(t *testing.T) events.Record {
	t.Helper()
	entry, err := b.bus.Last(t.Context(), pod)
	if err != nil {
		t.Fatal(err)
	}
	return entry.Record
}

// timers are the kinds of the timers that are set.
func (b *bench) timers(t *testing.T) []events.Timer {
	t.Helper()
	var timers []events.Timer
	for _, a := range eventstest.Armed(t, b.server) {
		timers = append(timers, a.Timer)
	}
	return timers
}

func (b *bench) handled(t *testing.T, d natsbus.Delivery) {
	t.Helper()
	if err := b.handle(t.Context(), d); err != nil {
		t.Fatalf("handle %+v: %v", *d.Delete, err)
	}
}

// TestDeleteInEachState: a delete comes to its end from wherever the pod is,
// with the deliveries that the others send.
func TestDeleteInEachState(t *testing.T) {
	t.Parallel()
	for _, state := range []events.Type{
		events.Claimed, events.Licensed, events.Launching, events.Launched, events.Waiting, events.Running, events.Ready, events.Ended,
	} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, state)
			err := b.handle(t.Context(), b.delivery(events.DeleteRequest{}))
			switch state {
			case events.Claimed, events.Licensed:
				if err != nil {
					t.Fatal(err)
				}
			case events.Launching:
				// The creator may be at it: it says when it is not.
				if err == nil || b.event(t).Event != events.Deleting {
					t.Fatalf("handle = %v, and the pod is %s; want another try while a launch may be under way", err, b.event(t).Event)
				}
				b.handled(t, b.delivery(events.DeleteRequest{LaunchOver: true}))
			default:
				if err != nil {
					t.Fatal(err)
				}
				if got := b.event(t).Event; got != events.Deleting {
					t.Fatalf("the pod is %s before its object has vanished", got)
				}
				if timers := b.timers(t); !slices.Equal(timers, []events.Timer{events.TimerDelete}) {
					t.Errorf("timers = %v, want the one that drives the delete on", timers)
				}
				b.handled(t, b.delivery(events.DeleteRequest{Vanished: uid}))
			}
			if got := b.event(t).Event; got != events.Gone {
				t.Errorf("the pod is %s, want gone", got)
			}
			if timers := b.timers(t); len(timers) > 0 {
				t.Errorf("timers = %v after the end", timers)
			}
			if len(b.pods.objects) > 0 {
				t.Errorf("left in the cluster: %v", b.pods.objects)
			}
		})
	}
}

func TestDeleteAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, events.Ready)
	b.pods.lingers = true
	for range 3 {
		b.handled(t, b.delivery(events.DeleteRequest{}))
	}
	if got := b.event(t).Event; got != events.Deleting {
		t.Errorf("the pod is %s while its object is there", got)
	}
	b.pods.objects = map[string]string{}
	// Nobody saw it go; the timer asks.
	b.handled(t, b.delivery(events.DeleteRequest{Timer: events.TimerDelete}))
	if got := b.event(t).Event; got != events.Gone {
		t.Errorf("the pod is %s, want gone", got)
	}
	b.pods.calls = nil
	b.handled(t, b.delivery(events.DeleteRequest{Vanished: uid}))
	if len(b.pods.calls) > 0 {
		t.Errorf("after the end: %v", b.pods.calls)
	}
}

// TestDeleteOfAPodThatSomebodyReplaced touches the UID of the record alone.
func TestDeleteOfAPodThatSomebodyReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t, events.Ready)
	b.pods.objects[pod] = "uid-other"
	b.handled(t, b.delivery(events.DeleteRequest{}))
	if got := b.event(t).Event; got != events.Gone {
		t.Errorf("the pod is %s, want gone", got)
	}
	if b.pods.objects[pod] != "uid-other" {
		t.Error("somebody else's object was deleted")
	}
}

// TestDeleteDuringALaunch: the pod was made, and deleted before that was reported.
// The creator says that its launch is over; the pod takes a while to go.
func TestDeleteDuringALaunch(t *testing.T) {
	t.Parallel()
	b := newBench(t, events.Launching)
	b.pods.objects[pod], b.pods.lingers = uid, true
	for range 2 {
		if err := b.handle(t.Context(), b.delivery(events.DeleteRequest{LaunchOver: true})); err == nil {
			t.Fatal("handle = nil, and nobody remembers that the launch is over")
		}
	}
	delete(b.pods.objects, pod)
	if err := b.handle(t.Context(), b.delivery(events.DeleteRequest{Vanished: uid})); err == nil {
		t.Error("handle = nil; without the creator's word a launch may be under way")
	}
	b.handled(t, b.delivery(events.DeleteRequest{LaunchOver: true}))
	if got := b.event(t).Event; got != events.Gone {
		t.Errorf("the pod is %s, want gone", got)
	}
}

// TestVanishedOfAnEarlierPod: the log has no UID yet, and what vanished was an
// earlier pod of the name. The pod of this generation must be found and deleted.
func TestVanishedOfAnEarlierPod(t *testing.T) {
	t.Parallel()
	b := newBench(t, events.Launching)
	b.pods.objects[pod] = uid
	b.handled(t, b.delivery(events.DeleteRequest{Vanished: "uid-earlier"}))
	if d := cmp.Diff([]string{"find " + pod, "delete " + pod + " " + uid}, b.pods.calls); d != "" {
		t.Errorf("calls (-want +got):\n%s", d)
	}
	if got := b.event(t).Event; got != events.Deleting {
		t.Errorf("the pod is %s, want deleting", got)
	}
}

// TestLaunchThatNobodyReports: the creator died. After the time of one attempt
// nothing will appear any more.
func TestLaunchThatNobodyReports(t *testing.T) {
	t.Parallel()
	b := newBench(t, events.Launching)
	b.launchAttempt = time.Millisecond // The record is from long ago.
	b.handled(t, b.delivery(events.DeleteRequest{}))
	if got := b.event(t).Event; got != events.Gone {
		t.Errorf("the pod is %s, want gone", got)
	}
}

func TestDeleteWithoutTheCluster(t *testing.T) {
	t.Parallel()
	for _, state := range []events.Type{events.Launching, events.Ready} {
		b := newBench(t, state)
		b.pods.err = errors.New("connection refused")
		if err := b.handle(t.Context(), b.delivery(events.DeleteRequest{})); !errors.Is(err, b.pods.err) {
			t.Errorf("handle = %v, want %v", err, b.pods.err)
		}
		if got := b.event(t).Event; got != events.Deleting {
			t.Errorf("the pod is %s; nobody knows if it is gone", got)
		}
		if timers := b.timers(t); !slices.Equal(timers, []events.Timer{events.TimerDelete}) {
			t.Errorf("timers = %v, want the one that drives the delete on", timers)
		}
	}
}

func TestCreateTimer(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		last   events.Type
		change func(*bench)
		want   events.Type
		reason events.Reason
		timers []events.Timer
	}{
		"too late":           {events.Claimed, func(*bench) {}, events.Gone, events.Timeout, nil},
		"too late, launched": {events.Running, func(*bench) {}, events.Deleting, events.Timeout, []events.Timer{events.TimerDelete}},
		"got further": {
			events.Running, func(b *bench) {
				b.limits.Create = time.Since(eventstest.Time()) + time.Hour
				b.limits.CreateMax = 2 * b.limits.Create
			},
			events.Running, events.Pulling,
			[]events.Timer{events.TimerCreate},
		},
		"ready in time":     {events.Ready, func(*bench) {}, events.Ready, "", nil},
		"deleted meanwhile": {events.Deleting, func(*bench) {}, events.Deleting, "", []events.Timer{events.TimerDelete}},
		"gone":              {events.Gone, func(*bench) {}, events.Gone, "", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.last)
			tt.change(b)
			if tt.last == events.Running {
				// What a pod waits for is part of the message.
				entry, _, err := b.bus.Append(t.Context(), pod, eventstest.Observe(b.entry.Generation, events.Observed{
					UID: uid, ResourceVersion: "109", Phase: "Running", Reason: events.Pulling, Message: "slow", Progress: 3,
				}))
				if err != nil {
					t.Fatal(err)
				}
				b.entry = entry
				if tt.want != events.Running {
					b.limits.CreateMax = time.Minute
				}
			}
			b.handled(t, b.delivery(events.DeleteRequest{Timer: events.TimerCreate}))
			got := b.event(t)
			if got.Event != tt.want || got.Reason != tt.reason {
				t.Errorf("the pod is %s %s (%s), want %s %s", got.Event, got.Reason, got.Message, tt.want, tt.reason)
			}
			if d := cmp.Diff(tt.timers, b.timers(t)); d != "" {
				t.Errorf("timers (-want +got):\n%s", d)
			}
		})
	}
}

// TestCreateTimerAgain: its first delivery failed the pod, and the deleter died.
func TestCreateTimerAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, events.Running)
	if _, _, err := b.bus.Append(t.Context(), pod, eventstest.Fail(b.entry.Generation, events.Timeout, "x")); err != nil {
		t.Fatal(err)
	}
	b.handled(t, b.delivery(events.DeleteRequest{Timer: events.TimerCreate}))
	if got := b.event(t); got.Event != events.Deleting || got.Reason != events.Timeout {
		t.Errorf("the pod is %s %s, want deleting, and why", got.Event, got.Reason)
	}
	if len(b.pods.objects) > 0 {
		t.Error("the object was not deleted")
	}
}

// TestOtherLives: a command of a pod that went, or of none, touches nothing but
// the object that it names.
func TestOtherLives(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		last    events.Type
		request events.DeleteRequest
		want    []string
	}{
		"no record":                    {"", events.DeleteRequest{}, nil},
		"another generation":           {events.Ready, events.DeleteRequest{}, nil},
		"another generation, a timer":  {events.Ready, events.DeleteRequest{Timer: events.TimerCreate}, nil},
		"an object without a record":   {"", events.DeleteRequest{Found: "uid-stray"}, []string{"delete " + pod + " uid-stray"}},
		"an object of a pod that went": {events.Gone, events.DeleteRequest{Found: "uid-stray"}, []string{"delete " + pod + " uid-stray"}},
		"an object of an earlier pod":  {events.Ready, events.DeleteRequest{Found: "uid-stray"}, []string{"delete " + pod + " uid-stray"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.last)
			d := b.delivery(tt.request)
			d.Generation = "1767323045000000000-1"
			b.handled(t, d)
			if d := cmp.Diff(tt.want, b.pods.calls); d != "" {
				t.Errorf("calls (-want +got):\n%s", d)
			}
			if got := b.event(t).Event; got != tt.last {
				t.Errorf("the pod is %q, want %q still", got, tt.last)
			}
			b.pods.err = errors.New("connection refused")
			if err := b.handle(t.Context(), d); (err != nil) != (tt.want != nil) {
				t.Errorf("handle = %v without the cluster", err)
			}
		})
	}
}

func TestFail(t *testing.T) {
	t.Parallel()
	for state, want := range map[events.Type]int{events.Deleting: 1, events.Ready: 0, events.Gone: 0} {
		b := newBench(t, state)
		if err := b.fail(t.Context(), b.delivery(events.DeleteRequest{}), events.RetriesExhausted, "x"); err != nil {
			t.Fatal(err)
		}
		if got := b.event(t).Event; got != state {
			t.Errorf("the pod is %s; a delete never ends in a failure", got)
		}
		if timers := b.timers(t); len(timers) != want {
			t.Errorf("%s: timers = %v, want %d", state, timers, want)
		}
	}
}

// TestDeletersRace: replicas and redeliveries at once make one gone.
func TestDeletersRace(t *testing.T) {
	t.Parallel()
	b := newBench(t, events.Ready)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			d := b.delivery(events.DeleteRequest{})
			if i%2 == 1 {
				d.Delete.Timer = events.TimerDelete
			}
			if err := b.handle(t.Context(), d); err != nil {
				t.Errorf("handle: %v", err)
			}
		})
	}
	group.Wait()
	b.handled(t, b.delivery(events.DeleteRequest{Timer: events.TimerDelete}))
	if got := b.event(t); got.Event != events.Gone || got.Generation != b.entry.Generation {
		t.Errorf("the pod is %s of %s", got.Event, got.Generation)
	}
}

// TestStaleNews: what the sender of a delete knew of the pod is out of date, or
// about something else. The log decides.
func TestStaleNews(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		last  events.Type
		known func(ready events.Known) *events.Known
		want  events.Type
	}{
		"an older record": {events.Ready, func(k events.Known) *events.Known {
			k.Sequence--
			k.Record.Event = events.Running
			return &k
		}, events.Deleting},
		"a record that was never written": {events.Ready, func(k events.Known) *events.Known {
			k.Sequence += 100
			return &k
		}, events.Deleting},
		"another pod's": {events.Ready, func(k events.Known) *events.Known {
			k.Record.Pod, k.Record.Event = "other", events.Gone
			return &k
		}, events.Deleting},
		"gone meanwhile": {events.Gone, func(k events.Known) *events.Known {
			k.Sequence--
			k.Record.Event = events.Deleting
			return &k
		}, events.Gone},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.last)
			d := b.delivery(events.DeleteRequest{})
			d.After = tt.known(events.Known{Sequence: b.entry.Sequence, Record: b.entry.Record})
			b.handled(t, d)
			if got := b.event(t).Event; got != tt.want {
				t.Errorf("the pod is %s, want %s", got, tt.want)
			}
			last, err := b.bus.Last(t.Context(), pod)
			if err != nil {
				t.Fatal(err)
			}
			if want := b.entry.Sequence + 1; tt.want == events.Deleting && last.Sequence != want {
				t.Errorf("the last record is %d, want %d", last.Sequence, want)
			}
		})
	}
}

// TestMisleadingNews: nothing is removed because a command says so and the log
// does not.
func TestMisleadingNews(t *testing.T) {
	t.Parallel()
	deleting := func(b *bench) *events.Known {
		r := b.entry.Record
		r.Event = events.Deleting
		return &events.Known{Sequence: b.entry.Sequence + 7, Record: r}
	}
	tests := map[string]func(b *bench, d *natsbus.Delivery){
		"a living pod taken for a stray": func(_ *bench, d *natsbus.Delivery) { d.Delete.Found = uid },
		"a stray, and a record that is not there": func(b *bench, d *natsbus.Delivery) {
			d.Delete.Found, d.After = uid, deleting(b)
		},
		"a record that is not there, and its end": func(b *bench, d *natsbus.Delivery) {
			d.Delete.Vanished, d.After = "uid-elsewhere", deleting(b)
			d.After.Record.Observed.UID = "uid-elsewhere"
		},
	}
	for name, mislead := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, events.Ready)
			d := b.delivery(events.DeleteRequest{})
			mislead(b, &d)
			if err := b.handle(t.Context(), d); err != nil {
				t.Logf("handle: %v", err)
			}
			if len(b.pods.calls) > 0 || len(b.pods.objects) != 1 {
				t.Errorf("asked of the cluster: %v", b.pods.calls)
			}
			if got := b.event(t).Event; got != events.Ready {
				t.Errorf("the pod is %s, want ready", got)
			}
		})
	}
	// The log is empty, and not compared with the cluster yet: nothing is removed.
	b := newBench(t, events.Deleting)
	d := b.delivery(events.DeleteRequest{})
	d.After = b.entry.Known()
	b.bus = eventstest.NewBus(t, eventstest.NewServer(t), "deleter")
	b.deleter.bus = b.bus
	b.handled(t, d)
	if len(b.pods.calls) > 0 {
		t.Errorf("asked of the cluster with an empty log: %v", b.pods.calls)
	}
}
