package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"berth/cmd/devstack/stack"
	"berth/pkg/kube/client"
	"berth/pkg/service"
	"berth/pkg/service/config"
)

// stopLimit bounds the stop of everything.
const stopLimit = 15 * time.Second

// The two kinds of rounds.
const (
	kindFloor = "floor"
	kindBerth = "berth"
)

// side is one of the two ways to a pod.
type side interface {
	// open gets ready for a round; the function returned ends it.
	open(ctx context.Context) (end func(), err error)
	// life takes a user's pod from its creation to its end, notes the times in
	// t, and returns an error for the first answer that is wrong.
	life(ctx context.Context, user string, t *times) error
	// leftover returns an error if anything of the round is still in the cluster.
	leftover(ctx context.Context) error
}

// measure starts everything, runs the rounds, and stops everything. Wrong answers
// are in the report; the error is for what kept it from measuring.
func measure(ctx context.Context, p plan, log zerolog.Logger, progress io.Writer) (r report, err error) {
	s, err := stack.Start(ctx, stack.Options{
		Listen: "127.0.0.1:0", Data: p.Dir, Config: config.Default(), Log: log, Progress: progress,
	})
	if err != nil {
		return report{}, err
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watching.Go(func() {
		s.Wait(ctx)
		cancel(errors.New("a part of the stack has stopped"))
	})
	defer func() {
		stopCtx, done := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
		defer done()
		err = errors.Join(err, s.Stop(stopCtx))
	}()

	clients, _, err := client.New(client.Options{Kubeconfig: s.Kubeconfig, Service: "perf", Version: service.Version(), QPS: -1})
	if err != nil {
		return report{}, err
	}
	berth := newBerth(s.URL, s.ManifestsURL+"/notebook.yaml", clients, config.Default().Namespace, p.Concurrency)
	defer berth.close()
	template, err := berth.learn(ctx)
	if err != nil {
		return report{}, fmt.Errorf("make a first pod: %w", err)
	}
	floor, err := newFloor(ctx, clients, template)
	if err != nil {
		return report{}, err
	}
	b := bench{plan: p, meter: newMeter(clients), progress: progress, floor: floor, berth: berth}
	return b.run(ctx)
}

// bench runs the rounds.
type bench struct {
	plan         plan
	meter        *meter
	progress     io.Writer
	floor, berth side
}

func (b *bench) run(ctx context.Context) (report, error) {
	r := report{Users: b.plan.Users, Concurrency: b.plan.Concurrency, CPUs: runtime.NumCPU()}
	if err := b.warmUp(ctx); err != nil {
		return report{}, fmt.Errorf("warm up: %w", err)
	}
	r.Before = memoryNow(ctx, 0)
	for n := 1; n <= b.plan.Rounds; n++ {
		for _, kind := range []string{kindFloor, kindBerth} {
			got, failures, err := b.round(ctx, n, kind)
			if err != nil {
				return report{}, fmt.Errorf("%s round %d: %w", kind, n, err)
			}
			fmt.Fprintf(b.progress, "round %d/%d %s: %.1f pods/s, %d failures\n", n, b.plan.Rounds, kind, got.PodsPerSecond, len(failures))
			r.Rounds = append(r.Rounds, got)
			r.Failures = append(r.Failures, failures...)
		}
	}
	r.conclude()
	r.After = memoryNow(ctx, r.Before.Goroutines)
	return r, nil
}

// warmUp runs a short round of each kind that does not count: caches are filled,
// connections opened, and what programs do once after their start is done.
func (b *bench) warmUp(ctx context.Context) error {
	short := *b
	short.plan.Users, short.plan.Profile = min(b.plan.Users, b.plan.Concurrency), ""
	for _, kind := range []string{kindFloor, kindBerth} {
		_, failures, err := short.round(ctx, 0, kind)
		if err != nil {
			return err
		}
		if len(failures) > 0 {
			return errors.New(failures[0])
		}
	}
	return nil
}

// round drives all users through one side and meters it.
func (b *bench) round(ctx context.Context, n int, kind string) (got round, failures []string, err error) {
	s := b.floor
	if kind == kindBerth {
		s = b.berth
	}
	end, err := s.open(ctx)
	if err != nil {
		return round{}, nil, err
	}
	defer end()
	before, err := b.meter.read(ctx)
	if err != nil {
		return round{}, nil, err
	}
	stopProfile, err := b.profile(n, kind)
	if err != nil {
		return round{}, nil, err
	}
	var t times
	begun := time.Now()
	failures = drive(ctx, b.plan, func(ctx context.Context, user string) error { return s.life(ctx, user, &t) })
	took := time.Since(begun)
	if err := stopProfile(); err != nil {
		return round{}, nil, err
	}
	// A round that was cut short has nothing to say.
	if ctx.Err() != nil {
		return round{}, nil, context.Cause(ctx)
	}
	after, err := b.meter.read(ctx)
	if err != nil {
		return round{}, nil, err
	}
	if err := s.leftover(ctx); err != nil {
		failures = append(failures, err.Error())
	}
	return t.round(n, kind, took, after.since(before)), failures, nil
}

// profile begins a CPU profile of this process if the plan wants one; the
// function returned ends it.
func (b *bench) profile(n int, kind string) (stop func() error, err error) {
	if b.plan.Profile == "" || kind != kindBerth {
		return func() error { return nil }, nil
	}
	file, err := os.Create(fmt.Sprintf("%s.%d", b.plan.Profile, n))
	if err != nil {
		return nil, fmt.Errorf("make a profile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(fmt.Errorf("make a profile: %w", err), file.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return file.Close()
	}, nil
}

// drive calls life for each user, as many at once as the plan says, and returns
// what went wrong.
func drive(ctx context.Context, p plan, life func(ctx context.Context, user string) error) (failures []string) {
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(p.Concurrency)
	for n := 1; n <= p.Users && ctx.Err() == nil; n++ {
		group.Go(func() error {
			user := userID(n)
			// The label tells the load apart from Berth in a profile.
			pprof.Do(ctx, pprof.Labels("part", "load"), func(ctx context.Context) {
				if err := life(ctx, user); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failures = append(failures, user+": "+err.Error())
				}
			})
			return nil
		})
	}
	_ = group.Wait() // What went wrong is in failures.
	return failures
}

// userID is the id of user n; user 0 is the one whose pod the floor copies.
func userID(n int) string { return fmt.Sprintf("u%03d@example.org", n) }
