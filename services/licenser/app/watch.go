package app

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	// stuck is for how long the keeper may be at one thing before it gives way to another one. All that it asks for is
	// bounded, and takes less.
	stuck     = 15 * time.Second
	watchTick = time.Second
)

// errStuck ends the term of a keeper that gets nowhere.
var errStuck = errors.New("the keeper has not come on for too long, and gives way to another one")

// progress says since when the keeper is at one thing. It is safe for concurrent use.
type progress struct{ since atomic.Int64 }

// beat says that it has begun another one.
func (p *progress) beat() { p.since.Store(time.Now().UnixNano()) }

// rest says that it has nothing to do, or waits before it tries again.
func (p *progress) rest() { p.since.Store(0) }

// watch returns errStuck as soon as it has been at one thing for longer than limit, and nil when ctx ends.
func (p *progress) watch(ctx context.Context, limit, tick time.Duration) error {
	for pause(ctx, tick) {
		if since := p.since.Load(); since != 0 && time.Since(time.Unix(0, since)) > limit {
			return errStuck
		}
	}
	return nil
}
