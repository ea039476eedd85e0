package service

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// stop begins the stop unless it has begun. A failure is a cause that the stop returns.
func (l *Lifecycle) stop(ctx context.Context, cause, failure error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil {
		l.begin(ctx, cause, failure)
	}
}

// begin begins the stop. The caller holds the lock and has seen that there is no cause yet.
func (l *Lifecycle) begin(ctx context.Context, cause, failure error) {
	l.cause, l.failure = cause, failure
	if l.cancelStart != nil {
		l.cancelStart(cause)
	}
	close(l.draining)
	budget := StopBudget
	if deadline, ok := ctx.Deadline(); ok {
		budget = min(budget, time.Until(deadline))
	}
	go l.teardown(budget, l.starting) //nolint:gosec // A stop outlives the request for it.
}

// teardown waits for start and empties the stack, the newest first. It owns the end of the
// service: whoever stops waits for it.
func (l *Lifecycle) teardown(budget time.Duration, starting <-chan struct{}) {
	begun := time.Now()
	ctx, cancel := context.WithTimeoutCause(l.log.WithContext(context.Background()), budget, ErrStopTimeout)
	defer cancel()
	if starting != nil {
		l.log.Info().AnErr("cause", l.why()).Msg("Service stopping")
	}
	errs := []error{l.failure}
	if starting != nil {
		wait := cleanup{name: "start", f: func(context.Context) error { <-starting; return nil }}
		errs = append(errs, runCleanup(ctx, wait))
	}
	for c, ok := l.pop(); ok; c, ok = l.pop() {
		errs = append(errs, runCleanup(ctx, c))
	}
	l.err = errors.Join(errs...)
	if starting != nil {
		l.log.Info().Dur("took_ms", time.Since(begun)).Msg("Service stopped")
	}
	close(l.stopped)
}

// runCleanup calls the clean-up and gives up on it when the context ends, or shortly after that.
func runCleanup(ctx context.Context, c cleanup) error {
	done := make(chan error, 1)
	go func() { done <- c.f(ctx) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		timer := time.NewTimer(lastChance)
		defer timer.Stop()
		select {
		case err = <-done:
		case <-timer.C:
			err = ErrStopTimeout
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}

// push adds a clean-up; false means that it is too late.
func (l *Lifecycle) push(c cleanup) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.stack = append(l.stack, c)
	return true
}

// pop takes the newest clean-up. After the last one none can be added.
func (l *Lifecycle) pop() (cleanup, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.stack) - 1
	if last < 0 {
		l.closed = true
		return cleanup{}, false
	}
	c := l.stack[last]
	l.stack = l.stack[:last]
	return c, true
}
