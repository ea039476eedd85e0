package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"berth/pkg/events/natsbus"
	"berth/pkg/service/config"
	"berth/services/licenser/internal/store"
)

const (
	// candidacy is the time between two attempts to become the keeper.
	candidacy = 2 * time.Second
	// repair is the time before the keeper tries again what did not work; it doubles up to longRepair.
	repair     = time.Second
	longRepair = 16 * time.Second
	// faults is how many of one kind in a row the keeper takes before it waits: a fault may be one thing's, or
	// that of all.
	faults = 3
)

// keep makes this licenser the keeper of its cluster whenever there is no other one, until ctx ends. The database
// says who: it is whoever holds a lock on a connection of its own. What the keeper wants done becomes a durable command or
// timer, which any licenser carries out, so that nothing is lost with it; and its successor begins by comparing
// the database with the log.
func (l *licenser) keep(ctx context.Context) error {
	said := ""
	for ctx.Err() == nil {
		err := l.candidate(ctx)
		if ctx.Err() != nil {
			break
		}
		if why := fmt.Sprint(err); why != said {
			l.log.Warn().Err(err).Msg("Not keeping projects; trying again")
			said = why
		}
		pause(ctx, repair)
	}
	return nil
}

// candidate waits for the lease, and keeps projects for as long as it has it.
func (l *licenser) candidate(ctx context.Context) error {
	lease, err := l.store.Lease(ctx, l.bus.Cluster())
	if err != nil {
		return err
	}
	defer lease.Close()
	for {
		taken, err := lease.Take(ctx)
		if err != nil {
			return err
		}
		if taken {
			return newKeeper(l, lease.Drives).term(ctx, lease)
		}
		if !pause(ctx, candidacy) {
			return context.Cause(ctx)
		}
	}
}

// keeper keeps seats and projects true to the log and to the database for one term: until its lease is lost.
type keeper struct {
	store  *store.Store
	bus    *natsbus.Bus
	log    zerolog.Logger
	config config.Projects
	table  *natsbus.Table
	// drives says whether this cluster is the one that drives the projects of the database which have no pod.
	drives func() bool

	// records are the pods with news in the log; changes are the news of the database.
	records *inbox[string]
	changes *inbox[store.Change]

	// The rest is the work loop's own.

	// looks are the pods whose seats are as their newest records ask for, and for which the rest is to be done; late are those with
	// which something did not work.
	looks map[string]struct{}
	late  later
	// settled is what seats are as for, seen what all was done about, by pod.
	settled, seen map[string]situation
	// due is what has been asked to be computed again, by project.
	due map[string]due
	// asked are the commands of starts that a hub waits for, by project; hindered are the projects whose requests could
	// not be done.
	asked    map[string]string
	hindered later
	// following are the pods that are gone and that others are to follow.
	following map[string]struct{}
	// revivals are when projects that are to run always are started again, by project.
	revivals map[string]time.Time
	// queue is when the stream of the commands was made.
	queue time.Time

	// illegible are the settings of the site that cannot be read, by name, as was told.
	illegible map[string]string

	progress progress
	gauges   gauges
}

func newKeeper(l *licenser, drives func() bool) *keeper {
	k := &keeper{
		store: l.store, bus: l.bus, drives: drives, log: l.log.With().Bool("keeper", true).Logger(), config: l.config.Projects,
		records: newInbox[string](), changes: newInbox[store.Change](),
		looks: map[string]struct{}{}, late: later{}, settled: map[string]situation{}, seen: map[string]situation{},
		due: map[string]due{}, hindered: later{}, following: map[string]struct{}{}, revivals: map[string]time.Time{},
		illegible: map[string]string{}, gauges: l.gauges,
	}
	k.table = l.bus.NewTable(false, func(e natsbus.Entry) { k.records.put(e.Pod) })
	return k
}

// term keeps projects until the lease is lost or ctx ends.
func (k *keeper) term(ctx context.Context, lease *store.Lease) error {
	asked, err := k.store.Asked(ctx)
	if err != nil {
		return err
	}
	k.asked = asked
	k.log.Info().Msg("Keeping projects")
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return k.table.Run(ctx) })
	group.Go(func() error { return k.work(ctx) })
	group.Go(func() error { return k.progress.watch(ctx, stuck, watchTick) })
	defer k.gauges.reset()
	group.Go(func() error {
		for {
			change, ok, err := lease.Next(ctx)
			if err != nil {
				return err // And all others stop what they are doing.
			}
			if ok {
				k.changes.put(change)
			}
		}
	})
	return group.Wait()
}

// work does one thing after another, so that nothing is decided on what another has changed since. First of all comes a look
// at everything. What fails is tried again: all of it waits where all would fail, and nothing but that where it is one thing's own fault.
func (k *keeper) work(ctx context.Context) error {
	tick := time.NewTicker(k.config.CatchUpInterval)
	defer tick.Stop()
	retry := time.NewTicker(repair)
	defer retry.Stop()
	wait, again := repair, time.Time{}
	all, ticked := true, false
	for ctx.Err() == nil {
		if k.table.Ready() != nil {
			// Nothing is done, and above all no seat freed, while part of the log is not known.
			k.progress.rest()
			pause(ctx, repair/4)
			continue
		}
		failed := k.between(ctx)
		if ticked && failed == nil {
			ticked, failed = false, k.refusals(ctx, slice)
		}
		switch {
		case failed != nil, time.Now().Before(again):
		case all:
			if failed = k.catchUp(ctx); failed == nil {
				k.gauges.rounds.SetToCurrentTime()
				all, wait = false, repair
			}
		default:
			if failed = k.hear(ctx); failed == nil {
				wait = repair
			}
		}
		k.progress.rest()
		k.gauges.late.Set(float64(len(k.late) + len(k.hindered)))
		if failed != nil && ctx.Err() == nil && !time.Now().Before(again) {
			k.log.Warn().Err(failed).Msg("Keeping projects has to be tried again")
			again = time.Now().Add(wait)
			if away(failed) {
				pause(ctx, wait)
			}
			wait = min(2*wait, longRepair)
		}
		if failed == nil && len(k.looks) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-k.records.news:
		case <-k.changes.news:
		case <-tick.C:
			all = true
		case <-retry.C:
			k.retry(time.Now())
			ticked = true
		}
	}
	return nil
}

// between does what does not have to wait for the end of something long: it looks at what the pods did meanwhile,
// and does what hubs ask for.
func (k *keeper) between(ctx context.Context) error {
	if err := k.news(ctx); err != nil {
		return err
	}
	var asked []string
	for _, c := range k.changes.peek() {
		if c.Project != "" {
			asked = append(asked, c.Project)
		}
	}
	for part := range slices.Chunk(asked, page) {
		if err := k.requests(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// inbox holds what is to be looked at, each thing once. It is safe for concurrent use.
type inbox[T comparable] struct {
	news chan struct{} // Has a value after a put.

	mu    sync.Mutex
	items map[T]struct{}
}

func newInbox[T comparable]() *inbox[T] {
	return &inbox[T]{news: make(chan struct{}, 1), items: map[T]struct{}{}}
}

func (i *inbox[T]) put(item T) {
	i.mu.Lock()
	i.items[item] = struct{}{}
	i.mu.Unlock()
	select {
	case i.news <- struct{}{}:
	default:
	}
}

// peek returns what is in the inbox.
func (i *inbox[T]) peek() []T {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Collect(maps.Keys(i.items))
}

// take empties the inbox.
func (i *inbox[T]) take() map[T]struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	items := i.items
	i.items = map[T]struct{}{}
	return items
}

// drain calls f for each thing, keeps those for which it fails, and returns the first error. After
// several it gives up for now.
func (i *inbox[T]) drain(f func(T) error) error {
	var failed error
	n := 0
	for item := range i.take() {
		var err error
		if n < faults {
			err = f(item)
		}
		if n >= faults || err != nil {
			n++
			i.put(item)
			failed = first(failed, err)
		}
	}
	return failed
}

// pause waits for d, or less if ctx ends first; then it returns false.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
