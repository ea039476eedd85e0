package natsbus_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

// fired collects the deletes of timers.
func fired(tb testing.TB, bus *natsbus.Bus) <-chan natsbus.Delivery {
	tb.Helper()
	out := make(chan natsbus.Delivery, 16)
	eventstest.Go(tb, func(ctx context.Context) error {
		return bus.Consume(ctx, natsbus.Stage{Stage: events.StageDelete, Handler: func(_ context.Context, d natsbus.Delivery) error {
			out <- d
			return nil
		}})
	})
	return out
}

func pod(name string) events.Record {
	return eventstest.Record(events.Launched, func(r *events.Record) { r.Pod, r.Command = name, "cmd-"+name })
}

func TestTimersSurviveARestart(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "deleter")
	now := time.Now()
	for name, at := range map[string]time.Time{"overdue": now.Add(time.Second), "later": now.Add(5 * time.Second), "disarmed": now.Add(time.Hour)} {
		if err := bus.ArmTimer(t.Context(), pod(name), events.TimerDelete, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := bus.DisarmTimers(t.Context(), pod("disarmed")); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	eventstest.Eventually(t, "one is overdue", func() bool { return time.Since(now) > 2*time.Second })
	server.Start()
	deletes := fired(t, bus)
	// On a machine that is slow both may be overdue.
	due := map[string]time.Duration{"overdue": time.Second, "later": 5 * time.Second}
	for range len(due) {
		d := eventstest.Receive(t, "a timer fires", deletes)
		if after, ok := due[d.Pod]; !ok || time.Since(now) < after {
			t.Errorf("%s fired after %s", d.Pod, time.Since(now))
		}
		delete(due, d.Pod)
		if d.Delete.Timer != events.TimerDelete || d.ID != "cmd-"+d.Pod || d.Generation != pod(d.Pod).Generation {
			t.Errorf("the delete is %+v", d)
		}
	}
	js := rawJetStream(t, server)
	// The one that was disarmed, too.
	eventstest.Eventually(t, "nothing is left of the timers", func() bool { return messages(t, js, events.CommandStream) == 0 })
	if len(deletes) != 0 {
		t.Error("one fired twice, or although it was disarmed")
	}
}

// A pod has two timers, and a timer that has fired can be armed again.
func TestTimersAreArmedAgain(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "deleter")
	deletes := fired(t, bus)
	const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ctx := natsbus.WithTraceparent(t.Context(), traceparent)
	for range 2 {
		for _, timer := range []events.Timer{events.TimerCreate, events.TimerDelete} {
			// The whole second after this one is rounded up, never down.
			if err := bus.ArmTimer(ctx, pod("p"), timer, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		got := map[events.Timer]bool{}
		for range 2 {
			d := eventstest.Receive(t, "a timer fires", deletes)
			got[d.Delete.Timer] = d.Traceparent == traceparent
		}
		if !got[events.TimerCreate] || !got[events.TimerDelete] {
			t.Errorf("fired with its trace: %v", got)
		}
	}
	// An adopted pod has no command; its generation names its timers.
	adopted := pod("adopted")
	adopted.Command = ""
	if err := bus.ArmTimer(ctx, adopted, events.TimerDelete, time.Now()); err != nil {
		t.Fatal(err)
	}
	if d := eventstest.Receive(t, "the timer of an adopted pod fires", deletes); d.ID != adopted.Generation || d.Pod != "adopted" {
		t.Errorf("the delete is %+v", d)
	}
}

func TestPublishRefusesWhatNobodyCouldDo(t *testing.T) {
	t.Parallel()
	bus := eventstest.NewBus(t, eventstest.NewServer(t), "api")
	tests := map[string]struct {
		change func(*events.Command)
		want   error
	}{
		"no user":      {func(c *events.Command) { c.User = "" }, events.ErrMalformed},
		"a later one":  {func(c *events.Command) { c.Stage = "paint" }, events.ErrStage},
		"too large":    {func(c *events.Command) { c.Create.ManifestURL = strings.Repeat("x", events.MaxCommand) }, events.ErrTooLarge},
		"a long user":  {func(c *events.Command) { c.User = strings.Repeat(".", 1500) }, events.ErrTooLarge},
		"a long id":    {func(c *events.Command) { c.ID = strings.Repeat(".", 1500) }, events.ErrTooLarge},
		"it is all ok": {func(*events.Command) {}, nil},
	}
	for name, tc := range tests {
		c := eventstest.CreateCommand("cmd", "u")
		tc.change(&c)
		if err := bus.Publish(t.Context(), c, "1"); !errors.Is(err, tc.want) || errors.Is(err, natsbus.ErrUnavailable) {
			t.Errorf("publish, %s: error %v, want %v", name, err, tc.want)
		}
		if err := bus.Arm(t.Context(), events.TimerCreate, c.ID, time.Now().Add(time.Hour), c); !errors.Is(err, tc.want) || errors.Is(err, natsbus.ErrUnavailable) {
			t.Errorf("arm, %s: error %v, want %v", name, err, tc.want)
		}
	}
	if err := bus.Connected(); err != nil {
		t.Errorf("the connection suffered: %v", err)
	}
}

func TestFail(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "licenser")
	js := rawJetStream(t, server)
	claimed := eventstest.Bring(t, bus, "p", "u", events.Claimed)

	tests := []struct {
		name     string
		do       func() error
		want     events.Type
		commands uint64
	}{
		{"another generation is left alone", func() error {
			return bus.Fail(t.Context(), "p", "1-1", events.PatchInvalid, "x", events.DeleteRequest{})
		}, events.Claimed, 0},
		{"a pod that never was is left alone", func() error {
			return bus.Fail(t.Context(), "q", "1-1", events.PatchInvalid, "x", events.DeleteRequest{})
		}, events.Claimed, 0},
		{"it fails and is to be deleted", func() error {
			return bus.Fail(t.Context(), "p", claimed.Generation, events.PatchInvalid, "line 3", events.DeleteRequest{LaunchOver: true})
		}, events.Failed, 1},
		{"again, and the delete is asked for once", func() error {
			return bus.Fail(t.Context(), "p", claimed.Generation, events.Timeout, "too late", events.DeleteRequest{LaunchOver: true})
		}, events.Failed, 1},
		{"what is being deleted is left alone", func() error {
			if _, _, err := bus.Append(t.Context(), "p", eventstest.Delete(claimed.Generation)); err != nil {
				return err
			}
			return bus.Fail(t.Context(), "p", claimed.Generation, events.Timeout, "too late", events.DeleteRequest{LaunchOver: true})
		}, events.Deleting, 1},
	}
	for _, tc := range tests {
		if err := tc.do(); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		e, err := bus.Last(t.Context(), "p")
		if err != nil || e.Event != tc.want || e.Event != events.Claimed && e.Reason != events.PatchInvalid {
			t.Errorf("%s: %s for %q, error %v, want %s", tc.name, e.Event, e.Reason, err, tc.want)
		}
		if n := messages(t, js, events.CommandStream); n != tc.commands {
			t.Errorf("%s: %d commands, want %d", tc.name, n, tc.commands)
		}
	}
	if d := eventstest.Receive(t, "the delete comes", fired(t, bus)); d.Pod != "p" || d.Generation != claimed.Generation || d.ID != claimed.Command || d.User != "u" || !d.Delete.LaunchOver {
		t.Errorf("delete %+v", d)
	}
	ready := eventstest.Bring(t, bus, "r", "u", events.Ready)
	if err := bus.Fail(t.Context(), "r", ready.Generation, events.Timeout, "too late", events.DeleteRequest{LaunchOver: true}); err != nil {
		t.Error(err)
	}
	if e, err := bus.Last(t.Context(), "r"); err != nil || e.Event != events.Ready {
		t.Errorf("a pod that is ready became %s, error %v", e.Event, err)
	}
}

func TestForgetGone(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "deleter")
	eventstest.Bring(t, bus, "long-gone", "u", events.Gone)
	eventstest.Bring(t, bus, "runs", "u", events.Ready)
	eventstest.Bring(t, bus, "back", "u", events.Gone)
	if _, _, err := bus.Append(t.Context(), "back", eventstest.Claim("back", "v", "another")); err != nil {
		t.Fatal(err)
	}
	between := time.Now()
	// The server's clock is this one; the next record is later.
	eventstest.Eventually(t, "time goes on", func() bool { return time.Now().After(between) })
	eventstest.Bring(t, bus, "just-gone", "u", events.Gone)

	if n, err := bus.ForgetGone(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("%d were gone an hour ago, error %v", n, err)
	}
	if n, err := bus.ForgetGone(t.Context(), between); n != 2 || err != nil {
		t.Errorf("%d forgotten, error %v, want 2", n, err)
	}
	if n, err := bus.ForgetGone(t.Context(), between); n != 0 || err != nil {
		t.Errorf("%d forgotten again, error %v", n, err)
	}
	js := rawJetStream(t, server)
	for name, want := range map[string]int{"long-gone": 0, "runs": 7, "back": 1, "just-gone": len(wholeLife())} {
		if got := history(t, js, name); len(got) != want {
			t.Errorf("%s has %v, want %d", name, got, want)
		}
	}
	if e, err := bus.Last(t.Context(), "back"); err != nil || e.Event != events.Claimed || e.User != "v" {
		t.Errorf("the pod that has the name now is %+v, error %v", e, err)
	}
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	watcher, api := eventstest.NewBus(t, server, "watcher"), eventstest.NewBus(t, server, "api")
	elsewhere := eventstest.NewBus(t, server, "watcher", eventstest.InCluster("elsewhere"))
	beats := make(chan string, 256)
	stop, err := api.OnHeartbeat(func(data []byte) {
		select {
		case beats <- string(data):
		default: // Nobody reads them any more.
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	eventstest.Eventually(t, "a heartbeat comes", func() bool {
		if err := errors.Join(elsewhere.Heartbeat([]byte("not ours")), watcher.Heartbeat([]byte("alive"))); err != nil {
			t.Fatal(err)
		}
		return len(beats) > 0
	})
	stop()
	for range len(beats) {
		if got := <-beats; got != "alive" {
			t.Errorf("heartbeat %q", got)
		}
	}
}
