package natsbus_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

func TestConnect(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]natsbus.Options{
		"no cluster": {Service: "api"}, "no service": {Cluster: "main"},
		"a URL that is none": {URL: "nats://[", Service: "api", Cluster: "main"},
	} {
		if bus, err := natsbus.Connect(opts); err == nil {
			bus.Close()
			t.Errorf("%s: no error", name)
		}
	}
	// Nobody listens yet.
	server := eventstest.NewServer(t)
	server.Stop()
	bus, err := natsbus.Connect(natsbus.Options{InProcess: server, Service: "api", Instance: "api-0", Cluster: "main"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	if err := bus.Connected(); !errors.Is(err, natsbus.ErrUnavailable) || bus.Cluster() != "main" {
		t.Errorf("connected to nothing: error %v", err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("long enough"))
	defer cancel()
	if err := bus.Provision(ctx); !errors.Is(err, context.Cause(ctx)) {
		t.Errorf("provision: error %v, want the context's cause", err)
	}
	server.Start()
	if err := bus.Provision(t.Context()); err != nil {
		t.Errorf("provision when the server is there: %v", err)
	}
	if a, b := natsbus.NewID(), natsbus.NewID(); a == b {
		t.Error("two ids are the same")
	}
	if ctx := natsbus.WithTraceparent(t.Context(), ""); natsbus.Traceparent(ctx) != "" {
		t.Error("a traceparent from nowhere")
	}
}

func TestProvision(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	buses := make([]*natsbus.Bus, 5)
	for i := range buses {
		opts := server.Options()
		opts.Service, opts.Cluster = "api", eventstest.Cluster
		bus, err := natsbus.Connect(opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(bus.Close)
		buses[i] = bus
	}
	for round := range 2 {
		var running sync.WaitGroup
		for i, bus := range buses {
			running.Go(func() {
				if err := bus.Provision(t.Context()); err != nil {
					t.Errorf("round %d, service %d: %v", round, i, err)
				}
			})
		}
		running.Wait()
	}
	eventstest.Bring(t, buses[0], "p", "u", events.Claimed)
	if err := buses[1].Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e, err := buses[2].Last(t.Context(), "p"); err != nil || e.Event != events.Claimed {
		t.Errorf("provisioning again lost %+v, error %v", e, err)
	}

	type config struct {
		Retention         jetstream.RetentionPolicy
		Storage           jetstream.StorageType
		MaxMsgs, MaxBytes int64
		MaxAge            time.Duration
		PerSubject        int64
		Direct            bool
	}
	got := map[string]config{}
	js := rawJetStream(t, server)
	for _, name := range natsbus.StreamNames() {
		s, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		c := s.CachedInfo().Config
		got[name] = config{c.Retention, c.Storage, c.MaxMsgs, c.MaxBytes, c.MaxAge, c.MaxMsgsPerSubject, c.AllowDirect}
	}
	want := map[string]config{
		events.LogStream:        {jetstream.LimitsPolicy, jetstream.FileStorage, -1, -1, 0, 64, false},
		events.CommandStream:    {jetstream.WorkQueuePolicy, jetstream.FileStorage, -1, -1, 0, -1, false},
		events.DeadLetterStream: {jetstream.LimitsPolicy, jetstream.FileStorage, -1, -1, 7 * 24 * time.Hour, -1, false},
		events.AuditStream:      {jetstream.LimitsPolicy, jetstream.FileStorage, 5_000_000, -1, 90 * 24 * time.Hour, -1, false},
		events.TokenStream:      {jetstream.LimitsPolicy, jetstream.FileStorage, -1, -1, 0, 1, false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("streams (-want +got):\n%s", diff)
	}

	// What can never be made is an error at once.
	wrong := eventstest.NewServer(t)
	if _, err := rawJetStream(t, wrong).CreateStream(t.Context(), jetstream.StreamConfig{
		Name: events.LogStream, Subjects: events.LogSubjects(), Storage: jetstream.MemoryStorage,
	}); err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"api", "watcher"} {
		opts := wrong.Options()
		opts.Service, opts.Cluster = service, eventstest.Cluster
		bus, err := natsbus.Connect(opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(bus.Close)
		if err := bus.Provision(t.Context()); err == nil {
			t.Errorf("the %s takes a stream in memory for one in files", service)
		}
	}
}

// A stream that another version has made is brought up to date by the watcher
// alone: whoever may change a stream may empty it.
func TestProvisionUpgrades(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	js := rawJetStream(t, server)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: events.LogStream, Subjects: events.LogSubjects(), AllowMsgTTL: true}); err != nil {
		t.Fatal(err)
	}
	perSubject := func() int64 {
		s, err := js.Stream(t.Context(), events.LogStream)
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().Config.MaxMsgsPerSubject
	}
	eventstest.Bring(t, eventstest.NewBus(t, server, "creator"), "p", "u", events.Ready)
	if n := perSubject(); n != -1 {
		t.Errorf("%d messages a subject: the creator has changed the stream", n)
	}
	bus := eventstest.NewBus(t, server, "watcher")
	if n := perSubject(); n != 64 {
		t.Errorf("%d messages a subject: the watcher has not brought the stream up to date", n)
	}
	if e, err := bus.Last(t.Context(), "p"); err != nil || e.Event != events.Ready {
		t.Errorf("the pod is %q, error %v", e.Event, err)
	}
}

// Servers that are missing may still come: as long as there are fewer than
// replicas, the streams are waited for.
func TestProvisionWaitsForServers(t *testing.T) {
	t.Parallel()
	opts := eventstest.NewServers(t).Options()
	opts.Service, opts.Cluster, opts.Replicas = "api", eventstest.Cluster, 5
	var log lockedBuffer
	opts.Logger = zerolog.New(&log)
	bus, err := natsbus.Connect(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- bus.Provision(ctx) }()
	eventstest.Eventually(t, "it is tried again", func() bool {
		return strings.Count(log.String(), "no suitable peers") > 1 || len(ended) > 0
	})
	drain := errors.New("the process drains")
	cancel(drain)
	if err := eventstest.Receive(t, "it ends", ended); !errors.Is(err, drain) {
		t.Errorf("it ended with %v", err)
	}
}

// lockedBuffer takes the lines of a logger.
type lockedBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A sequence of a log that was wiped is none of the new one: whoever was paused
// meanwhile, and appends after the record that it knows, must not succeed.
func TestSequencesOfAWipedLog(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	bus := eventstest.NewBus(t, server, "creator")
	known := eventstest.Bring(t, bus, "p", "u", events.Deleting)
	server.Wipe()
	if err := bus.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := eventstest.Bring(t, bus, "p", "u", events.Deleting)
	if now.Sequence <= known.Sequence || now.Generation == known.Generation {
		t.Errorf("record %d of %s before, %d of %s after", known.Sequence, known.Generation, now.Sequence, now.Generation)
	}
	after, changed, err := bus.AppendAfter(t.Context(), known, "p", eventstest.Gone(known.Generation))
	if !errors.Is(err, events.ErrGeneration) || changed || after.Sequence != now.Sequence {
		t.Errorf("the end of the pod before the wipe: %+v, changed %t, error %v", after, changed, err)
	}
}

// A wrong password is named where people look: in the log and in readiness.
func TestRefused(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServerWithUsers(t, eventstest.Cluster)
	var log lockedBuffer
	bus, err := natsbus.Connect(natsbus.Options{
		URL: server.URL(), User: "api", Password: "wrong", Service: "api", Cluster: eventstest.Cluster, Logger: zerolog.New(&log),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	eventstest.Eventually(t, "the log says why", func() bool { return strings.Contains(log.String(), "Authorization Violation") })
	eventstest.Eventually(t, "readiness says why", func() bool {
		err := bus.Connected()
		return errors.Is(err, natsbus.ErrUnavailable) && strings.Contains(err.Error(), "Authorization Violation")
	})
	said := "" // Tried again and again, it is said when it is another reason than before.
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "Cannot connect to NATS") && line == said {
			t.Errorf("it is said twice in a row: %s", line)
		}
		said = line
	}
	if strings.Contains(log.String(), "wrong") {
		t.Error("the log has the password")
	}
}
