package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/deleter/internal/reap"
)

// The bounds of a sweep.
const (
	sweepTime     = 2 * time.Minute
	sweepAttempts = 64
)

// lister lists what there is in the cluster; see package cluster.
type lister interface {
	All(ctx context.Context) ([]reap.Object, []reap.Pod, error)
}

// sweeper looks for what no pod needs any more, and removes it.
type sweeper struct {
	bus     *natsbus.Bus
	lister  lister
	objects belongings
	log     zerolog.Logger
	metrics *metrics
}

// scope says what a sweep is about: everything, or what is of one user.
type scope struct {
	user   string
	names  map[string]bool // Of all pods of the user.
	minAge time.Duration
	dryRun bool
}

// result is what a sweep has done.
type result struct {
	report events.Report
	// pending counts what is being removed and is not gone yet.
	pending int
	// fault says what could not be removed; it is counted as pending.
	fault string
}

// handle carries out the sweep stage.
func (s *sweeper) handle(ctx context.Context, c natsbus.Delivery) error {
	begun := time.Now()
	done, err := s.sweep(ctx, scope{user: c.User, minAge: time.Duration(c.Sweep.Spare) * time.Second, dryRun: c.Sweep.DryRun})
	if err != nil {
		return err
	}
	s.metrics.swept(time.Since(begun))
	s.log.Info().Str("command_id", c.ID).Bool("dry_run", c.Sweep.DryRun).Int("found", done.report.Total).
		Int("removed", done.report.Removed).Dur("took_ms", time.Since(begun)).Msg("Looked for what no pod needs any more")
	if err := decide(ctx, s.bus, events.Outcome{Verdict: events.Done, Command: c.ID, User: c.User, Report: &done.report, Message: done.fault}); err != nil {
		return err
	}
	// Whoever asked has the answer. What a finalizer keeps is followed to its end, since
	// its user's creates wait for it.
	if done.pending > 0 && !c.Sweep.DryRun {
		return natsbus.Again(lookAgain(c.Attempt), fmt.Errorf("%d objects are still being removed", done.pending))
	}
	return nil
}

// fail makes it known that a sweep could not be done; the next one tries again.
func (s *sweeper) fail(ctx context.Context, c natsbus.Delivery, reason events.Reason, message string) error {
	return decide(ctx, s.bus, events.Outcome{Verdict: events.Refused, Command: c.ID, User: c.User, Reason: reason, Message: message})
}

// decide appends the outcome of a command that makes no pod. One that was appended
// before, by an earlier delivery, stays.
func decide(ctx context.Context, bus *natsbus.Bus, outcome events.Outcome) error {
	if _, err := bus.Decide(ctx, outcome); err != nil && !errors.Is(err, events.ErrDecided) {
		return err
	}
	return nil
}

// sweep looks, decides, and removes. An error means that nothing can be said about
// what there is; some of it may have been removed.
func (s *sweeper) sweep(ctx context.Context, of scope) (result, error) {
	// In a log that is being rebuilt nothing that is missing is known to be gone.
	if _, err := s.bus.Complete(ctx); err != nil {
		return result{}, err
	}
	plan, err := s.plan(ctx, of)
	if err != nil {
		return result{}, err
	}
	s.metrics.found(plan.Found)
	total := len(plan.Found)
	done := result{report: events.Report{
		DryRun: of.dryRun, Total: total, Found: plan.Found[:min(total, events.MaxLeftovers)],
	}, pending: plan.Pending}
	if of.dryRun {
		return done, nil
	}
	removed, pending, err := s.carryOut(ctx, plan)
	done.report.Removed, done.pending = removed, done.pending+pending
	if err != nil {
		done.fault = err.Error()
		s.log.Warn().Err(err).Int("pending", done.pending).Msg("Cannot remove everything that no pod needs; trying again")
	}
	return done, nil
}

// plan sees what there is, in the order that [reap.Scene] asks for, and decides.
func (s *sweeper) plan(ctx context.Context, of scope) (reap.Plan, error) {
	lives, err := s.bus.TokenLives(ctx)
	if err != nil {
		return reap.Plan{}, err
	}
	storages, err := s.storages(ctx, of)
	if err != nil {
		return reap.Plan{}, err
	}
	objects, pods, err := s.lister.All(ctx)
	if err != nil {
		return reap.Plan{}, err
	}
	scene := reap.Scene{
		Objects: objects, Pods: pods, Storages: storages, At: time.Now(), MinAge: of.minAge, User: of.user, Names: of.names,
	}
	for life := range lives {
		scene.Tokens = append(scene.Tokens, reap.Life{Pod: life.Pod, Generation: life.Generation})
	}
	records := map[string]events.Record{}
	for _, name := range reap.Suspects(scene) {
		entry, err := s.bus.Last(ctx, name)
		if err != nil {
			return reap.Plan{}, err
		}
		records[name] = entry.Record
	}
	// A log made anew meanwhile knows nothing of what it was asked for.
	if _, err := s.bus.Complete(ctx); err != nil {
		return reap.Plan{}, err
	}
	return reap.Sweep(scene, records), nil
}

func (s *sweeper) storages(ctx context.Context, of scope) ([]events.Storage, error) {
	var entries []natsbus.StorageEntry
	var err error
	if of.user != "" {
		var entry natsbus.StorageEntry
		entry, err = s.bus.Storage(ctx, of.user)
		entries = append(entries, entry)
	} else {
		entries, err = s.bus.Storages(ctx)
	}
	var records []events.Storage
	for _, e := range entries {
		if e.Sequence != 0 {
			records = append(records, e.Storage)
		}
	}
	return records, err
}

// carryOut removes what a plan names, and returns how much of it is gone or being
// removed, and how much is not gone yet. What cannot be removed is in the error, and keeps
// nothing else from being removed: it may be another user's.
func (s *sweeper) carryOut(ctx context.Context, plan reap.Plan) (removed, pending int, err error) {
	var did, left atomic.Int64
	var mu sync.Mutex
	var faults []error
	group := new(errgroup.Group)
	group.SetLimit(removals)
	try := func(remove func() (count int, gone bool, err error)) {
		group.Go(func() error {
			count, gone, err := remove()
			did.Add(int64(count))
			if !gone {
				left.Add(1)
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				faults = append(faults, err)
			}
			return nil
		})
	}
	for _, o := range plan.Objects {
		try(func() (int, bool, error) {
			vanished, err := s.objects.Remove(ctx, o)
			if err != nil {
				return 0, false, err
			}
			s.log.Info().Str("kind", o.Kind).Str("name", o.Name).Str("uid", o.UID).Str("pod_name", o.Pod).
				Msg("Removed an object that no pod needs")
			s.metrics.removed(o.Kind)
			return 1, vanished, nil
		})
	}
	for _, storage := range plan.Storage {
		try(func() (int, bool, error) { return s.reclaim(ctx, storage) })
	}
	for _, life := range plan.Tokens {
		try(func() (int, bool, error) {
			if err := s.bus.DropTokens(ctx, life.Pod, life.Generation); err != nil {
				return 0, false, err
			}
			s.metrics.removed("Token")
			return 1, true, nil
		})
	}
	_ = group.Wait() // What went wrong is in faults.
	return int(did.Load()), int(left.Load()), errors.Join(faults...)
}

// reclaim takes the uses of pods that are no more out of one user's storage, and
// removes that where nobody uses it. The log is changed first: from then on whoever
// wants to use it waits. It returns how much it has removed, and whether there is
// nothing to wait for.
func (s *sweeper) reclaim(ctx context.Context, plan reap.StoragePlan) (removed int, gone bool, err error) {
	storage, err := s.bus.Storage(ctx, plan.User)
	if err != nil {
		return 0, false, err
	}
	record, begun := storage.Storage, plan.Carry
	for _, use := range plan.Release {
		record, err = s.bus.ChangeStorage(ctx, events.StorageFact{
			Kind: events.StorageRelease, User: plan.User, At: time.Now(), Use: use,
		})
		if err != nil {
			return removed, false, err
		}
		s.metrics.removed("StorageUse")
		removed++
		begun = begun || record.State == events.StorageRemoving && record.Remover == use
	}
	if plan.Reclaim != "" {
		record, err = s.bus.ChangeStorage(ctx, events.StorageFact{
			Kind: events.StorageReclaim, User: plan.User, At: time.Now(), Claim: plan.Reclaim,
		})
		switch {
		case errors.Is(err, events.ErrOrder):
			return removed, true, nil // A pod uses it by now.
		case err != nil:
			return removed, false, err
		}
		begun = true
	}
	if !begun || record.State != events.StorageRemoving {
		return removed, true, nil
	}
	s.log.Info().Str("claim", record.Claim).Str("user_id", plan.User).Msg("Removing storage that no pod uses")
	found, err := s.objects.Storage(ctx, plan.User, record.Claim)
	if err != nil {
		return removed, false, err
	}
	if gone, err = removeStorage(ctx, s.bus, s.objects, record); err != nil {
		return removed, false, err
	}
	for _, o := range found {
		s.metrics.removed(o.Kind)
		removed++
	}
	return removed, gone, nil
}
