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
