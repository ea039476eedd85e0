package natsbus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

func diffEntries(want, got natsbus.Entry) string {
	return cmp.Diff(want, got, cmp.AllowUnexported(events.Record{}, events.Observed{}))
}

func TestAppend(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator")
	ctx := natsbus.WithTraceparent(t.Context(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	const pod = "jupyter-alice"

	if e, err := bus.Last(ctx, pod); err != nil || e.Sequence != 0 {
		t.Fatalf("an unknown pod has %+v, error %v", e, err)
	}
	claimed, changed, err := bus.Append(ctx, pod, eventstest.Claim(pod, "alice@dtu.dk", "cmd"))
	if err != nil || !changed {
		t.Fatalf("claim: changed %t, error %v", changed, err)
	}
	created, err := bus.Created(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if want := events.At(created, claimed.Sequence).String(); claimed.Generation != want {
		t.Errorf("generation %s, want the position %s", claimed.Generation, want)
	}
	read, err := bus.Last(ctx, pod)
	if diff := diffEntries(claimed, read); err != nil || diff != "" {
		t.Errorf("what was written is not what is read, error %v (-want +got):\n%s", err, diff)
	}

	again, changed, err := bus.Append(ctx, pod, eventstest.Claim(pod, "alice@dtu.dk", "cmd"))
	if diff := diffEntries(claimed, again); err != nil || changed || diff != "" {
		t.Errorf("the claim again: changed %t, error %v (-want +got):\n%s", changed, err, diff)
	}
	other, changed, err := bus.Append(ctx, pod, eventstest.Claim(pod, "bob@dtu.dk", "another"))
	if diff := diffEntries(claimed, other); !errors.Is(err, events.ErrTaken) || changed || diff != "" {
		t.Errorf("a rival's claim: changed %t, error %v, want ErrTaken and who has it (-want +got):\n%s", changed, err, diff)
	}
	licensed, changed, err := bus.AppendAfter(ctx, claimed, pod, eventstest.License(claimed.Generation))
	if err != nil || !changed || licensed.Event != events.Licensed || licensed.Generation != claimed.Generation {
		t.Errorf("license: %+v, changed %t, error %v", licensed, changed, err)
	}
	last, err := bus.LastOfUser(ctx, "alice@dtu.dk")
	if diff := diffEntries(licensed, last); err != nil || diff != "" {
		t.Errorf("the user's last, error %v (-want +got):\n%s", err, diff)
	}

	all, err := bus.History(ctx, pod)
	if err != nil || len(all) != 2 || diffEntries(claimed, all[0])+diffEntries(licensed, all[1]) != "" {
		t.Errorf("the history is %+v, error %v", all, err)
	}

	s, err := rawJetStream(t, server).Stream(ctx, events.LogStream)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := s.GetMsg(ctx, claimed.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	e, err := events.Parse(msg.Data)
	if err != nil || e.Source != "berth/creator/test" || e.Traceparent != natsbus.Traceparent(ctx) || e.Record.Generation != "" {
		t.Errorf("the event on the wire is %+v, error %v", e, err)
	}
	if want := "pods.main.jupyter-alice.alice@dtu%2Edk.claimed"; msg.Subject != want {
		t.Errorf("subject %s, want %s", msg.Subject, want)
	}
}

// A caller that remembers an old record gets the answer that the log gives.
func TestAppendAfterStaleEntry(t *testing.T) {
	t.Parallel()
	bus := eventstest.NewBus(t, eventstest.NewServer(t), "creator")
	claimed := eventstest.Bring(t, bus, "p", "u", events.Claimed)
	g := claimed.Generation
	var now natsbus.Entry
	for _, f := range []events.Fact{eventstest.License(g), eventstest.Launch(g), eventstest.Launched(g, "uid"), eventstest.Delete(g)} {
		var err error
		if now, _, err = bus.Append(t.Context(), "p", f); err != nil {
			t.Fatal(err)
		}
	}
	later := claimed
	later.Event = events.Gone
	tests := map[string]struct {
		entry   natsbus.Entry
		fact    events.Fact
		wantErr error
	}{
		"a launch that would follow is over":      {claimed, eventstest.License(g), events.ErrOver},
		"a launch that could not follow yet":      {claimed, eventstest.Launch(g), events.ErrOver},
		"nothing is known":                        {natsbus.Entry{}, eventstest.Launch(g), events.ErrOver},
		"nothing is known of a rival":             {natsbus.Entry{}, eventstest.Claim("p", "v", "another"), events.ErrTaken},
		"the pod of before was gone":              {later, eventstest.Claim("p", "v", "another"), events.ErrTaken},
		"the delete is there already":             {claimed, eventstest.Delete(g), nil},
		"the fact is about the pod of before":     {claimed, eventstest.Delete("1-1"), events.ErrGeneration},
		"the entry is of a generation long gone":  {natsbus.Entry{Record: eventstest.Record(events.Ready)}, eventstest.Delete(g), nil},
		"the own claim is found beside the entry": {later, eventstest.Claim("p", "u", "cmd-p"), nil},
	}
	for name, tc := range tests {
		got, changed, err := bus.AppendAfter(t.Context(), tc.entry, "p", tc.fact)
		if diff := diffEntries(now, got); changed || !errors.Is(err, tc.wantErr) || diff != "" {
			t.Errorf("%s: changed %t, error %v, want %v (-want +got):\n%s", name, changed, err, tc.wantErr, diff)
		}
	}
}

func TestAppendRefusesWhatNobodyCouldRead(t *testing.T) {
	t.Parallel()
	bus := eventstest.NewBus(t, eventstest.NewServer(t), "creator")
	tests := map[string]struct {
		change func(*events.Fact)
		want   error
	}{
		"too large":              {func(f *events.Fact) { f.Record.Warnings = []string{strings.Repeat("x", events.MaxEvent)} }, events.ErrTooLarge},
		"a user as long as that": {func(f *events.Fact) { f.Record.User = strings.Repeat(">", 1500) }, events.ErrTooLarge},
		"no user":                {func(f *events.Fact) { f.Record.User = "" }, events.ErrMalformed},
		"another pod":            {func(f *events.Fact) { f.Record.Pod = "q" }, events.ErrMalformed},
		"another cluster":        {func(f *events.Fact) { f.Record.Cluster = "another" }, events.ErrMalformed},
	}
	for name, tc := range tests {
		f := eventstest.Claim("p", "u", "cmd")
		tc.change(&f)
		if _, changed, err := bus.Append(t.Context(), "p", f); changed || !errors.Is(err, tc.want) || errors.Is(err, natsbus.ErrUnavailable) {
			t.Errorf("%s: changed %t, error %v, want %v", name, changed, err, tc.want)
		}
	}
	if _, err := bus.Decide(t.Context(), events.Outcome{Verdict: "postponed", Command: "c"}); !errors.Is(err, events.ErrUnknownType) || errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("an unknown verdict: error %v", err)
	}
	if err := bus.Connected(); err != nil {
		t.Errorf("the connection suffered: %v", err)
	}
}

// A record that this version cannot read must not be taken for none.
func TestLastOfALaterVersion(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator")
	e := eventstest.Bring(t, bus, "p", "u", events.Ready)
	js := rawJetStream(t, server)
	const paused = `{"specversion":"1.0","id":"1","source":"s","type":"berth.pod.paused.v1","time":"2026-01-02T03:04:05Z","data":{}}`
	if _, err := js.Publish(t.Context(), events.PodSubject(eventstest.Cluster, "p", "u", "paused"), []byte(paused)); err != nil {
		t.Fatal(err)
	}
	if got, err := bus.Last(t.Context(), "p"); !errors.Is(err, events.ErrUnknownType) || got.Sequence != 0 {
		t.Errorf("last %+v, error %v, want ErrUnknownType", got, err)
	}
	if _, changed, err := bus.Append(t.Context(), "p", eventstest.Delete(e.Generation)); changed || !errors.Is(err, events.ErrUnknownType) {
		t.Errorf("append: changed %t, error %v, want ErrUnknownType", changed, err)
	}
	// A record in the wrong place is nobody's.
	wrong := eventstest.Record(events.Ready)
	b, err := (events.Event{ID: "2", Source: "s", Time: eventstest.Time(), Record: &wrong}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), events.PodSubject(eventstest.Cluster, "q", "u", events.Ready), b); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Last(t.Context(), "q"); !errors.Is(err, events.ErrMalformed) {
		t.Errorf("a record that contradicts its subject: error %v, want ErrMalformed", err)
	}
}

func TestClaimed(t *testing.T) {
	t.Parallel()
	bus := eventstest.NewBus(t, eventstest.NewServer(t), "creator")
	const pod = "p"
	for _, c := range []struct{ user, command string }{{"u", "first"}, {"u", "second"}, {"v", "third"}} {
		e, _, err := bus.Append(t.Context(), pod, eventstest.Claim(pod, c.user, c.command))
		for _, f := range []events.Fact{eventstest.Delete(e.Generation), eventstest.Gone(e.Generation)} {
			if err == nil {
				_, _, err = bus.Append(t.Context(), pod, f)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for command, want := range map[string]bool{"first": true, "second": true, "third": true, "fourth": false, "": false} {
		if got, err := bus.Claimed(t.Context(), pod, command); got != want || err != nil {
			t.Errorf("claimed by %q: %t, error %v, want %t", command, got, err, want)
		}
	}
	if got, err := bus.Claimed(t.Context(), "another", "first"); got || err != nil {
		t.Errorf("another name claimed: %t, error %v", got, err)
	}
}

// The answer to a write gets lost, and the connection with it: the writer finds
// its own write in the log.
func TestAppendKnowsItsOwnWrite(t *testing.T) {
	t.Parallel()
	server := eventstest.NewListeningServer(t)
	p := newProxy(t, server)
	bus := eventstest.NewBus(t, p, "creator")
	generation := ""
	for i, f := range eventstest.Life("p", "u", "cmd", "", "uid") {
		f.Generation = generation
		p.lossy.Store(i%3 == 0)
		e, changed, err := bus.Append(t.Context(), "p", f)
		if err != nil || !changed {
			t.Fatalf("%s: changed %t, error %v", f.Kind, changed, err)
		}
		generation = e.Generation
	}
	p.lossy.Store(true)
	o, err := bus.Decide(t.Context(), events.Outcome{Verdict: events.Accepted, Command: "cmd", Pod: "p"})
	if err != nil || o.Pod != "p" {
		t.Errorf("decide: %v, error %v", o, err)
	}
	if got := p.lost.Load(); got != 5 {
		t.Errorf("%d answers were lost, want 5", got)
	}
	if diff := cmp.Diff(wholeLife(), history(t, rawJetStream(t, server), "p")); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

// The server is restarted in the middle of appends. What was told to be in the
// log is there, and each fact once.
func TestAppendWhileTheServerRestarts(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	const writers, pods = 4, 10
	var running sync.WaitGroup
	var appended, unavailable atomic.Int64
	for w := range writers {
		bus := eventstest.NewBus(t, server, fmt.Sprintf("creator-%d", w))
		running.Go(func() {
			for i := range pods {
				pod, generation := fmt.Sprintf("pod-%d-%d", w, i), ""
				for _, f := range eventstest.Life(pod, "u", "cmd-"+pod, "", "uid-"+pod) {
					f.Generation = generation
					e, err := insist(t.Context(), bus, pod, f, &unavailable)
					if err != nil {
						t.Errorf("%s of %s: %v", f.Kind, pod, err)
						return
					}
					generation = e.Generation
					appended.Add(1)
				}
			}
		})
	}
	for restart := range 4 {
		eventstest.Eventually(t, "a fifth is appended", func() bool {
			return appended.Load() > int64((restart+1)*writers*pods*len(wholeLife())/5) || t.Failed()
		})
		server.Restart()
	}
	running.Wait()
	t.Logf("%d appends had to be repeated", unavailable.Load())
	js := rawJetStream(t, server)
	for w := range writers {
		for i := range pods {
			pod := fmt.Sprintf("pod-%d-%d", w, i)
			if diff := cmp.Diff(wholeLife(), history(t, js, pod)); diff != "" {
				t.Errorf("the log of %s (-want +got):\n%s", pod, diff)
			}
		}
	}
}

// insist appends a fact again while the log is not available, as a redelivered
// command does.
func insist(ctx context.Context, bus *natsbus.Bus, pod string, f events.Fact, unavailable *atomic.Int64) (natsbus.Entry, error) {
	for range 100 {
		e, _, err := bus.Append(ctx, pod, f)
		if !errors.Is(err, natsbus.ErrUnavailable) {
			return e, err
		}
		unavailable.Add(1)
	}
	return natsbus.Entry{}, errors.New("not available a hundred times")
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator", func(o *natsbus.Options) { o.RequestTimeout = 20 * time.Millisecond })
	e := eventstest.Bring(t, eventstest.NewBus(t, server, "creator"), "p", "u", events.Claimed)
	server.Stop()
	eventstest.Eventually(t, "the loss is noticed", func() bool { return bus.Connected() != nil })
	ctx := t.Context()
	calls := map[string]func() error{
		"connected": bus.Connected,
		"created":   func() error { _, err := bus.Created(ctx); return err },
		"last":      func() error { _, err := bus.Last(ctx, "p"); return err },
		"append":    func() error { _, _, err := bus.Append(ctx, "p", eventstest.Delete(e.Generation)); return err },
		"append after": func() error {
			_, _, err := bus.AppendAfter(ctx, e, "p", eventstest.Delete(e.Generation))
			return err
		},
		"claimed": func() error { _, err := bus.Claimed(ctx, "p", "cmd"); return err },
		"outcome": func() error { _, err := bus.Outcome(ctx, "cmd"); return err },
		"decide": func() error {
			_, err := bus.Decide(ctx, events.Outcome{Verdict: events.Expiry, Command: "cmd"})
			return err
		},
		"complete": func() error { _, err := bus.Complete(ctx); return err },
		"mark":     func() error { return bus.MarkComplete(ctx, 1, 0) },
		"publish":  func() error { return bus.Publish(ctx, eventstest.CreateCommand("cmd", "u"), "1") },
		"arm": func() error {
			return bus.ArmTimer(ctx, e.Record, events.TimerCreate, time.Now().Add(time.Hour))
		},
		"disarm": func() error { return bus.DisarmTimers(ctx, e.Record) },
		"forget": func() error { _, err := bus.ForgetGone(ctx, time.Now()); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, natsbus.ErrUnavailable) {
			t.Errorf("%s: error %v, want ErrUnavailable", name, err)
		}
	}
	ended, cancel := context.WithCancelCause(ctx)
	reason := errors.New("the process drains")
	cancel(reason)
	if _, err := bus.Last(ended, "p"); !errors.Is(err, reason) {
		t.Errorf("with a context that has ended: error %v, want its cause", err)
	}

	// Nothing of all this happens later.
	server.Start()
	eventstest.Eventually(t, "the connection is back", func() bool { return bus.Connected() == nil })
	js := rawJetStream(t, server)
	if diff := cmp.Diff([]events.Type{events.Claimed}, history(t, js, "p")); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
	if n := messages(t, js, events.CommandStream); n != 0 {
		t.Errorf("%d commands came after all", n)
	}
}
