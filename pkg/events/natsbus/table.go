package natsbus

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"berth/pkg/events"
)

// goneKept is how long the table keeps the record of a pod that is gone; the
// log keeps it longer, and is asked before a "no".
const goneKept = 10 * time.Minute

// staleAfter is how long the table answers without having heard from the
// stream's leader, or as long as a request to it may take where that is longer.
const staleAfter = 5 * time.Second

// Table is the state of all pods of a cluster in memory, fed by the log: the
// newest record of each, found by name, user, command or address, and those who
// wait for the next one. [Table.Run] keeps it up to date. It is safe for
// concurrent use.
type Table struct {
	bus      *Bus
	onChange func(Entry)
	outcomes bool

	mu        sync.RWMutex
	view      view
	waiters   map[waitKey]map[chan struct{}]struct{}
	decisions map[string]events.Outcome // Only of commands that somebody waits for.

	// told is the sequence of the last record that onChange was called for in
	// this life of the stream. Only the reader uses it.
	told uint64

	loads uint64 // How often the log has been read; see [Epoch].

	// checked is when the leader last confirmed the stream, in Unix nanoseconds;
	// 0 means that it has not.
	checked atomic.Int64
	skipped atomic.Uint64
}

// NewTable returns an empty table of the bus's cluster. With outcomes,
// [Table.ExpectOutcome] works.
//
// onChange, if not nil, is called from one goroutine, in the order of the log,
// after the table has the record, or a newer one, and must not block. It is
// called for the newest record of every pod when the log has been read, then for
// each new record. After a lost connection it is called for what is new since,
// of each pod the newest only; after the log was made anew it begins again.
func (b *Bus) NewTable(outcomes bool, onChange func(Entry)) *Table {
	return &Table{
		bus: b, outcomes: outcomes, onChange: onChange, view: newView(1, 0),
		waiters: map[waitKey]map[chan struct{}]struct{}{}, decisions: map[string]events.Outcome{},
	}
}

// Ready returns nil when the table can be trusted: it has been loaded, the
// stream's leader has been heard of lately, and the log has been compared with
// the cluster. Else it returns [ErrUnavailable] with what is missing.
func (t *Table) Ready() error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.ready()
}

// Loaded is [Table.Ready] without the comparison with the cluster.
func (t *Table) Loaded() error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.loaded()
}

func (t *Table) ready() error {
	if err := t.loaded(); err != nil {
		return err
	}
	if !t.view.complete {
		return fmt.Errorf("the log has not been compared with the cluster yet: %w", ErrUnavailable)
	}
	return nil
}

func (t *Table) loaded() error {
	checked := t.checked.Load()
	if !t.view.loaded || checked == 0 {
		return fmt.Errorf("the log is being read: %w", ErrUnavailable)
	}
	if age := time.Since(time.Unix(0, checked)); age > max(staleAfter, t.bus.timeout) {
		return fmt.Errorf("the log's leader has not answered for %s: %w", age.Round(time.Second), ErrUnavailable)
	}
	return nil
}

// Created returns when the stream was made that the table was read from, in
// Unix nanoseconds; 0 before it was read.
func (t *Table) Created() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.view.created
}

// Skipped counts the messages that the table could not read.
func (t *Table) Skipped() uint64 { return t.skipped.Load() }

// Pod returns the newest record of a pod that the table knows. Before a "no"
// ask [Table.Fresh].
func (t *Table) Pod(name string) (Entry, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e, ok := t.view.pods[name]
	return e, ok
}

// Pods returns all records but those of pods that are gone, by name. While the
// table is not ready, some are missing; [Table.Snapshot] says so.
func (t *Table) Pods() []Entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.view.entries(maps.Keys(t.view.pods))
}

// Snapshot is [Table.Pods] of a table that is ready; else it returns what
// [Table.Ready] does.
func (t *Table) Snapshot() ([]Entry, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.ready(); err != nil {
		return nil, err
	}
	return t.view.entries(maps.Keys(t.view.pods)), nil
}

// User returns the records of a user's pods but those that are gone, by name.
// Before a "no" ask [Table.FreshUser].
func (t *Table) User(user string) []Entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.view.entries(maps.Keys(t.view.byUser[user]))
}

// Command returns the record of the pod that a command made.
func (t *Table) Command(command string) (Entry, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for pod := range t.view.byCommand[command] {
		return t.view.pods[pod], true
	}
	return Entry{}, false
}

// Address returns the records of the pods that have an address.
func (t *Table) Address(ip string) []Entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.view.entries(maps.Keys(t.view.byAddress[ip]))
}

// Fresh reads a pod's newest record from the stream's leader and takes it into
// the table. A "no" that follows from it is the truth at the time of the call,
// however far this replica lags. It returns the zero Entry for no record, and
// [ErrUnavailable] while the truth is not known.
func (t *Table) Fresh(ctx context.Context, pod string) (Entry, error) {
	return t.fresh(ctx, events.PodFilter(t.bus.cluster, pod))
}

// FreshOf is [Table.Fresh] for one user: it reads with the user in the filter, so
// that a name that is somebody else's takes the same way, and the same time, as one
// that nobody has.
func (t *Table) FreshOf(ctx context.Context, user, pod string) (Entry, error) {
	return t.fresh(ctx, events.OwnFilter(t.bus.cluster, pod, user))
}

func (t *Table) fresh(ctx context.Context, filter string) (Entry, error) {
	life, err := t.trusted()
	if err != nil {
		return Entry{}, err
	}
	e, err := t.bus.lastMatch(ctx, filter)
	if err != nil {
		return Entry{}, err
	}
	if e.Sequence != 0 {
		// A record is one of whatever stream there is now. Of another life than the
		// table's it does no harm there: the table is about to begin anew.
		t.apply(life, e)
		return e, nil
	}
	return e, t.same(ctx, life)
}

// FreshUser is [Table.User] with everything that the stream's leader had at the
// time of the call: it waits until the table has it.
func (t *Table) FreshUser(ctx context.Context, user string) ([]Entry, error) {
	life, err := t.trusted()
	if err != nil {
		return nil, err
	}
	raw, err := t.bus.lastMessage(ctx, events.UserFilter(t.bus.cluster, user))
	if err != nil {
		return nil, err
	}
	if err := t.same(ctx, life); err != nil {
		return nil, err
	}
	if raw != nil {
		if err := t.reach(ctx, raw.Sequence); err != nil {
			return nil, err
		}
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.view.life != life || !t.view.loaded {
		return nil, errOtherLife
	}
	return t.view.entries(maps.Keys(t.view.byUser[user])), nil
}

var errOtherLife = fmt.Errorf("the log was made anew: %w", ErrUnavailable)

// trusted returns the life of the stream that a table is about that is ready.
func (t *Table) trusted() (uint64, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.view.life, t.ready()
}

// same asks the leader whether what was read from it came from the stream that
// the table is about: one made anew would say "no" to everything.
func (t *Table) same(ctx context.Context, life uint64) error {
	created, err := t.bus.Created(ctx)
	if err != nil {
		return err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.view.life != life || t.view.created != created.UnixNano() {
		return errOtherLife
	}
	return nil
}

// apply takes a record of one life of the stream in, unless the table has a
// newer one of that pod.
func (t *Table) apply(life uint64, e Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.view.life == life && t.view.put(e) {
		t.wake(waitKey{waitPod, e.Pod})
	}
}

// begin makes the table one of a stream of an age.
func (t *Table) begin(created int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.view.created != 0 && t.view.created != created {
		t.restart()
	}
	t.view.created = created
}

// reset makes the table begin from nothing.
func (t *Table) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.restart()
}

// restart begins a new life and wakes everybody, who will find so; t.mu is held.
func (t *Table) restart() {
	t.view = newView(t.view.life+1, 0)
	t.told = 0
	t.checked.Store(0)
	clear(t.decisions)
	for key := range t.waiters {
		t.wake(key)
	}
}
