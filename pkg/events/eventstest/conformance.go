package eventstest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

// Connect connects a service to the site under test, as one of a Kubernetes
// cluster.
type Connect func(tb testing.TB, cluster, service string) *natsbus.Bus

// Rounds says how often the races of the conformance suite are run.
type Rounds struct {
	Claims, Outcomes int
}

// Conformance asserts what the services rely on, whatever keeps the streams:
// each claim has one winner and each command one outcome, facts are appended
// once, commands are done, timers fire, and the table knows it all.
func Conformance(t *testing.T, connect Connect, rounds Rounds) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, func(service string) *natsbus.Bus){
		"claims have one winner":      func(t *testing.T, c func(string) *natsbus.Bus) { raceClaims(t, c, rounds.Claims) },
		"facts are appended once":     raceFacts,
		"commands have one outcome":   func(t *testing.T, c func(string) *natsbus.Bus) { raceOutcomes(t, c, rounds.Outcomes) },
		"outcomes can be corrected":   correctOutcomes,
		"commands are done":           doCommands,
		"commands are published once": publishTwice,
		"timers":                      timers,
		"the mark":                    mark,
		"the table":                   table,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := t.Name()
			test(t, func(service string) *natsbus.Bus { return connect(t, cluster, service) })
		})
	}
}

func correctOutcomes(t *testing.T, connect func(string) *natsbus.Bus) {
	bus := connect("creator")
	decide := func(v events.Verdict, pod string, want events.Verdict, wantPod string, wantErr error) {
		t.Helper()
		o, err := bus.Decide(t.Context(), events.Outcome{Verdict: v, Command: "cmd", Pod: pod})
		if o.Verdict != want || o.Pod != wantPod || !errors.Is(err, wantErr) {
			t.Errorf("%s %q: holds %v, error %v, want %s %q, %v", v, pod, o, err, want, wantPod, wantErr)
		}
	}
	if o, err := bus.Outcome(t.Context(), "cmd"); err != nil || o != (events.Outcome{}) {
		t.Errorf("before it is decided: %v, error %v", o, err)
	}
	decide(events.Accepted, "a", events.Accepted, "a", nil)
	decide(events.Accepted, "a", events.Accepted, "a", nil)
	decide(events.Expiry, "", events.Accepted, "a", events.ErrDecided)
	decide(events.Accepted, "a-2", events.Accepted, "a-2", nil)
	decide(events.Refused, "", events.Refused, "", nil)
	decide(events.Accepted, "a", events.Refused, "", events.ErrDecided)
}

func doCommands(t *testing.T, connect func(string) *natsbus.Bus) {
	bus := connect("creator")
	const n = 50
	done := make(chan natsbus.Delivery, 2*n)
	Go(t, func(ctx context.Context) error {
		return bus.Consume(ctx, natsbus.Stage{Stage: events.StageLaunch, Handler: func(_ context.Context, d natsbus.Delivery) error {
			if d.Attempt == 1 && d.ID == "cmd-7" {
				return errors.New("not the first time")
			}
			done <- d
			return nil
		}})
	})
	publisher := connect("licenser")
	for i := range n {
		c := LaunchCommand("cmd-"+strconv.Itoa(i), "alice@dtu.dk", "p", "g")
		c.Cluster = publisher.Cluster()
		if err := publisher.Publish(t.Context(), c, "1"); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]uint64{}
	for range n {
		d := Receive(t, "a command is done", done)
		if seen[d.ID] != 0 {
			t.Errorf("%s was done twice", d.ID)
		}
		seen[d.ID] = d.Attempt
	}
	if seen["cmd-7"] != 2 {
		t.Errorf("the command that failed once was done at attempt %d, want 2", seen["cmd-7"])
	}
}

func publishTwice(t *testing.T, connect func(string) *natsbus.Bus) {
	bus := connect("creator")
	handled := make(chan natsbus.Delivery, 16)
	for _, cause := range []string{"1", "1", "2", "1"} {
		c := LaunchCommand("cmd", "alice@dtu.dk", "p", "g")
		c.Cluster = bus.Cluster()
		if err := bus.Publish(t.Context(), c, cause); err != nil {
			t.Fatal(err)
		}
	}
	last := LaunchCommand("last", "alice@dtu.dk", "p", "g")
	last.Cluster = bus.Cluster()
	if err := bus.Publish(t.Context(), last, "1"); err != nil {
		t.Fatal(err)
	}
	Go(t, func(ctx context.Context) error {
		return bus.Consume(ctx, natsbus.Stage{
			Stage: events.StageLaunch, Concurrency: 1,
			Handler: func(_ context.Context, d natsbus.Delivery) error { handled <- d; return nil },
		})
	})
	var ids []string
	for len(ids) == 0 || ids[len(ids)-1] != "last" {
		ids = append(ids, Receive(t, "a command is done", handled).ID)
	}
	if diff := cmp.Diff([]string{"cmd", "cmd", "last"}, ids); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

// timers arms timers of five pods: one fires, one is overdue, one is replaced by
// a later, one by an earlier, one is taken back.
func timers(t *testing.T, connect func(string) *natsbus.Bus) {
	bus := connect("deleter")
	type firing struct {
		id string
		at time.Time
	}
	fired := make(chan firing, 64)
	Go(t, func(ctx context.Context) error {
		return bus.Consume(ctx, natsbus.Stage{Stage: events.StageDelete, Handler: func(_ context.Context, d natsbus.Delivery) error {
			if d.Delete.Timer != events.TimerCreate {
				t.Errorf("fired %+v", d.Delete)
			}
			fired <- firing{d.ID, time.Now()}
			return nil
		}})
	})
	arm := func(id string, at time.Time) {
		t.Helper()
		c := DeleteCommand(id, "alice@dtu.dk", "p", "g")
		c.Cluster, c.Delete.Timer = bus.Cluster(), events.TimerCreate
		if err := bus.Arm(t.Context(), events.TimerCreate, id, at, c); err != nil {
			t.Fatalf("arm %s: %v", id, err)
		}
	}
	var at map[string]time.Time
	armAll := func(round string, ahead time.Duration) (inTime bool) {
		now := time.Now()
		at = map[string]time.Time{
			round + "in a second": now.Add(time.Second), round + "overdue": now.Add(-time.Minute),
			round + "later": now.Add(ahead + 2*time.Second), round + "earlier": now.Add(time.Second),
		}
		arm(round+"later", now.Add(ahead))
		arm(round+"earlier", now.Add(time.Hour))
		arm(round+"never", now.Add(ahead))
		for id, when := range at {
			arm(id, when)
		}
		if err := bus.Disarm(t.Context(), round+"never"); err != nil {
			t.Fatal(err)
		}
		return time.Since(now) < ahead
	}
	// What is replaced or taken back must not have fired before that: where this is slow, it is done again with more time.
	round := "1 "
	for n, ahead := 1, 5*time.Second; !armAll(round, ahead); ahead *= 2 {
		n++
		round = strconv.Itoa(n) + " "
	}
	if err := bus.Disarm(t.Context(), "there is none"); err != nil {
		t.Error(err)
	}
	// The last to fire is more than a second later than all others would be.
	for len(at) > 0 {
		f := Receive(t, "a timer fires", fired)
		if !strings.HasPrefix(f.id, round) {
			continue
		}
		when, ok := at[f.id]
		delete(at, f.id)
		if !ok || f.at.Before(when) {
			t.Errorf("%s fired %s before its time, or twice", f.id, when.Sub(f.at))
		}
	}
	for range len(fired) {
		if f := <-fired; strings.HasPrefix(f.id, round) {
			t.Errorf("%s fired as well", f.id)
		}
	}
}

func mark(t *testing.T, connect func(string) *natsbus.Bus) {
	bus := connect("watcher")
	if _, err := bus.Complete(t.Context()); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("before the comparison: error %v, want ErrUnavailable", err)
	}
	created, err := bus.Created(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.MarkComplete(t.Context(), created.UnixNano()-1, 3); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("of another stream: error %v, want ErrUnavailable", err)
	}
	if _, err := bus.Complete(t.Context()); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("after the comparison with another stream: error %v, want ErrUnavailable", err)
	}
	if err := bus.MarkComplete(t.Context(), created.UnixNano(), 3); err != nil {
		t.Error(err)
	}
	if _, err := bus.Complete(t.Context()); err != nil {
		t.Errorf("after the comparison: %v", err)
	}
}

func table(t *testing.T, connect func(string) *natsbus.Bus) {
	creator, api := connect("creator"), connect("api")
	was := Bring(t, creator, "before", "alice@dtu.dk", events.Ready)
	table := api.NewTable(true, nil)
	Go(t, table.Run)
	Eventually(t, "the table is loaded", func() bool { return table.Loaded() == nil })
	if err := table.Ready(); !errors.Is(err, natsbus.ErrUnavailable) {
		t.Errorf("before the comparison with the cluster: error %v, want ErrUnavailable", err)
	}
	MarkComplete(t, creator)
	Eventually(t, "the table is ready", func() bool { return table.Ready() == nil })
	if e, ok := table.Pod("before"); !ok || cmp.Diff(was, e, cmp.AllowUnexported(events.Record{}, events.Observed{})) != "" {
		t.Errorf("the table has %+v, %t, want %+v", e, ok, was)
	}

	outcomes := table.ExpectOutcome("cmd-after")
	defer outcomes.Close()
	if _, err := creator.Decide(t.Context(), events.Outcome{Verdict: events.Accepted, Command: "cmd-after", Pod: "after"}); err != nil {
		t.Fatal(err)
	}
	Receive(t, "the outcome comes", outcomes.Changed())
	if o, err := outcomes.Now(); err != nil || o.Pod != "after" {
		t.Errorf("outcome %v, error %v", o, err)
	}

	waiting := make(chan error, 1)
	go func() {
		e, err := table.Await(t.Context(), "after", func(e natsbus.Entry) bool { return e.Event.Outcome() })
		if err == nil && e.Event != events.Ready {
			err = fmt.Errorf("the wait ended with %s", e.Event)
		}
		waiting <- err
	}()
	now := Bring(t, creator, "after", "alice@dtu.dk", events.Ready)
	if err := Receive(t, "the wait ends", waiting); err != nil {
		t.Error(err)
	}
	if e, err := table.Fresh(t.Context(), "after"); err != nil || e.Generation != now.Generation || e.Sequence != now.Sequence {
		t.Errorf("fresh %+v, error %v, want %+v", e, err, now)
	}
	if e, err := table.Fresh(t.Context(), "never"); err != nil || e.Sequence != 0 {
		t.Errorf("fresh of nothing: %+v, error %v", e, err)
	}
	if pods, err := table.FreshUser(t.Context(), "alice@dtu.dk"); err != nil || len(pods) != 2 || pods[0].Pod != "after" {
		t.Errorf("the user has %+v, error %v, want two", pods, err)
	}
	end(t, creator, now)
	if pods, err := table.FreshUser(t.Context(), "alice@dtu.dk"); err != nil || len(pods) != 1 {
		t.Errorf("the user has %+v, error %v, want one", pods, err)
	}
}
