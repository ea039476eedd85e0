package natsbus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

// fill writes the records of n pods, one of each event, as fast as it goes.
func fill(tb testing.TB, js jetstream.JetStream, n int, each ...events.Type) {
	tb.Helper()
	var acks []jetstream.PubAckFuture
	for i := range n {
		for _, event := range each {
			r := eventstest.Record(event, func(r *events.Record) {
				r.Pod, r.User, r.Command = fmt.Sprintf("pod-%d", i), fmt.Sprintf("user-%d", i%100), fmt.Sprintf("cmd-%d", i)
				if event == events.Claimed {
					r.Generation = ""
				}
				if event == events.Ready {
					r.Observed = eventstest.Ready("uid", "1")
					r.Observed.IPs = []string{fmt.Sprintf("10.0.%d.%d", i/250, i%250)}
				}
			})
			b, err := (events.Event{ID: fmt.Sprintf("%d-%s", i, event), Source: "test", Time: time.Now(), Record: &r}).Marshal()
			if err != nil {
				tb.Fatal(err)
			}
			ack, err := js.PublishMsgAsync(&nats.Msg{Subject: events.PodSubject(r.Cluster, r.Pod, r.User, r.Event), Data: b})
			if err != nil {
				tb.Fatal(err)
			}
			acks = append(acks, ack)
		}
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			tb.Fatal(err)
		}
	}
}

func TestTableSnapshot(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "api")
	eventstest.MarkComplete(t, bus)
	const pods = 2000
	fill(t, rawJetStream(t, server), pods, events.Claimed, events.Ready)
	eventstest.Bring(t, bus, "claimed", "alice", events.Claimed)
	elsewhere := eventstest.NewBus(t, server, "creator", eventstest.InCluster("elsewhere"))
	eventstest.Bring(t, elsewhere, "elsewhere", "alice", events.Claimed)

	var told []natsbus.Entry
	table := bus.NewTable(false, func(e natsbus.Entry) { told = append(told, e) })
	stop := eventstest.Go(t, table.Run)
	eventstest.Eventually(t, "the table is ready", func() bool { return table.Ready() == nil })
	all, err := table.Snapshot()
	if err != nil || len(all) != pods+1 || len(table.Pods()) != pods+1 || table.Skipped() != 0 {
		t.Fatalf("%d pods, %d skipped, error %v, want %d", len(all), table.Skipped(), err, pods+1)
	}
	if !slices.IsSortedFunc(all, func(a, b natsbus.Entry) int { return strings.Compare(a.Pod, b.Pod) }) {
		t.Error("the pods are not in order")
	}
	if e, ok := table.Pod("pod-7"); !ok || e.Event != events.Ready || e.Sequence == 0 || e.EventID != "7-ready" {
		t.Errorf("pod-7 is %+v, %t", e, ok)
	}
	if got := table.User("user-7"); len(got) != pods/100 || got[0].User != "user-7" {
		t.Errorf("user-7 has %d pods, want %d", len(got), pods/100)
	}
	if e, ok := table.Command("cmd-7"); !ok || e.Pod != "pod-7" {
		t.Errorf("cmd-7 made %s, %t", e.Pod, ok)
	}
	if got := table.Address("10.0.1.3"); len(got) != 1 || got[0].Pod != "pod-253" {
		t.Errorf("10.0.1.3 has %v", got)
	}
	created, err := bus.Created(t.Context())
	if err != nil || table.Created() != created.UnixNano() {
		t.Errorf("created %d, error %v, want %d", table.Created(), err, created.UnixNano())
	}
	// The record of a claim cannot carry the generation; the table fills it in.
	if e, _ := table.Pod("claimed"); e.Generation != events.At(created, e.Sequence).String() {
		t.Errorf("generation %q of the record at %d", e.Generation, e.Sequence)
	}
	stop()
	if !slices.IsSortedFunc(told, func(a, b natsbus.Entry) int { return int(a.Sequence) - int(b.Sequence) }) || len(told) != pods+1 {
		t.Errorf("%d records were told, or not in the order of the log", len(told))
	}
}

// The indexes follow what a pod's records say, and nothing is left of a name's
// former user.
func TestTableIndexes(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "api")
	eventstest.MarkComplete(t, bus)
	table := bus.NewTable(false, nil)
	eventstest.RunTable(t, table)
	until := func(what string, condition func() bool) {
		t.Helper()
		eventstest.Eventually(t, what, condition)
	}
	e := eventstest.Bring(t, bus, "p", "alice", events.Ready)
	until("alice's pod is ready", func() bool { return len(table.Address("10.0.0.1")) == 1 })
	moved := eventstest.Observe(e.Generation, eventstest.Ready("uid-p", "200"))
	moved.Observed.IPs = []string{"10.0.0.2", "fd00::2"}
	if _, _, err := bus.Append(t.Context(), "p", moved); err != nil {
		t.Fatal(err)
	}
	until("it has moved", func() bool { return len(table.Address("fd00::2")) == 1 })
	if got := table.Address("10.0.0.1"); len(got) != 0 {
		t.Errorf("the address that it had still has %v", got)
	}
	for _, f := range []events.Fact{eventstest.Delete(e.Generation), eventstest.Gone(e.Generation)} {
		if _, _, err := bus.Append(t.Context(), "p", f); err != nil {
			t.Fatal(err)
		}
	}
	until("it is gone", func() bool { return len(table.User("alice")) == 0 })
	if got, ok := table.Pod("p"); !ok || got.Event != events.Gone {
		t.Errorf("a pod that has just gone is %+v, %t", got, ok)
	}
	if len(table.Pods()) != 0 || len(table.Address("10.0.0.2")) != 0 {
		t.Error("a pod that is gone is listed")
	}
	if _, _, err := bus.Append(t.Context(), "p", eventstest.Claim("p", "bob", "cmd-2")); err != nil {
		t.Fatal(err)
	}
	until("bob has the name", func() bool { return len(table.User("bob")) == 1 })
	if _, ok := table.Command("cmd-p"); ok || len(table.User("alice")) != 0 || len(table.Address("fd00::2")) != 0 {
		t.Error("something is left of alice's")
	}
	if users, commands, addresses := table.Indexed(); users != 1 || commands != 1 || addresses != 0 {
		t.Errorf("%d users, %d commands and %d addresses are indexed, want 1, 1, 0", users, commands, addresses)
	}
}

func TestTableAwait(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "api")
	table := bus.NewTable(false, nil)
	is := func(want events.Type) func(natsbus.Entry) bool {
		return func(e natsbus.Entry) bool { return e.Event == want }
	}
	none := func(e natsbus.Entry) bool { return e.Sequence == 0 }
	if _, err := table.Await(t.Context(), "p", none); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("before the table is read: error %v, want ErrUnavailable", err)
	}
	eventstest.Go(t, table.Run)
	eventstest.Eventually(t, "the table is loaded", func() bool { return table.Loaded() == nil })
	if _, err := table.Await(t.Context(), "p", none); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("before the comparison with the cluster: error %v, want ErrUnavailable", err)
	}
	eventstest.MarkComplete(t, bus)
	eventstest.Eventually(t, "the table is ready", func() bool { return table.Ready() == nil })
	if e, err := table.Await(t.Context(), "p", none); err != nil || e.Sequence != 0 {
		t.Errorf("there is none: %+v, error %v", e, err)
	}

	present := eventstest.Bring(t, bus, "p", "u", events.Ready)
	eventstest.Eventually(t, "the pod is ready", func() bool { e, _ := table.Pod("p"); return e.Event == events.Ready })
	if e, err := table.Await(t.Context(), "p", is(events.Ready)); err != nil || e.Sequence != present.Sequence {
		t.Errorf("what is there: %+v, error %v", e, err)
	}

	// Many wait for one pod; each sees the newest record, and perhaps not all.
	const waiters = 50
	var running sync.WaitGroup
	for range waiters {
		running.Go(func() {
			last := uint64(0)
			e, err := table.Await(t.Context(), "later", func(e natsbus.Entry) bool {
				if e.Sequence < last {
					t.Errorf("the wait went back from %d to %d", last, e.Sequence)
				}
				last = e.Sequence
				return e.Event == events.Gone
			})
			if err != nil || e.Event != events.Gone {
				t.Errorf("later: %s, error %v", e.Event, err)
			}
		})
	}
	eventstest.Eventually(t, "all wait", func() bool { return table.Waiting() == waiters })
	eventstest.Bring(t, bus, "later", "u", events.Gone)
	running.Wait()

	// Somebody leaves.
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the client has gone")
	left := make(chan error, 1)
	go func() {
		_, err := table.Await(ctx, "p", is(events.Gone))
		left <- err
	}()
	eventstest.Eventually(t, "it waits", func() bool { return table.Waiting() == 1 })
	cancel(reason)
	if err := eventstest.Receive(t, "the wait ends", left); !errors.Is(err, reason) {
		t.Errorf("error %v, want the context's cause", err)
	}
	if n := table.Waiting(); n != 0 {
		t.Errorf("%d are still registered", n)
	}
}

func TestTableOutcomes(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "api")
	eventstest.MarkComplete(t, bus)
	table := bus.NewTable(true, nil)
	eventstest.RunTable(t, table)
	expected := table.ExpectOutcome("expected")
	decide := func(v events.Verdict, command string) {
		t.Helper()
		if _, err := bus.Decide(t.Context(), events.Outcome{Verdict: v, Command: command, Pod: "p"}); err != nil {
			t.Fatal(err)
		}
	}
	if o, err := expected.Now(); err != nil || o.Verdict != "" {
		t.Errorf("before it is decided: %v, error %v", o, err)
	}
	decide(events.Accepted, "nobody waits for this")
	decide(events.Accepted, "expected")
	decide(events.Refused, "expected")
	eventstest.Eventually(t, "the correction comes", func() bool { o, err := expected.Now(); return err == nil && o.Verdict == events.Refused })
	if n := table.Waiting(); n != 2 {
		t.Errorf("%d are kept, want one waiter and one outcome", n)
	}
	expected.Close()
	if n := table.Waiting(); n != 0 {
		t.Errorf("%d are kept, want none", n)
	}

	// An outcome that comes while the reader has no connection is not missed.
	other := table.ExpectOutcome("while away")
	defer other.Close()
	server.Restart()
	eventstest.Eventually(t, "the outcome is decided", func() bool {
		_, err := bus.Decide(t.Context(), events.Outcome{Verdict: events.Expiry, Command: "while away"})
		return err == nil
	})
	eventstest.Eventually(t, "the outcome comes", func() bool { o, err := other.Now(); return err == nil && o.Verdict == events.Expiry })
}

// A reader that lags must not deny what the leader knows, and what is read from
// the leader must not disturb the order in which changes are told.
func TestTableFresh(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	creator := eventstest.NewBus(t, server, "creator")
	// As long as that a list waits for a table that lags.
	bus := eventstest.NewBus(t, server, "api", func(o *natsbus.Options) { o.RequestTimeout = 5 * time.Second })
	eventstest.MarkComplete(t, creator)
	lag := make(chan struct{})
	var mu sync.Mutex
	var told []events.Type
	table := bus.NewTable(false, func(e natsbus.Entry) {
		if e.Pod == "lag" {
			<-lag
		}
		mu.Lock()
		defer mu.Unlock()
		if e.Pod == "p" {
			told = append(told, e.Event)
		}
	})
	eventstest.RunTable(t, table)
	eventstest.Bring(t, creator, "lag", "nobody", events.Claimed)
	eventstest.Eventually(t, "the reader stands still", func() bool { _, ok := table.Pod("lag"); return ok })

	first := eventstest.Bring(t, creator, "p", "alice", events.Licensed)
	second := eventstest.Bring(t, creator, "q", "alice", events.Claimed)
	if _, ok := table.Pod("p"); ok {
		t.Fatal("the table does not lag")
	}
	woken := make(chan natsbus.Entry, 1)
	go func() {
		e, err := table.Await(t.Context(), "p", func(e natsbus.Entry) bool { return e.Sequence != 0 })
		if err != nil {
			t.Errorf("await: %v", err)
		}
		woken <- e
	}()
	eventstest.Eventually(t, "somebody waits", func() bool { return table.Waiting() == 1 })
	e, err := table.Fresh(t.Context(), "p")
	if diff := diffEntries(first, e); err != nil || diff != "" {
		t.Errorf("fresh, error %v (-want +got):\n%s", err, diff)
	}
	if e := eventstest.Receive(t, "the wait ends", woken); e.Sequence != first.Sequence {
		t.Errorf("the wait ended with %+v", e)
	}
	if of, err := table.FreshOf(t.Context(), e.User, "p"); err != nil || of.Sequence != e.Sequence {
		t.Errorf("of its user: %d, want %d, error %v", of.Sequence, e.Sequence, err)
	}
	if of, err := table.FreshOf(t.Context(), "another", "p"); err != nil || of.Sequence != 0 {
		t.Errorf("of another user: %d, error %v", of.Sequence, err)
	}
	if e, err := table.Fresh(t.Context(), "never"); err != nil || e.Sequence != 0 {
		t.Errorf("fresh of nothing: %+v, error %v", e, err)
	}
	// A list needs all of it: it is not given while some may be missing.
	if pods, err := table.FreshUser(t.Context(), "alice"); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("the list of a table that lags: %d, error %v, want ErrUnavailable", len(pods), err)
	}
	if pods, err := table.FreshUser(t.Context(), "stranger"); err != nil || len(pods) != 0 {
		t.Errorf("the list of somebody without pods: %d, error %v", len(pods), err)
	}
	lists := make(chan []natsbus.Entry, 1)
	go func() {
		for {
			pods, err := table.FreshUser(t.Context(), "alice")
			if err == nil || !errors.Is(err, natsbus.ErrUnavailable) {
				lists <- pods
				return
			}
		}
	}()
	eventstest.Eventually(t, "somebody waits for the list", func() bool { return table.Waiting() == 1 })
	close(lag)
	pods := eventstest.Receive(t, "the list comes", lists)
	if len(pods) != 2 || pods[0].Sequence != first.Sequence || pods[1].Sequence != second.Sequence {
		t.Errorf("the list is %+v", pods)
	}
	eventstest.Eventually(t, "all is told", func() bool { mu.Lock(); defer mu.Unlock(); return slices.Contains(told, events.Licensed) })
	if diff := cmp.Diff([]events.Type{events.Claimed, events.Licensed}, told); diff != "" && !readAgain(table) {
		t.Errorf("changes told (-want +got):\n%s", diff)
	}
	if n := table.Waiting(); n != 0 {
		t.Errorf("%d are still registered", n)
	}
}

// readAgain says that a table has read the log more than once: on a machine that is busy it may miss its signs of life. Of what is new
// since, only the newest of each pod is told then.
func readAgain(table *natsbus.Table) bool { return table.Epoch().Loads > 1 }

// Many read fresh while the table follows: each change is told once, in order.
func TestTableTellsInOrder(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "api")
	eventstest.MarkComplete(t, bus)
	told := make(chan natsbus.Entry, 1000)
	table := bus.NewTable(false, func(e natsbus.Entry) { told <- e })
	eventstest.RunTable(t, table)
	creator := eventstest.NewBus(t, server, "creator")
	const pods = 8
	done := make(chan struct{})
	var running sync.WaitGroup
	for i := range pods {
		running.Go(func() {
			name := fmt.Sprintf("pod-%d", i)
			for seen := uint64(0); ; {
				e, err := table.Fresh(t.Context(), name)
				now, _ := table.Pod(name)
				if err != nil || e.Sequence < seen || now.Sequence < e.Sequence {
					t.Errorf("%s: fresh %d, the table has %d, error %v", name, e.Sequence, now.Sequence, err)
					return
				}
				seen = e.Sequence
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range pods {
		eventstest.Bring(t, creator, fmt.Sprintf("pod-%d", i), "u", events.Gone)
	}
	last := uint64(0)
	got := map[string][]events.Type{}
	for gone := 0; gone < pods; {
		e := eventstest.Receive(t, "a change is told", told)
		if e.Sequence <= last {
			t.Errorf("%d was told after %d", e.Sequence, last)
		}
		last = e.Sequence
		got[e.Pod] = append(got[e.Pod], e.Event)
		if e.Event == events.Gone {
			gone++
		}
	}
	close(done)
	running.Wait()
	for name, types := range got {
		if diff := cmp.Diff(wholeLife(), types); diff != "" && !readAgain(table) {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// What this version cannot read is skipped and counted; what it could read of
// the pod before still holds.
func TestTableSkipsWhatItCannotRead(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "api")
	eventstest.MarkComplete(t, bus)
	js := rawJetStream(t, server)
	raw := func(subject, data string) {
		t.Helper()
		if _, err := js.Publish(t.Context(), subject, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	const later = `{"specversion":"1.0","id":"1","source":"s","type":"berth.pod.%s","time":"2026-01-02T03:04:05Z","data":{}}`
	write := func() {
		raw("pods.main.p.u.paused", fmt.Sprintf(later, "paused.v1"))
		raw("pods.main.p.u.ready", fmt.Sprintf(later, "ready.v2"))
		raw("pods.main.p.u.gone", "garbage")
		raw("pods.main.new.u.paused", fmt.Sprintf(later, "paused.v1"))
		raw("pods.main.too.many.tokens.ready", "garbage")
		raw("outcomes.main.cmd", "garbage")
	}
	e := eventstest.Bring(t, bus, "p", "u", events.Running)
	write()
	check := func(table *natsbus.Table, skipped uint64) {
		t.Helper()
		eventstest.Eventually(t, "all are counted", func() bool {
			// They are counted again where they are read again.
			return table.Skipped() == skipped || readAgain(table) && table.Skipped() > skipped
		})
		if got, ok := table.Pod("p"); !ok || got.Sequence != e.Sequence {
			t.Errorf("the table has %+v, %t, want %+v", got, ok, e)
		}
		if got, ok := table.Pod("new"); ok {
			t.Errorf("the table has %+v of what it cannot read", got)
		}
		if _, err := table.Fresh(t.Context(), "new"); err == nil {
			t.Error("a pod that nobody can read is denied")
		}
	}
	table := bus.NewTable(true, nil)
	waits := table.ExpectOutcome("cmd")
	defer waits.Close()
	eventstest.RunTable(t, table)
	check(table, 6)
	write()
	check(table, 12)
	good := eventstest.Bring(t, bus, "good", "u", events.Claimed)
	eventstest.Eventually(t, "the table goes on", func() bool { got, _ := table.Pod("good"); return got.Sequence == good.Sequence })
	if o, err := waits.Now(); err != nil || o.Verdict != "" {
		t.Errorf("an outcome that nobody can read is %v, error %v", o, err)
	}
}
