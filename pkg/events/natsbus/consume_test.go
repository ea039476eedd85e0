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
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

func launchCommand(id string) events.Command {
	return eventstest.LaunchCommand(id, "alice@dtu.dk", "jupyter-alice", "1-1")
}

func publish(tb testing.TB, bus *natsbus.Bus, ids ...string) {
	tb.Helper()
	for _, id := range ids {
		if err := bus.Publish(tb.Context(), launchCommand(id), "1"); err != nil {
			tb.Fatalf("publish %s: %v", id, err)
		}
	}
}

// consume carries out the launch commands until the test ends.
func consume(tb testing.TB, bus *natsbus.Bus, s natsbus.Stage) (stop func()) {
	tb.Helper()
	s.Stage = events.StageLaunch
	return eventstest.Go(tb, func(ctx context.Context) error { return bus.Consume(ctx, s) })
}

func TestConsumeHandsOver(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator")
	const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	before := time.Now()
	if err := bus.Publish(natsbus.WithTraceparent(t.Context(), traceparent), launchCommand("c"), "1"); err != nil {
		t.Fatal(err)
	}
	type call struct {
		d           natsbus.Delivery
		traceparent string
		deadline    time.Time
	}
	calls, verdicts := make(chan call, 4), make(chan string, 4)
	consume(t, bus, natsbus.Stage{
		AckWait: 10 * time.Second,
		Handler: func(ctx context.Context, d natsbus.Delivery) error {
			deadline, _ := ctx.Deadline()
			calls <- call{d, natsbus.Traceparent(ctx), deadline}
			if d.Attempt < 3 {
				return natsbus.Again(time.Millisecond, errors.New("not yet"))
			}
			return nil
		},
		Done: func(_ time.Duration, verdict string) { verdicts <- verdict },
	})
	for attempt := uint64(1); attempt <= 3; attempt++ {
		c := eventstest.Receive(t, "the command comes", calls)
		want := launchCommand("c")
		want.Traceparent = traceparent
		if diff := cmp.Diff(want, c.d.Command); diff != "" || c.d.Attempt != attempt || c.d.Sequence != 1 || c.traceparent != traceparent {
			t.Errorf("attempt %d: %+v with %q (-want +got):\n%s", attempt, c.d, c.traceparent, diff)
		}
		if c.d.Queued.Before(before.Add(-time.Second)) || c.d.Queued.After(time.Now().Add(time.Second)) {
			t.Errorf("queued at %s, published at %s", c.d.Queued, before)
		}
		// The server's ten seconds began before the handler's nine.
		if c.deadline.After(time.Now().Add(9*time.Second)) || c.deadline.IsZero() {
			t.Errorf("the handler has until %s", c.deadline)
		}
		want2 := map[bool]string{true: "ack", false: "again"}[attempt == 3]
		if v := eventstest.Receive(t, "the verdict comes", verdicts); v != want2 {
			t.Errorf("attempt %d: verdict %s, want %s", attempt, v, want2)
		}
	}
	js := rawJetStream(t, server)
	eventstest.Eventually(t, "the command is removed", func() bool { return messages(t, js, events.CommandStream) == 0 })
}

// buried is a dead letter, as people read it.
type buried struct{ Subject, Reason, Cause, From, Data string }

// letters reads the dead letters by subject.
func letters(tb testing.TB, js jetstream.JetStream) map[string]buried {
	tb.Helper()
	s, err := js.Stream(tb.Context(), events.DeadLetterStream)
	if err != nil {
		tb.Fatal(err)
	}
	out := map[string]buried{}
	for next := uint64(1); ; {
		msg, err := s.GetMsg(tb.Context(), next, jetstream.WithGetMsgSubject("dead.>"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return out
		}
		if err != nil {
			tb.Fatal(err)
		}
		out[msg.Subject] = buried{
			msg.Subject, msg.Header.Get("Berth-Reason"), msg.Header.Get("Berth-Cause"), msg.Header.Get("Berth-Subject"), string(msg.Data),
		}
		next = msg.Sequence + 1
	}
}

func wire(tb testing.TB, c events.Command) []byte {
	tb.Helper()
	b, err := c.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestConsumeBuriesWhatCannotBeDone(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator")
	js := rawJetStream(t, server)
	raw := func(id string, data []byte) {
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: events.CommandSubject(eventstest.Cluster, events.StageLaunch, id), Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	raw("garbage", []byte("{"))
	raw("in-the-wrong-place", wire(t, launchCommand("another")))
	raw("of-another-stage", wire(t, eventstest.DeleteCommand("of-another-stage", "u", "p", "1-1")))
	publish(t, bus, "permanent", "exhausted", "again", "panics", "fail-panics", "fail-fails")

	type failure struct {
		Reason  events.Reason
		Message string
	}
	var mu sync.Mutex
	failures, attempts := map[string][]failure{}, map[string]uint64{}
	count := func(id string) uint64 {
		mu.Lock()
		defer mu.Unlock()
		attempts[id]++
		return attempts[id]
	}
	verdicts := make(chan string, 64)
	consume(t, bus, natsbus.Stage{
		Attempts: 4, AckWait: time.Minute,
		Handler: func(_ context.Context, d natsbus.Delivery) error {
			if n := count(d.ID); n != d.Attempt {
				t.Errorf("%s: attempt %d is counted as %d", d.ID, n, d.Attempt)
			}
			switch d.ID {
			case "permanent":
				return fmt.Errorf("launch: %w", natsbus.Permanent(events.PodRejected, errors.New("two\nlines")))
			case "again":
				return natsbus.Again(time.Millisecond, errors.New("not yet"))
			case "panics":
				panic("oh")
			case "fail-panics", "fail-fails":
				return natsbus.Permanent(events.QuotaExceeded, errors.New("no quota"))
			default:
				return errors.New("no answer")
			}
		},
		Fail: func(ctx context.Context, d natsbus.Delivery, reason events.Reason, message string) error {
			if err := ctx.Err(); err != nil {
				t.Errorf("fail %s: the context has ended: %v", d.ID, err)
			}
			mu.Lock()
			failures[d.ID] = append(failures[d.ID], failure{reason, message})
			n := len(failures[d.ID])
			mu.Unlock()
			switch {
			case d.ID == "fail-panics" && n == 1:
				panic("ah")
			case d.ID == "fail-fails" && n == 1:
				return errors.New("the log is away")
			}
			return nil
		},
		Done: func(_ time.Duration, verdict string) { verdicts <- verdict },
	})
	eventstest.Eventually(t, "all commands are settled", func() bool { return messages(t, js, events.CommandStream) == 0 })

	const subject = "dead.main.launch."
	data := func(id string) string {
		c := launchCommand(id)
		c.Rendered = []byte("{}") // Its variables are for nobody to read.
		return string(wire(t, c))
	}
	want := map[string]buried{
		subject + "garbage": {
			Reason: "REQUEST_INVALID", Cause: "read command: malformed message: unexpected end of JSON input", Data: "{",
		},
		subject + "in-the-wrong-place": {
			Reason: "REQUEST_INVALID", Cause: "the command contradicts its subject: malformed message", Data: data("another"),
		},
		subject + "of-another-stage": {
			Reason: "REQUEST_INVALID", Cause: "the command contradicts its subject: malformed message",
			Data: string(wire(t, eventstest.DeleteCommand("of-another-stage", "u", "p", "1-1"))),
		},
		subject + "permanent":   {Reason: "POD_REJECTED", Cause: "two lines", Data: data("permanent")},
		subject + "exhausted":   {Reason: "RETRIES_EXHAUSTED", Cause: "no answer", Data: data("exhausted")},
		subject + "again":       {Reason: "RETRIES_EXHAUSTED", Cause: "not yet", Data: data("again")},
		subject + "panics":      {Reason: "RETRIES_EXHAUSTED", Cause: "the stage failed inside", Data: data("panics")},
		subject + "fail-panics": {Reason: "QUOTA_EXCEEDED", Cause: "no quota", Data: data("fail-panics")},
		subject + "fail-fails":  {Reason: "QUOTA_EXCEEDED", Cause: "no quota", Data: data("fail-fails")},
	}
	for s, b := range want {
		b.Subject, b.From = s, "cmd.main.launch."+s[len(subject):]
		want[s] = b
	}
	if diff := cmp.Diff(want, letters(t, js)); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	quota := failure{events.QuotaExceeded, "no quota"}
	wantFailures := map[string][]failure{
		"permanent":   {{events.PodRejected, "two\nlines"}},
		"exhausted":   {{events.RetriesExhausted, "no answer"}},
		"again":       {{events.RetriesExhausted, "not yet"}},
		"panics":      {{events.RetriesExhausted, "the stage failed inside"}},
		"fail-panics": {quota, quota},
		"fail-fails":  {quota, quota},
	}
	wantAttempts := map[string]uint64{
		"permanent": 1, "exhausted": 4, "again": 4, "panics": 3, "fail-panics": 2, "fail-fails": 2,
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(wantFailures, failures); diff != "" {
		t.Errorf("failures made known (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantAttempts, attempts); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	// The last is told after the server has removed its command.
	wantVerdicts, got := map[string]int{"dead": 9, "again": 10}, map[string]int{}
	for range 9 + 10 {
		got[eventstest.Receive(t, "a verdict", verdicts)]++
	}
	if diff := cmp.Diff(wantVerdicts, got); diff != "" || len(verdicts) != 0 {
		t.Errorf("verdicts, and %d more (-want +got):\n%s", len(verdicts), diff)
	}
}

// A handler that takes too long is told so, and its command comes again.
func TestConsumeEndsWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator")
	publish(t, bus, "slow")
	ended, done := make(chan error, 64), make(chan uint64, 64)
	consume(t, bus, natsbus.Stage{AckWait: 2 * time.Second, Handler: func(ctx context.Context, d natsbus.Delivery) error {
		if d.Attempt == 1 {
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return context.Cause(ctx)
		}
		done <- d.Attempt
		return nil
	}})
	if err := eventstest.Receive(t, "the end of the first attempt", ended); err == nil || !strings.Contains(err.Error(), "took longer than 1.8s") {
		t.Errorf("it ended with %v", err)
	}
	eventstest.Receive(t, "the command comes again", done)
	js := rawJetStream(t, server)
	eventstest.Eventually(t, "it is removed", func() bool { return messages(t, js, events.CommandStream) == 0 })
}

// A message that nobody ever answers for, since it kills its process, comes to
// the dead letters too: deliveries are counted before anything else.
func TestConsumeBuriesWhatIsNeverAnswered(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator")
	publish(t, bus, "deadly")
	js := rawJetStream(t, server)
	deadly := func(cfg jetstream.ConsumerConfig) {
		c, err := js.CreateOrUpdateConsumer(t.Context(), events.CommandStream, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if msg, err := c.Next(jetstream.FetchMaxWait(20 * time.Second)); err != nil || msg == nil {
				t.Fatalf("no delivery, error %v", err)
			}
		}
	}
	deadly(jetstream.ConsumerConfig{
		Durable: "main-launch", FilterSubject: "cmd.main.launch.*", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1, AckWait: 50 * time.Millisecond,
	})
	failed := make(chan events.Reason, 64)
	consume(t, bus, natsbus.Stage{
		Attempts: 3, AckWait: time.Second,
		Handler: func(context.Context, natsbus.Delivery) error { t.Error("it is tried once more"); return nil },
		Fail: func(_ context.Context, _ natsbus.Delivery, reason events.Reason, _ string) error {
			failed <- reason
			return nil
		},
	})
	if got := eventstest.Receive(t, "the failure is made known", failed); got != events.RetriesExhausted {
		t.Errorf("reason %s", got)
	}
	eventstest.Eventually(t, "the command is removed", func() bool { return messages(t, js, events.CommandStream) == 0 })
	if got := letters(t, js)["dead.main.launch.deadly"]; got.Reason != string(events.RetriesExhausted) {
		t.Errorf("dead letter %+v", got)
	}
}

func TestConsumeDrains(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	first, second := eventstest.NewBus(t, server, "creator-1"), eventstest.NewBus(t, server, "creator-2")
	begun, release := make(chan string, 8), make(chan struct{})
	var finished atomic.Int64
	stopped := make(chan struct{})
	stop := consume(t, first, natsbus.Stage{
		Concurrency: 2, AckWait: time.Minute,
		Handler: func(ctx context.Context, d natsbus.Delivery) error {
			begun <- d.ID
			<-release
			if err := ctx.Err(); err != nil {
				t.Errorf("the drain ended what was under way: %v", err)
			}
			finished.Add(1)
			return nil
		},
	})
	publish(t, first, "1", "2", "3", "4", "5", "6")
	under := map[string]bool{
		eventstest.Receive(t, "one is under way", begun): true, eventstest.Receive(t, "two are under way", begun): true,
	}
	go func() {
		stop()
		close(stopped)
	}()
	// The others come to the second replica, long before the time of the first is up.
	others := make(chan natsbus.Delivery, 8)
	consume(t, second, natsbus.Stage{AckWait: time.Minute, Handler: func(_ context.Context, d natsbus.Delivery) error { others <- d; return nil }})
	for range 4 {
		if d := eventstest.Receive(t, "another replica gets the rest", others); under[d.ID] {
			t.Errorf("%s is done by two at once", d.ID)
		}
	}
	select {
	case <-stopped:
		t.Error("the drain did not wait for what was under way")
	default:
	}
	close(release)
	eventstest.Receive(t, "the drain ends", stopped)
	if n := finished.Load(); n != 2 {
		t.Errorf("%d were finished, want 2", n)
	}
	js := rawJetStream(t, server)
	eventstest.Eventually(t, "all are acknowledged", func() bool { return messages(t, js, events.CommandStream) == 0 })
	if len(others) != 0 {
		t.Errorf("%d more came to the second replica", len(others))
	}
}

// What is delivered in the very moment of a drain is handed back too.
func TestConsumeHandsBack(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	buses := []*natsbus.Bus{eventstest.NewBus(t, server, "creator-1"), eventstest.NewBus(t, server, "creator-2")}
	var done atomic.Int64
	stage := natsbus.Stage{AckWait: time.Minute, Concurrency: 4, Handler: func(context.Context, natsbus.Delivery) error { done.Add(1); return nil }}
	var stops []func()
	for _, bus := range buses {
		stops = append(stops, consume(t, bus, stage))
	}
	const rounds, each = 20, 10
	publisher := eventstest.NewBus(t, server, "api")
	for round := range rounds {
		var running sync.WaitGroup
		running.Go(func() {
			for i := range each {
				if err := publisher.Publish(t.Context(), launchCommand(fmt.Sprintf("%d-%d", round, i)), "1"); err != nil {
					t.Error(err)
				}
			}
		})
		// One replica is replaced while commands come.
		stops[round%2]()
		stops[round%2] = consume(t, buses[round%2], stage)
		running.Wait()
	}
	js := rawJetStream(t, server)
	eventstest.Eventually(t, "all are done without anybody's time being up", func() bool { return messages(t, js, events.CommandStream) == 0 })
	if n := done.Load(); n != rounds*each {
		t.Errorf("%d were done, want %d", n, rounds*each)
	}
}

func TestConsumeTwoReplicasShare(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	api := eventstest.NewBus(t, server, "api")
	publish(t, api, "1", "2", "3", "4")
	arrived, release := make(chan int, 4), make(chan struct{})
	for replica := range 2 {
		consume(t, eventstest.NewBus(t, server, "creator"), natsbus.Stage{Concurrency: 2, Handler: func(context.Context, natsbus.Delivery) error {
			arrived <- replica
			<-release
			return nil
		}})
	}
	got := map[int]int{}
	for range 4 {
		got[eventstest.Receive(t, "each replica has two", arrived)]++
	}
	close(release)
	if diff := cmp.Diff(map[int]int{0: 2, 1: 2}, got); diff != "" {
		t.Errorf("commands by replica (-want +got):\n%s", diff)
	}
}

// A command that waited here for a place has its whole time when its turn comes:
// nobody else gets it meanwhile.
func TestConsumeGivesEachItsTime(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator")
	publish(t, bus, "1", "2", "3", "4", "5", "6", "7")
	done := make(chan natsbus.Delivery, 16)
	// The last tenth of the handlers' time and what they leave of the rest is for a machine that is busy.
	stop := consume(t, bus, natsbus.Stage{Concurrency: 4, AckWait: 12 * time.Second, Handler: func(ctx context.Context, d natsbus.Delivery) error {
		// Two thirds of what there is, which is more than half.
		deadline, _ := ctx.Deadline()
		ctx, cancel := context.WithTimeout(ctx, time.Until(deadline)*2/3)
		defer cancel()
		<-ctx.Done()
		done <- d
		return nil
	}})
	for range 7 {
		if d := eventstest.Receive(t, "a command is done", done); d.Attempt != 1 {
			t.Errorf("%s comes for the %dth time", d.ID, d.Attempt)
		}
	}
	js := rawJetStream(t, server)
	eventstest.Eventually(t, "all are removed", func() bool { return messages(t, js, events.CommandStream) == 0 })
	stop()
	if len(done) != 0 {
		t.Errorf("%d were done twice", len(done))
	}
}

// TestConsumeExtends: a command at work stays where it is for as long as its stage
// gives it, and that of a process that has died is somebody else's after the AckWait.
func TestConsumeExtends(t *testing.T) {
	t.Parallel()
	const wait = 5 * time.Second
	server := eventstest.NewServer(t)
	begun, finish := make(chan uint64, 8), make(chan struct{})
	stage := natsbus.Stage{
		Stage: events.StageLaunch, AckWait: wait, Time: time.Minute, Concurrency: 2,
		Handler: func(_ context.Context, d natsbus.Delivery) error {
			begun <- d.Attempt
			<-finish
			return nil
		},
	}
	dying := eventstest.NewBus(t, server, "creator")
	// Its handler ends with the test, long after its connection.
	consume(t, dying, stage)
	publish(t, dying, "c")
	if attempt := eventstest.Receive(t, "the first attempt", begun); attempt != 1 {
		t.Fatalf("attempt %d came first", attempt)
	}
	other := eventstest.NewBus(t, server, "creator")
	consume(t, other, stage)
	select {
	case attempt := <-begun:
		t.Errorf("attempt %d began while the first was under way", attempt)
	case <-time.After(2 * wait):
	}
	dying.Close()
	if attempt := eventstest.Receive(t, "another attempt after the death", begun); attempt < 2 {
		t.Errorf("attempt %d came after the death", attempt)
	}
	close(finish)
	eventstest.Eventually(t, "the command is done", func() bool { return len(eventstest.Queued(t, server, events.StageLaunch)) == 0 })
}
