package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// The bounds of a pause before a request is repeated, whatever the service asks for.
	minWait = 200 * time.Millisecond
	maxWait = 30 * time.Second
	// maxKnock is the longest pause while the service cannot be reached: who waits for it
	// sees it soon after it is back.
	maxKnock = time.Second
)

// repetition decides whether a request that has failed is made again. It is for one
// request and one goroutine.
type repetition struct {
	// attempts is how often the request may reach the service at the most, patience for
	// how long the service may be out of reach; see [Options].
	attempts int
	patience time.Duration
	// reached counts the attempts that have reached the service, or may have; missed
	// those since then that have not, the first of which began at away.
	reached, missed int
	away            time.Time
	// uncertain says that an attempt that may have been carried out is not the last one.
	uncertain, lost bool
}

// after takes in how an attempt has failed, when it began, and what time it is. It returns
// whether another one is worth while, and the pause before it.
func (r *repetition) after(err error, began, now time.Time) (pause time.Duration, again bool) {
	r.uncertain, r.lost = r.uncertain || r.lost, lost(err)
	p, told := errors.AsType[*Problem](err)
	switch {
	case told && !p.passing(), errors.Is(err, ErrNotSent), errors.Is(err, ErrForeign), misdirected(err), r.attempts <= 1:
		return 0, false
	case Unsent(err):
		if r.missed++; r.missed == 1 {
			r.away = began
		}
		left := r.patience - now.Sub(r.away)
		return min(growing(r.missed), maxKnock, left), left > 0
	}
	r.missed = 0
	r.reached++
	pause = growing(r.reached)
	if told && p.RetryAfter > 0 {
		pause = p.RetryAfter
	}
	return pause, r.reached < r.attempts
}

// last is the error of a request that is not made again.
func (r *repetition) last(err error) error {
	if r.uncertain {
		return &repeatedError{err}
	}
	return err
}

// repeatedError is the error of a request that an earlier attempt may have carried out.
type repeatedError struct{ err error }

func (e *repeatedError) Error() string { return e.err.Error() }
func (e *repeatedError) Unwrap() error { return e.err }

// growing is the pause after so many failures in a row, from 1.
func growing(failures int) time.Duration { return minWait << min(failures-1, 8) }

// wait sleeps before something is tried again; it returns false when ctx ends before.
func (c *Client) wait(ctx context.Context, err error, pause time.Duration) bool {
	pause = min(max(pause, minWait), maxWait)
	// Those who were sent away together shall not come back together.
	pause += rand.N(pause/4 + 1) //nolint:gosec // Not a secret.
	if c.opts.OnRetry != nil {
		c.opts.OnRetry(err, pause)
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
