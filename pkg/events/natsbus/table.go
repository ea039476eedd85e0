package natsbus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"berth/pkg/events"
)

// goneKept is how long the table keeps the record of a pod that is gone; the
// log keeps it longer, and is asked before a "no".
const goneKept = 10 * time.Minute

// staleAfter is how long the table answers without having heard from the
// stream's leader.
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
	waiters   map[string]map[chan struct{}]struct{} // By pod name or outcome key.
	decisions map[string]events.Outcome             // Only of commands that somebody waits for.

	// checked is when the leader last confirmed the stream, in Unix nanoseconds.
	checked atomic.Int64
	skipped atomic.Uint64
}

// view is what the table knows of one life of the stream.
type view struct {
	created   int64
	loaded    bool   // The snapshot is in.
	complete  bool   // The log has been compared with the cluster.
	newest    uint64 // The highest sequence seen.
	pods      map[string]Entry
	byUser    index
	byCommand index
	byAddress index
}

// index finds the names of pods by something else.
type index map[string]map[string]struct{}

func (x index) add(key, pod string) {
	if key == "" {
		return
	}
	if x[key] == nil {
		x[key] = map[string]struct{}{}
	}
	x[key][pod] = struct{}{}
}

func (x index) remove(key, pod string) {
	delete(x[key], pod)
	if len(x[key]) == 0 {
		delete(x, key)
	}
}

func newView(created int64) view {
	return view{created: created, pods: map[string]Entry{}, byUser: index{}, byCommand: index{}, byAddress: index{}}
}

// NewTable returns an empty table of the bus's cluster. onChange, if not nil, is
// called for each new record in the order of the log; it must not block. With
// outcomes, [Table.AwaitOutcome] works.
func (b *Bus) NewTable(outcomes bool, onChange func(Entry)) *Table {
	return &Table{
		bus: b, outcomes: outcomes, onChange: onChange, view: newView(0),
		waiters: map[string]map[chan struct{}]struct{}{}, decisions: map[string]events.Outcome{},
	}
}

// Ready returns nil when the table can be trusted: it has been loaded, the
// stream's leader has been heard of lately, and the log has been compared with
// the cluster. Else it returns [ErrUnavailable] with what is missing.
func (t *Table) Ready() error {
	if err := t.Loaded(); err != nil {
		return err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.view.complete {
		return fmt.Errorf("the log has not been compared with the cluster yet: %w", ErrUnavailable)
	}
	return nil
}

// Loaded is [Table.Ready] without the comparison with the cluster.
func (t *Table) Loaded() error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.view.loaded {
		return fmt.Errorf("the log is being read: %w", ErrUnavailable)
	}
	if age := time.Since(time.Unix(0, t.checked.Load())); age > staleAfter {
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

// Pods returns all records but those of pods that are gone, by name.
func (t *Table) Pods() []Entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.view.entries(maps.Keys(t.view.pods))
}

// User returns the records of a user's pods but those that are gone, by name.
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

func (v *view) entries(names func(func(string) bool)) []Entry {
	var out []Entry
	for name := range names {
		if e := v.pods[name]; e.Event != events.Gone {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Pod, b.Pod) })
	return out
}

// Fresh reads a pod's newest record from the stream's leader and takes it into
// the table. A "no" that follows from it is the truth at the time of the call,
// however far this replica lags. It returns the zero Entry for no record.
func (t *Table) Fresh(ctx context.Context, pod string) (Entry, error) {
	if err := t.Ready(); err != nil {
		return Entry{}, err
	}
	e, err := t.bus.Last(ctx, pod)
	if err != nil || e.Sequence == 0 {
		return Entry{}, err
	}
	t.apply(e)
	return e, nil
}

// FreshUser is [Table.User] after a read from the stream's leader: where the
// leader knows a newer record of the user, that one is taken in first.
func (t *Table) FreshUser(ctx context.Context, user string) ([]Entry, error) {
	if err := t.Ready(); err != nil {
		return nil, err
	}
	e, err := t.bus.LastOfUser(ctx, user)
	if err != nil {
		return nil, err
	}
	if e.Sequence != 0 {
		t.apply(e)
	}
	return t.User(user), nil
}

// Await returns the first record of a pod for which done says true; done is
// called with the record that the table has now, then with the newest one
// whenever there is a new one (it may miss some between). The zero Entry stands
// for no record. It returns the context's cause when that ends, and
// [ErrUnavailable] when the table has to be read again.
func (t *Table) Await(ctx context.Context, pod string, done func(Entry) bool) (Entry, error) {
	created := t.Created()
	ch, cancel := t.register(pod)
	defer cancel()
	for {
		t.mu.RLock()
		e, now := t.view.pods[pod], t.view.created
		t.mu.RUnlock()
		if now != created {
			return Entry{}, fmt.Errorf("the log was made anew: %w", ErrUnavailable)
		}
		if done(e) {
			return e, nil
		}
		select {
		case <-ctx.Done():
			return e, context.Cause(ctx)
		case <-ch:
		}
	}
}

// Outcomes tells what becomes of one command.
type Outcomes struct {
	t       *Table
	command string
	ch      chan struct{}
	created int64
	cancel  func()
}

// ExpectOutcome begins to listen for the outcome of a command, which must not
// have been published yet. The caller must call Close.
func (t *Table) ExpectOutcome(command string) *Outcomes {
	ch, cancel := t.register(outcomeKey(command))
	return &Outcomes{t: t, command: command, ch: ch, created: t.Created(), cancel: cancel}
}

// Close ends the listening.
func (o *Outcomes) Close() {
	o.cancel()
	o.t.mu.Lock()
	delete(o.t.decisions, o.command)
	o.t.mu.Unlock()
}

// Changed is readable whenever [Outcomes.Now] may have something new.
func (o *Outcomes) Changed() <-chan struct{} { return o.ch }

// Now returns the newest outcome; the zero Outcome while there is none. It
// returns [ErrUnavailable] when the log was made anew.
func (o *Outcomes) Now() (events.Outcome, error) {
	o.t.mu.RLock()
	defer o.t.mu.RUnlock()
	if o.t.view.created != o.created {
		return events.Outcome{}, fmt.Errorf("the log was made anew: %w", ErrUnavailable)
	}
	return o.t.decisions[o.command], nil
}

func outcomeKey(command string) string { return "\x00" + command }

// register returns a channel that is readable after each change of a key.
func (t *Table) register(key string) (chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	t.mu.Lock()
	if t.waiters[key] == nil {
		t.waiters[key] = map[chan struct{}]struct{}{}
	}
	t.waiters[key][ch] = struct{}{}
	t.mu.Unlock()
	return ch, func() {
		t.mu.Lock()
		delete(t.waiters[key], ch)
		if len(t.waiters[key]) == 0 {
			delete(t.waiters, key)
		}
		t.mu.Unlock()
	}
}

// wake makes the channels of a key readable; t.mu is held.
func (t *Table) wake(key string) {
	for ch := range t.waiters[key] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// apply takes a record in, unless the table has a newer one of that pod.
func (t *Table) apply(e Entry) {
	t.mu.Lock()
	changed := t.view.put(e)
	if changed {
		t.wake(e.Pod)
	}
	t.mu.Unlock()
	if changed && t.onChange != nil {
		t.onChange(e)
	}
}

// put returns false for a record that is not newer than the one it has.
func (v *view) put(e Entry) bool {
	old, had := v.pods[e.Pod]
	if had && old.Sequence >= e.Sequence {
		return false
	}
	if had {
		v.drop(old)
	}
	v.pods[e.Pod] = e
	v.byUser.add(e.User, e.Pod)
	v.byCommand.add(e.Command, e.Pod)
	for _, ip := range e.Observed.IPs {
		v.byAddress.add(ip, e.Pod)
	}
	return true
}

func (v *view) drop(e Entry) {
	delete(v.pods, e.Pod)
	v.byUser.remove(e.User, e.Pod)
	v.byCommand.remove(e.Command, e.Pod)
	for _, ip := range e.Observed.IPs {
		v.byAddress.remove(ip, e.Pod)
	}
}

// forgetGone drops the records of pods that have been gone for a while.
func (t *Table) forgetGone(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.view.pods {
		if e.Event == events.Gone && now.Sub(e.Time) > goneKept {
			t.view.drop(e)
		}
	}
}

// reset forgets everything and wakes everybody, who will find the table anew.
func (t *Table) reset(v view) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.view = v
	clear(t.decisions)
	for key := range t.waiters {
		t.wake(key)
	}
}

// Run keeps the table up to date until ctx ends, and returns nil then. A lost
// server is waited for; a stream that was made anew is read from the start.
func (t *Table) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := t.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if !errors.Is(err, errMadeAnew) {
			t.bus.log.Warn().Err(err).Msg("Lost the log; reading it again")
		} else {
			t.bus.log.Warn().Msg("The log was made anew; reading it from the start")
		}
		pause(ctx, 250*time.Millisecond)
	}
	return nil
}
