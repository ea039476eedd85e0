package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	// StopBudget is the time that a stop has in all, if the context of Stop does not end earlier.
	StopBudget = 8 * time.Second
	// lastChance is what a clean-up still gets whose turn comes when the budget is spent.
	lastChance = 250 * time.Millisecond
)

var (
	// ErrStarted is returned by a second Start.
	ErrStarted = errors.New("service has been started already")
	// ErrStopped is returned by a Start after or during a stop, and is the cause of contexts
	// that a stop without another cause has ended.
	ErrStopped = errors.New("service has been stopped")
	// ErrStopTimeout marks a clean-up or goroutine that did not end in time.
	ErrStopTimeout = errors.New("did not end in time")
)

// Lifecycle starts a service once and stops it once. What start builds is taken down in the
// reverse order: each goroutine of [Lifecycle.Go] is cancelled and waited for, and each clean-up of
// [Lifecycle.OnStop] is called, before what was there earlier. So a server drains while the
// connections that it uses still work.
//
// All methods may be called at any time and concurrently, with a stop before the start and stops
// without end.
type Lifecycle struct {
	name  string
	log   zerolog.Logger
	start func(context.Context) error

	draining chan struct{} // Closed when the stop begins.
	stopped  chan struct{} // Closed when it is over.

	mu          sync.Mutex
	base        context.Context         //nolint:containedctx // The values that goroutines see: the service's life, not a call's.
	starting    chan struct{}           // Closed when start has returned; nil before Start.
	cancelStart context.CancelCauseFunc // Ends start.
	up          bool                    // Start has succeeded.
	cause       error                   // Why the stop began.
	failure     error                   // The cause, if the service failed.
	stack       []cleanup
	closed      bool  // The stack has been emptied for good.
	err         error // What Stop returns.
}

type cleanup struct {
	name string
	f    func(context.Context) error
}

// NewLifecycle returns a service that is not started. start opens what the service needs, and
// registers it with OnStop and Go as soon as it is there; it must return when its context ends.
func NewLifecycle(name string, log zerolog.Logger, start func(context.Context) error) *Lifecycle {
	return &Lifecycle{
		name: name, log: log, start: start,
		draining: make(chan struct{}), stopped: make(chan struct{}),
		base: log.WithContext(context.Background()),
	}
}

// Start calls start and returns its error, after everything that it had opened has been closed.
// The context bounds the start alone: once it has succeeded the service runs until Stop,
// and its goroutines keep the values of the context.
//
// It returns ErrStarted when it was called before, and ErrStopped when Stop was, also if that
// was meanwhile.
func (l *Lifecycle) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(l.log.WithContext(ctx))
	defer cancel(nil)
	if err := l.enter(ctx, cancel); err != nil {
		return fmt.Errorf("start %s: %w", l.name, err)
	}
	err := l.start(ctx)
	ended := err != nil && ctx.Err() != nil && isEnd(ctx, err)

	l.mu.Lock()
	close(l.starting)
	if l.up = err == nil && l.cause == nil; l.up {
		l.mu.Unlock()
		l.log.Info().Msg("Service started")
		return nil
	}
	switch interrupted := l.cause != nil; {
	case interrupted && (err == nil || ended):
		err = ErrStopped
	case interrupted:
		err = errors.Join(ErrStopped, err)
	case ended:
		l.begin(context.Background(), err, nil)
	default:
		l.begin(context.Background(), err, err)
		err = nil // It is part of what the stop returns.
	}
	l.mu.Unlock()
	<-l.stopped
	return fmt.Errorf("start %s: %w", l.name, errors.Join(err, l.err))
}

// enter notes that start is about to be called.
func (l *Lifecycle) enter(ctx context.Context, cancel context.CancelCauseFunc) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.cause != nil:
		return ErrStopped
	case l.starting != nil:
		return ErrStarted
	}
	l.base = context.WithoutCancel(ctx)
	l.starting, l.cancelStart = make(chan struct{}), cancel
	return nil
}

// Run starts the service, waits until the context ends or the service fails, and stops it. It
// returns the error of [Lifecycle.Stop]: nil when the context ended and the stop went well.
func (l *Lifecycle) Run(ctx context.Context) error {
	if err := l.Start(ctx); err != nil && (ctx.Err() == nil || errors.Is(err, ErrStarted)) {
		return err
	}
	select {
	case <-ctx.Done():
		l.stop(context.WithoutCancel(ctx), context.Cause(ctx), nil)
	case <-l.draining:
	}
	return l.Stop(context.WithoutCancel(ctx))
}

// Stop stops the service and returns when that is done: the error that made the service fail, if
// one did, joined with those of the clean-ups. Every call returns the same error.
//
// The first call begins the stop, which takes at most [StopBudget], or what is left until the
// deadline of its context. A call whose context ends earlier returns, and the stop goes on.
func (l *Lifecycle) Stop(ctx context.Context) error {
	l.stop(ctx, ErrStopped, nil)
	select {
	case <-l.stopped:
		return l.err
	default:
	}
	select {
	case <-l.stopped:
		return l.err
	case <-ctx.Done():
	}
	// A stop with the same deadline says just after it what did not end.
	select {
	case <-l.stopped:
		return l.err
	case <-time.After(lastChance):
		return fmt.Errorf("stop %s: %w", l.name, context.Cause(ctx))
	}
}

// Draining is closed when the stop begins, before the first clean-up: who holds clients that
// wait lets them go then.
func (l *Lifecycle) Draining() <-chan struct{} { return l.draining }

// Ready is a check for [Health]: nil between the end of Start and the beginning of the stop.
func (l *Lifecycle) Ready(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.cause != nil:
		return fmt.Errorf("stopping: %w", l.cause)
	case !l.up:
		return errors.New("starting")
	default:
		return nil
	}
}

// OnStop registers a clean-up. Its context ends when the time for the stop is over. If
// everything has been taken down already, it is called at once.
func (l *Lifecycle) OnStop(name string, f func(context.Context) error) {
	if l.push(cleanup{name: name, f: f}) {
		return
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), lastChance, ErrStopTimeout)
	defer cancel()
	if err := runCleanup(ctx, cleanup{name: name, f: f}); err != nil {
		l.log.Error().Err(err).Msg("Late clean-up failed")
	}
}

// Go runs f in a goroutine that lives as long as the service, until its context ends. If f returns
// an error before that, the service stops, with this error as the cause; nil means that f had
// nothing more to do. Goroutines stop one after another; those that may stop together share one Go.
// After the stop f is not called at all.
func (l *Lifecycle) Go(name string, f func(context.Context) error) {
	l.mu.Lock()
	base := l.base
	l.mu.Unlock()
	ctx, cancel := context.WithCancelCause(base)
	done := make(chan error, 1)
	end := func(context.Context) error {
		cancel(l.why())
		return <-done
	}
	if !l.push(cleanup{name: name, f: end}) {
		cancel(ErrStopped)
		return
	}
	go func() {
		err := f(ctx)
		switch {
		case err == nil || ctx.Err() != nil && isEnd(ctx, err):
			done <- nil
		case ctx.Err() != nil:
			done <- err
		default:
			err = fmt.Errorf("%s: %w", name, err)
			l.stop(context.Background(), err, err)
			done <- nil
		}
		cancel(nil)
	}()
}

// isEnd tells whether an error says no more than that the context has ended.
func isEnd(ctx context.Context, err error) bool {
	return errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))
}

func (l *Lifecycle) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}
