package follow_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"berth/cmd/berth/internal/follow"
	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = "alice@dtu.dk"
	bob   = "bob"
)

// site is a log with a server of its own.
type site struct {
	server *eventstest.Server
	bus    *natsbus.Bus
	log    *follow.Log

	mu      sync.Mutex
	notices []string
}

func setup(t *testing.T) *site {
	t.Helper()
	s := &site{server: eventstest.NewListeningServer(t)}
	s.bus = eventstest.NewBus(t, s.server, "test")
	// The connection lives until the test has cleaned up.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	log, err := follow.Open(ctx, s.server.URL(), "test", s.notice)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(log.Close)
	s.log = log
	return s
}

func (s *site) notice(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notices = append(s.notices, text)
}

func (s *site) noticed(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(strings.Join(s.notices, "\n"), text)
}

// read collects what a query reads until the test ends.
func (s *site) read(t *testing.T, q follow.Query) (messages <-chan string, caughtUp, anew <-chan struct{}) {
	t.Helper()
	q.Cluster = eventstest.Cluster
	found, ready, again := make(chan string, 100), make(chan struct{}, 2), make(chan struct{}, 2)
	eventstest.Go(t, func(ctx context.Context) error {
		err := s.log.Read(ctx, q, follow.Reader{
			Message: func(m follow.Message) error {
				if e, err := events.Parse(m.Data); err != nil || e.Record == nil || e.Record.Pod != m.Key.Pod || m.Sequence == 0 || m.Time.IsZero() {
					t.Errorf("message %+v: %v", m, err)
				}
				found <- m.Key.Pod + " " + m.Key.User + " " + string(m.Key.Event)
				return nil
			},
			CaughtUp: func() error {
				ready <- struct{}{}
				return nil
			},
			Anew: func() { again <- struct{}{} },
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("read ended: %v", err)
		}
		return nil
	})
	return found, ready, again
}

// past reads what a query finds in the log as it is.
func (s *site) past(t *testing.T, q follow.Query) []string {
	t.Helper()
	q.Cluster = eventstest.Cluster
	over := errors.New("over")
	var found []string
	err := s.log.Read(t.Context(), q, follow.Reader{
		Message: func(m follow.Message) error {
			found = append(found, m.Key.Pod+" "+string(m.Key.Event))
			return nil
		},
		CaughtUp: func() error { return over },
		Anew:     func() { t.Error("anew") },
	})
	if !errors.Is(err, over) {
		t.Fatalf("read: %v", err)
	}
	return found
}

func TestPast(t *testing.T) {
	t.Parallel()
	s := setup(t)
	eventstest.Bring(t, s.bus, "a", alice, events.Gone)
	eventstest.Bring(t, s.bus, "b", bob, events.Licensed)
	second := s.again(t, "a", alice, events.Launching)
	after := events.At(created(t, s), second.Sequence-1)

	lifeOfA := []string{"a claimed", "a licensed", "a launching"}
	firstOfA := []string{
		"a claimed", "a licensed", "a launching", "a launched", "a waiting", "a running", "a ready", "a ended", "a deleting", "a gone",
	}
	tests := map[string]struct {
		query follow.Query
		want  []string
	}{
		"nothing from the end": {follow.Query{From: follow.FromEnd}, nil},
		"everything":           {follow.Query{From: follow.FromStart}, concat(firstOfA, []string{"b claimed", "b licensed"}, lifeOfA)},
		"present lives":        {follow.Query{From: follow.FromLife}, concat([]string{"b claimed", "b licensed"}, lifeOfA)},
		"one user":             {follow.Query{From: follow.FromLife, User: alice}, lifeOfA},
		"another user's name":  {follow.Query{From: follow.FromStart, User: bob, Pod: "a"}, nil},
		"some types": {
			follow.Query{From: follow.FromStart, Types: []events.Type{events.Ready, events.Gone, events.Licensed}},
			[]string{"a licensed", "a ready", "a gone", "b licensed", "a licensed"},
		},
		"some types of a life": {follow.Query{From: follow.FromLife, Pod: "a", Types: []events.Type{events.Launching}}, []string{"a launching"}},
		"after a position":     {follow.Query{From: follow.FromPosition, After: after}, []string{"a launching"}},
		"after one of a log that is no more": {
			follow.Query{From: follow.FromPosition, Pod: "b", After: events.Position{Created: 1, Sequence: 1000}}, []string{"b claimed", "b licensed"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, s.past(t, tt.query)); diff != "" {
				t.Errorf("past (-want +got):\n%s", diff)
			}
		})
	}
}

// again takes a pod that is gone through another life up to an event.
func (s *site) again(t *testing.T, pod, user string, last events.Type) natsbus.Entry {
	t.Helper()
	var entry natsbus.Entry
	for _, fact := range eventstest.Life(pod, user, "cmd-again-"+pod, "", "uid-again-"+pod) {
		fact.Generation = entry.Generation
		var err error
		if entry, _, err = s.bus.Append(t.Context(), pod, fact); err != nil {
			t.Fatalf("append %s: %v", fact.Kind, err)
		}
		if entry.Event == last {
			return entry
		}
	}
	t.Fatalf("no %s", last)
	return entry
}

func concat(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func TestLiveAcrossARestart(t *testing.T) {
	t.Parallel()
	s := setup(t)
	eventstest.Bring(t, s.bus, "a", alice, events.Launched)
	messages, caughtUp, anew := s.read(t, follow.Query{From: follow.FromEnd})
	eventstest.Receive(t, "caught up", caughtUp)
	expect := func(want ...string) {
		t.Helper()
		for _, w := range want {
			if got := eventstest.Receive(t, w, messages); got != w {
				t.Fatalf("read %q, want %q", got, w)
			}
		}
	}
	eventstest.Bring(t, s.bus, "b", bob, events.Licensed)
	expect("b bob claimed", "b bob licensed")

	s.server.Restart()
	s.bus = eventstest.NewBus(t, s.server, "again") // The first may not know yet that it has lost its connection.
	eventstest.Bring(t, s.bus, "c", alice, events.Claimed)
	expect("c alice@dtu.dk claimed")
	eventstest.Eventually(t, "a notice about both", func() bool {
		return s.noticed("lost the connection to NATS") && s.noticed("connected to NATS again")
	})
	if len(anew) > 0 {
		t.Error("a restart is no log that was made anew")
	}
}

func TestLogMadeAnew(t *testing.T) {
	t.Parallel()
	s := setup(t)
	eventstest.Bring(t, s.bus, "a", alice, events.Ready)
	messages, caughtUp, anew := s.read(t, follow.Query{From: follow.FromStart, Types: []events.Type{events.Claimed, events.Licensed}})
	eventstest.Receive(t, "caught up", caughtUp)
	s.server.Wipe()
	s.bus = eventstest.NewBus(t, s.server, "anew")
	eventstest.Bring(t, s.bus, "b", bob, events.Licensed)
	eventstest.Receive(t, "anew", anew)
	for _, want := range []string{"a alice@dtu.dk claimed", "a alice@dtu.dk licensed", "b bob claimed", "b bob licensed"} {
		if got := eventstest.Receive(t, want, messages); got != want {
			t.Fatalf("read %q, want %q", got, want)
		}
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	empty := eventstest.NewListeningServer(t)
	tests := map[string]struct{ url, want string }{
		"nobody there": {"nats://someone:secret@" + nobody, "connect to NATS: nats: no servers available for connection"},
		"no URL":       {"nats://someone:secret@%zz", "connect to NATS: the server cannot be reached, or its URL is malformed"},
		"no log":       {empty.URL(), "the NATS server has no stream LOG: nats: API error: code=404 err_code=10059 description=stream not found"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, err := follow.Open(t.Context(), tt.url, "test", func(string) {})
			if err == nil {
				log.Close()
				t.Fatal("opened")
			}
			if err.Error() != tt.want {
				t.Errorf("error %q, want %q", err, tt.want)
			}
		})
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	// A server that takes connections and says nothing.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, err := listener.Accept()
		cancel()
		if err == nil {
			_, _ = conn.Read(make([]byte, 1)) // Until the client has gone.
			_ = conn.Close()
		}
	}()
	if log, err := follow.Open(ctx, "nats://"+listener.Addr().String(), "test", func(string) {}); err == nil {
		log.Close()
		t.Error("opened")
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	s := setup(t)
	entry := eventstest.Bring(t, s.bus, "a", alice, events.Claimed)
	end, err := s.log.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(events.At(created(t, s), entry.Sequence), end); diff != "" {
		t.Errorf("end (-want +got):\n%s", diff)
	}
}

func TestReaderThatFails(t *testing.T) {
	t.Parallel()
	s := setup(t)
	eventstest.Bring(t, s.bus, "a", alice, events.Ready)
	broken := errors.New("broken")
	calls := 0
	err := s.log.Read(t.Context(), follow.Query{Cluster: eventstest.Cluster, From: follow.FromStart}, follow.Reader{
		Message: func(follow.Message) error {
			calls++
			return broken
		},
	})
	if !errors.Is(err, broken) || calls != 1 {
		t.Errorf("error %v after %d calls, want the reader's after one", err, calls)
	}
}

// events of a life, one slice for each call of emit.
func (s *site) life(t *testing.T, l follow.Life) <-chan []events.Type {
	t.Helper()
	l.Log, l.Cluster = s.log, eventstest.Cluster
	told := make(chan []events.Type, 100)
	eventstest.Go(t, func(ctx context.Context) error {
		err := l.Follow(ctx, func(happened []events.Event) {
			var types []events.Type
			for _, e := range happened {
				types = append(types, e.Record.Event)
			}
			told <- types
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("follow ended: %v", err)
		}
		return nil
	})
	return told
}

func TestLife(t *testing.T) {
	t.Parallel()
	s := setup(t)
	eventstest.Bring(t, s.bus, "a", alice, events.Gone)
	end, err := s.log.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The newest life, and one that begins after a position, which has not begun yet.
	newest := s.life(t, follow.Life{Pod: "a", User: alice})
	next := s.life(t, follow.Life{Pod: "a", User: alice, After: &end})
	stranger := s.life(t, follow.Life{Pod: "a", User: bob})
	if got := eventstest.Receive(t, "the past", newest); len(got) != 10 || got[9] != events.Gone {
		t.Errorf("past %v, want the whole life", got)
	}
	s.again(t, "a", alice, events.Licensed)
	for name, told := range map[string]<-chan []events.Type{"newest": newest, "next": next} {
		var got []events.Type
		for len(got) < 2 {
			got = append(got, eventstest.Receive(t, name, told)...)
		}
		if diff := cmp.Diff([]events.Type{events.Claimed, events.Licensed}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if len(stranger) > 0 {
		t.Error("another user is told")
	}
}

func TestLifeLeavesOutTheOneBefore(t *testing.T) {
	t.Parallel()
	s := setup(t)
	eventstest.Bring(t, s.bus, "a", alice, events.Deleting)
	end, err := s.log.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The pod that has the name now goes after the position, then comes the one that is meant.
	last, err := s.bus.Last(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.bus.Append(t.Context(), "a", eventstest.Gone(last.Generation)); err != nil {
		t.Fatal(err)
	}
	s.again(t, "a", alice, events.Licensed)
	told := s.life(t, follow.Life{Pod: "a", User: alice, After: &end})
	if diff := cmp.Diff([]events.Type{events.Claimed, events.Licensed}, eventstest.Receive(t, "the past", told)); diff != "" {
		t.Errorf("past (-want +got):\n%s", diff)
	}
}

func created(t *testing.T, s *site) time.Time {
	t.Helper()
	c, err := s.bus.Created(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}
