// Package servicetest has the tests that every service runs.
package servicetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"berth/pkg/service"
)

// Service is what [Stress] starts and stops.
type Service interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

const (
	// callers is the number of goroutines that start and stop one service.
	callers = 10
	// limit bounds a round. It is far more than a stop may take, also on a machine that is busy with other tests.
	limit = 2 * time.Minute
)

// Stress makes a new service per round and lets ten goroutines start and stop it in all orders,
// all at once; it is meant for -race. It fails the test when a call returns what [service.Lifecycle]
// does not promise, or none at all in time.
//
// A start that a stop interrupts must not count as a failure; every other error of a start does.
func Stress(tb testing.TB, rounds int, newService func() Service) {
	tb.Helper()
	for round := range rounds {
		s := newService()
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		gate := make(chan struct{})
		var group sync.WaitGroup
		for caller := range callers {
			group.Go(func() {
				<-gate
				if caller%3 == 1 {
					stop(ctx, tb, round, s)
				}
				start(ctx, tb, round, s)
				stop(ctx, tb, round, s)
			})
		}
		close(gate)
		group.Wait()
		stop(ctx, tb, round, s)
		if err := s.Start(ctx); !errors.Is(err, service.ErrStopped) {
			tb.Errorf("round %d: start after the stop = %v, want %v", round, err, service.ErrStopped)
		}
		cancel()
	}
}

func start(ctx context.Context, tb testing.TB, round int, s Service) {
	tb.Helper()
	err := s.Start(ctx)
	if err != nil && !errors.Is(err, service.ErrStarted) && !errors.Is(err, service.ErrStopped) {
		tb.Errorf("round %d: start: %v", round, err)
	}
}

func stop(ctx context.Context, tb testing.TB, round int, s Service) {
	tb.Helper()
	if err := s.Stop(ctx); err != nil {
		tb.Errorf("round %d: stop: %v", round, err)
	}
}
