package app

import (
	"context"
	"sync"

	"berth/pkg/events/natsbus"
)

// confirms asks the cluster whether a pod has an address, and lets those who ask the same at the same
// time share an answer. An answer is shared only with those who asked before its question was sent: what it
// says was so at a time when all of them were waiting. It is safe for concurrent use.
type confirms struct {
	ask func(context.Context, natsbus.Address) (bool, error)

	mu      sync.Mutex
	flights map[natsbus.Address]*flights
}

// flights are the questions about one address.
type flights struct {
	// now is on its way, or nil; next goes off when now is back, or is nil while nobody waits for it.
	now, next *flight
}

type flight struct {
	done chan struct{}
	has  bool
	err  error
}

func newConfirms(ask func(context.Context, natsbus.Address) (bool, error)) *confirms {
	return &confirms{ask: ask, flights: map[natsbus.Address]*flights{}}
}

// has returns what the cluster says, asked after the call.
func (c *confirms) has(ctx context.Context, a natsbus.Address) (bool, error) {
	f := c.join(ctx, a)
	select {
	case <-f.done:
		return f.has, f.err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// join returns the flight that a question goes with.
func (c *confirms) join(ctx context.Context, a natsbus.Address) *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.flights[a]
	if all == nil {
		all = &flights{}
		c.flights[a] = all
	}
	if all.next == nil {
		all.next = &flight{done: make(chan struct{})}
	}
	f := all.next
	if all.now == nil {
		// Who gives up must not take the answer from the others; the question has a time limit of its own.
		c.start(context.WithoutCancel(ctx), a, all)
	}
	return f
}

// start sends the next question off; c.mu is held.
func (c *confirms) start(ctx context.Context, a natsbus.Address, all *flights) {
	all.now, all.next = all.next, nil
	f := all.now
	go func() {
		f.has, f.err = c.ask(ctx, a)
		close(f.done)
		c.mu.Lock()
		defer c.mu.Unlock()
		if all.next != nil {
			c.start(ctx, a, all)
			return
		}
		delete(c.flights, a)
	}()
}
