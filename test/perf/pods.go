package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

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

// measurePods lets users, many at once, have a pod each, on both sides in turn.
func measurePods(ctx context.Context, l lab, r *report) error {
	return l.withSite(ctx, func(ctx context.Context, s *site) error {
		floor, berth, err := s.sides(ctx, l.plan.Concurrency)
		if err != nil {
			return err
		}
		defer berth.close()
		b := bench{plan: l.plan, meter: newMeter(s.clients), progress: l.progress, floor: floor, berth: berth, overspent: overspent}
		got, failures, err := b.run(ctx)
		r.Pods, r.Failures = got, append(r.Failures, failures...)
		return err
	})
}

// bench runs the rounds.
type bench struct {
	plan         plan
	meter        *meter
	progress     io.Writer
	floor, berth side
	// overspent says what Berth has asked of the API server that it must not.
	overspent func(own map[string]int, pods int) []string
}

func (b *bench) run(ctx context.Context) (r *load, failures []string, err error) {
	r = &load{Users: b.plan.Users, Concurrency: b.plan.Concurrency}
	if err := b.warmUp(ctx); err != nil {
		return nil, nil, fmt.Errorf("warm up: %w", err)
	}
	r.Before = memoryNow(ctx, 0)
	for n := 1; n <= b.plan.Rounds; n++ {
		for _, kind := range []string{kindFloor, kindBerth} {
			got, wrong, err := b.round(ctx, n, kind)
			if err != nil {
				return nil, nil, fmt.Errorf("%s round %d: %w", kind, n, err)
			}
			fmt.Fprintf(b.progress, "perf: round %d/%d %s: %.1f pods/s, %d failures\n", n, b.plan.Rounds, kind, got.PodsPerSecond, len(wrong))
			r.Rounds = append(r.Rounds, got)
			failures = append(failures, wrong...)
		}
	}
	r.conclude()
	r.After = memoryNow(ctx, r.Before.Goroutines)
	return r, failures, nil
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

// round drives all users through one side and meters it, once more where Berth asks too much of the API server: a lease that is
// lost and a command that is delivered twice, as on a busy machine, cost requests once; what Berth asks without need comes again.
func (b *bench) round(ctx context.Context, n int, kind string) (got round, failures []string, err error) {
	got, failures, excess, err := b.once(ctx, n, kind)
	if err == nil && len(failures) == 0 && len(excess) > 0 {
		fmt.Fprintf(b.progress, "perf: round %d/%d %s again: %s\n", n, b.plan.Rounds, kind, strings.Join(excess, "; "))
		got, failures, excess, err = b.once(ctx, n, kind)
	}
	return got, append(failures, excess...), err
}

// once is one try of a round; excess is what Berth has asked too much.
func (b *bench) once(ctx context.Context, n int, kind string) (got round, failures, excess []string, err error) {
	s := b.floor
	if kind == kindBerth {
		s = b.berth
	}
	end, err := s.open(ctx)
	if err != nil {
		return round{}, nil, nil, err
	}
	defer end()
	before, err := b.meter.read(ctx)
	if err != nil {
		return round{}, nil, nil, err
	}
	stopProfile, err := b.profile(n, kind)
	if err != nil {
		return round{}, nil, nil, err
	}
	var t times
	begun := time.Now()
	failures = drive(ctx, b.plan, func(ctx context.Context, user string) error { return s.life(ctx, user, &t) })
	took := time.Since(begun)
	if err := stopProfile(); err != nil {
		return round{}, nil, nil, err
	}
	// A round that was cut short has nothing to say.
	if ctx.Err() != nil {
		return round{}, nil, nil, context.Cause(ctx)
	}
	after, err := b.meter.read(ctx)
	if err != nil {
		return round{}, nil, nil, err
	}
	if err := s.leftover(ctx); err != nil {
		failures = append(failures, err.Error())
	}
	diff := after.since(before)
	if kind == kindBerth && b.plan.Processes == "" {
		excess = b.overspent(diff.own, b.plan.Users)
	}
	return t.round(n, kind, took, diff), failures, excess, nil
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
