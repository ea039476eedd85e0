package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"berth/pkg/events"
	"berth/pkg/service"
	"berth/pkg/service/config"
	"berth/pkg/service/worker"
	api "berth/services/api/app"
)

// abandoned is what this process held before long polls that nobody waited for to
// their end, while they were open, and after them.
type abandoned struct {
	Polls  int    `json:"polls"`
	Before memory `json:"before"`
	Open   memory `json:"open"`
	After  memory `json:"after"`
}

const (
	// abandonedPods is how many pods the polls are about.
	abandonedPods = 100
	// mostGoroutines and mostHeap are how much more there may be afterwards: what
	// comes and goes by itself.
	mostGoroutines = 20
	mostHeap       = 2 << 20
)

// measureAbandon opens long polls for pods that do not become ready, and gives
// them up.
func measureAbandon(ctx context.Context, l lab, r *report) error {
	if err := enoughFiles(l.plan.Abandoned); err != nil {
		return err
	}
	return l.withLog(ctx, abandonedPods, events.Launched, func(ctx context.Context, b *logServer) (err error) {
		front := api.New(worker.Options{InProcess: b.server, Process: service.Process{
			Identity: service.NewIdentity("api"), Config: config.Default(), Log: l.log, Listen: "127.0.0.1:0",
		}})
		if err := front.Start(ctx); err != nil {
			return err
		}
		defer func() {
			stopCtx, done := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
			defer done()
			err = errors.Join(err, front.Stop(stopCtx))
		}()
		client := newBerth("http://"+front.Addr(), "", nil, "", l.plan.Abandoned)
		defer client.close()
		err = poll(ctx, time.Millisecond, func() (bool, error) { return front.Health.Ready(ctx) == nil, nil })
		if err != nil {
			return err
		}
		// As many came and went before: the runtime keeps what it needs for each
		// goroutine for the next one, and pools are filled.
		if _, err := client.abandon(ctx, l.plan.Abandoned); err != nil {
			return err
		}
		got := &abandoned{Polls: l.plan.Abandoned, Before: memoryNow(ctx, 0)}
		if got.Open, err = client.abandon(ctx, l.plan.Abandoned); err != nil {
			return err
		}
		got.After = memoryNow(ctx, got.Before.Goroutines)
		r.Abandon, r.Failures = got, append(r.Failures, got.faults()...)
		return nil
	})
}

func (a *abandoned) faults() (faults []string) {
	if more := a.After.Goroutines - a.Before.Goroutines; more > mostGoroutines {
		faults = append(faults, fmt.Sprintf("%d goroutines are left of %d abandoned long polls", more, a.Polls))
	}
	if a.After.HeapBytes > a.Before.HeapBytes+mostHeap {
		faults = append(faults, fmt.Sprintf("%.1f MB are left of %d abandoned long polls", megabytes(a.After)-megabytes(a.Before), a.Polls))
	}
	return faults
}

// abandon opens long polls, gives them up once all are open, waits until the api
// has noticed, and returns what was held in between.
func (b *berth) abandon(ctx context.Context, n int) (open memory, err error) {
	polling, giveUp := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	for i := range n {
		waiting.Go(func() { _ = b.awaitReady(polling, userID(i%abandonedPods), podName(i%abandonedPods)) })
	}
	if err = b.awaitOpen(ctx, n); err == nil {
		open = memoryNow(ctx, 0)
	}
	giveUp()
	waiting.Wait()
	if err != nil {
		return open, err
	}
	if err := b.awaitOpen(ctx, 0); err != nil {
		return open, fmt.Errorf("give up: %w", err)
	}
	b.close()
	return open, nil
}
