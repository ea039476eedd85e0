package natsbus_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

func TestConsumeAfterALoss(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T, *eventstest.Server, jetstream.JetStream){
		"of the consumer": func(t *testing.T, _ *eventstest.Server, js jetstream.JetStream) {
			if err := js.DeleteConsumer(t.Context(), events.CommandStream, "main-launch"); err != nil {
				t.Fatal(err)
			}
		},
		"of the stream": func(t *testing.T, _ *eventstest.Server, js jetstream.JetStream) {
			if err := js.DeleteStream(t.Context(), events.CommandStream); err != nil {
				t.Fatal(err)
			}
		},
		"of the connection": func(_ *testing.T, s *eventstest.Server, _ jetstream.JetStream) { s.Restart() },
		"of everything":     func(_ *testing.T, s *eventstest.Server, _ jetstream.JetStream) { s.Wipe() },
	}
	for name, lose := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := eventstest.NewServer(t)
			bus, api := eventstest.NewBus(t, server, "creator"), eventstest.NewBus(t, server, "api")
			done, release := make(chan string, 64), make(chan struct{})
			consume(t, bus, natsbus.Stage{Handler: func(_ context.Context, d natsbus.Delivery) error {
				if d.ID == "under way" {
					<-release // A slow command does not keep the consumer from being opened again.
				}
				done <- d.ID
				return nil
			}})
			publish(t, api, "before")
			eventstest.Receive(t, "a command is done", done)
			publish(t, api, "under way")
			lose(t, server, rawJetStream(t, server))
			eventstest.Eventually(t, "a command can be published", func() bool { return api.Publish(t.Context(), launchCommand("after"), "1") == nil })
			for id := ""; id != "after"; {
				id = eventstest.Receive(t, "a command is done again", done)
			}
			close(release)
		})
	}
}

func TestConsumeWhileTheServerRestarts(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	api := eventstest.NewBus(t, server, "api")
	const n = 200
	var handled atomic.Int64
	var mu sync.Mutex
	done := map[string]int{}
	for i := range 2 {
		consume(t, eventstest.NewBus(t, server, "creator-"+strconv.Itoa(i)), natsbus.Stage{
			AckWait: 3 * time.Second, Concurrency: 4,
			Handler: func(_ context.Context, d natsbus.Delivery) error {
				handled.Add(1)
				mu.Lock()
				defer mu.Unlock()
				done[d.ID]++
				return nil
			},
		})
	}
	eventstest.Go(t, func(context.Context) error {
		for i := range n {
			for tries := 0; api.Publish(t.Context(), launchCommand(strconv.Itoa(i)), "1") != nil; tries++ {
				if tries > 100 {
					return errors.New("cannot publish")
				}
			}
		}
		return nil
	})
	for restart := range 3 {
		eventstest.Eventually(t, "a quarter is done", func() bool { return handled.Load() > int64((restart+1)*n/4) })
		server.Restart()
	}
	js := rawJetStream(t, server)
	eventstest.Eventually(t, "all are done and removed", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(done) == n && messages(t, js, events.CommandStream) == 0
	})
	t.Logf("%d commands were done %d times", n, handled.Load())
}

// A server that was restarted in the middle of acknowledgements may take a
// command for acknowledged that is still in the stream. It is done nevertheless.
func TestConsumeRescuesStrandedCommands(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator")
	js := rawJetStream(t, server)
	publish(t, bus, "1", "2", "3")
	s, err := js.Stream(t.Context(), events.CommandStream)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateConsumer(t.Context(), jetstream.ConsumerConfig{
		Durable: "main-launch", FilterSubject: "cmd.main.launch.*", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ResetConsumerToSequence(t.Context(), "main-launch", 3); err != nil {
		t.Fatal(err)
	}
	done := make(chan natsbus.Delivery, 8)
	consume(t, bus, natsbus.Stage{Handler: func(_ context.Context, d natsbus.Delivery) error { done <- d; return nil }})
	eventstest.Go(t, bus.Rescue)
	var ids []string
	for range 3 {
		ids = append(ids, eventstest.Receive(t, "a command is done", done).ID)
	}
	slices.Sort(ids)
	if diff := cmp.Diff([]string{"1", "2", "3"}, ids); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	eventstest.Eventually(t, "all are removed", func() bool { return messages(t, js, events.CommandStream) == 0 })
}

// A process that ends while the server is away must not wait for it.
func TestConsumeEndsWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator", func(o *natsbus.Options) { o.RequestTimeout = 5 * time.Second })
	done := make(chan struct{}, 64)
	stop := consume(t, bus, natsbus.Stage{Handler: func(context.Context, natsbus.Delivery) error { done <- struct{}{}; return nil }})
	publish(t, bus, "1")
	eventstest.Receive(t, "the consumer works", done)
	server.Stop()
	eventstest.Eventually(t, "the loss is noticed", func() bool { return bus.Connected() != nil })
	ends(t, stop)
}

// ends sees to it that what runs ends while the server is away, which stays away.
func ends(tb testing.TB, stop func()) {
	tb.Helper()
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	eventstest.Receive(tb, "the end", ended)
}

// The server stays away for longer than heartbeats may be missing and than
// requests wait.
func TestConsumeWhenTheServerWasAwayForLong(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator", func(o *natsbus.Options) { o.RequestTimeout = 100 * time.Millisecond })
	api := eventstest.NewBus(t, server, "api")
	done := make(chan string, 16)
	consume(t, bus, natsbus.Stage{Handler: func(_ context.Context, d natsbus.Delivery) error { done <- d.ID; return nil }})
	publish(t, api, "before")
	eventstest.Receive(t, "the consumer works", done)
	server.Stop()
	away := time.Now()
	eventstest.Eventually(t, "the server has been away for three seconds", func() bool { return time.Since(away) > 3*time.Second })
	server.Start()
	eventstest.Eventually(t, "a command can be published", func() bool { return api.Publish(t.Context(), launchCommand("after"), "1") == nil })
	if got := eventstest.Receive(t, "the consumer works again", done); got != "after" {
		t.Errorf("%s came", got)
	}
}
