package app

import (
	"context"
	"sync"
	"time"

	"berth/pkg/events/natsbus"
)

// claims hands the news that a claim is bound to the launches that wait for it. It is
// safe for concurrent use.
type claims struct {
	// draining, where it is not nil, ends all waits when it is closed.
	draining <-chan struct{}

	mu    sync.Mutex
	waits map[string]map[*claimWait]bool // By the claim's name.
}

// claimWait is a launch that waits for a claim.
type claimWait struct {
	claims *claims
	name   string
	news   chan string // UIDs.
}

// newsKept is how much news a wait keeps. A claim is bound once; more is about
// others that have had its name.
const newsKept = 8

// expect begins to collect the news about claims of a name. End it.
func (c *claims) expect(name string) *claimWait {
	w := &claimWait{claims: c, name: name, news: make(chan string, newsKept)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waits == nil {
		c.waits = map[string]map[*claimWait]bool{}
	}
	if c.waits[name] == nil {
		c.waits[name] = map[*claimWait]bool{}
	}
	c.waits[name][w] = true
	return w
}

// say hands on that a claim is bound. It does not block: news that nobody takes
// is dropped, and the waiting look by themselves.
func (c *claims) say(b natsbus.Bound) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waits[b.Claim] {
		select {
		case w.news <- b.UID:
		default:
		}
	}
}

// end forgets the wait.
func (w *claimWait) end() {
	w.claims.mu.Lock()
	defer w.claims.mu.Unlock()
	delete(w.claims.waits[w.name], w)
	if len(w.claims.waits[w.name]) == 0 {
		delete(w.claims.waits, w.name)
	}
}

// bound waits until the claim with a UID is said to be bound. It says false when
// that is not within patience, or the context or the service ends before.
func (w *claimWait) bound(ctx context.Context, uid string, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case said := <-w.news:
			if said == uid {
				return true
			}
		case <-timer.C:
			return false
		case <-w.claims.draining:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
