package v1

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/pkg/events/eventstest"
)

// TestReplaysOfASilo: those that take long hold up none but their silo's replays, and
// not for ever: what is now is told instead.
func TestReplaysOfASilo(t *testing.T) {
	t.Parallel()
	reading := make(chan struct{}, 100)
	s := newStreams(t, func(h *Handler) { h.ReplayLimit = 10 * time.Second })
	s.log.after = func(ctx context.Context) ([]Step, error) {
		reading <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.happen(5, 1)
	var group sync.WaitGroup
	var resets atomic.Int64
	for range 2 * maxReplays {
		group.Go(func() {
			_, lines := s.openTo("/v1/events", "Last-Event-ID: 1-2\r\n", "event: reset")
			if lines != nil {
				resets.Add(1)
			}
		})
	}
	for range maxReplays {
		eventstest.Receive(t, "a replay", reading)
	}
	if _, lines := s.open(""); lines == nil || resets.Load() > 0 {
		t.Error("a stream that has missed nothing waits for those that have")
	}
	other := s.h.placesOf("other")
	free, err := take(t.Context(), other.replays)
	if err != nil {
		t.Fatal(err)
	}
	free()
	group.Wait()
	if n := resets.Load(); n != 2*maxReplays {
		t.Errorf("%d resets", n)
	}
}
