package follow_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/cmd/berth/internal/follow"
	"berth/pkg/events"
	"berth/pkg/events/eventstest"
)

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
	s.again(t, "a", alice, events.Launching)

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
