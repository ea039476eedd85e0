package natsbus

import (
	"context"
	"fmt"

	"berth/pkg/events"
)

// Await returns the first record of a pod for which done says true; done is
// called with the record that the table has now, then with the newest one
// whenever there is a new one (it may miss some between). The zero Entry stands
// for no record. It returns the context's cause when that ends, and
// [ErrUnavailable] when the table has to be read from nothing, or cannot tell
// whether there is a record.
func (t *Table) Await(ctx context.Context, pod string, done func(Entry) bool) (Entry, error) {
	ch, cancel := t.register(waitKey{waitPod, pod})
	defer cancel()
	life := uint64(0)
	for {
		e, now, err := t.look(pod)
		switch {
		case err != nil:
			return Entry{}, err
		case life != 0 && now != life:
			return Entry{}, errOtherLife
		case done(e):
			return e, nil
		}
		life = now
		select {
		case <-ctx.Done():
			return e, context.Cause(ctx)
		case <-ch:
		}
	}
}

// look returns a pod's record and the life of the stream that it is from.
func (t *Table) look(pod string) (Entry, uint64, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e, ok := t.view.pods[pod]
	switch {
	case !t.view.loaded:
		return Entry{}, 0, fmt.Errorf("the log is being read: %w", ErrUnavailable)
	case !ok && !t.view.complete:
		return Entry{}, 0, fmt.Errorf("the log has not been compared with the cluster yet: %w", ErrUnavailable)
	}
	return e, t.view.life, nil
}

// Outcomes tells what becomes of one command.
type Outcomes struct {
	t       *Table
	command string
	ch      chan struct{}
	life    uint64
	cancel  func()
}

// ExpectOutcome begins to listen for the outcome of a command, which must not
// have been published yet. The caller must call Close.
func (t *Table) ExpectOutcome(command string) *Outcomes {
	ch, cancel := t.register(waitKey{waitOutcome, command})
	t.mu.RLock()
	defer t.mu.RUnlock()
	return &Outcomes{t: t, command: command, ch: ch, life: t.view.life, cancel: cancel}
}

// Close ends the listening.
func (o *Outcomes) Close() { o.cancel() }

// Changed is readable whenever [Outcomes.Now] may have something new.
func (o *Outcomes) Changed() <-chan struct{} { return o.ch }

// Now returns the newest outcome; the zero Outcome while there is none. It
// returns [ErrUnavailable] when the log was made anew.
func (o *Outcomes) Now() (events.Outcome, error) {
	o.t.mu.RLock()
	defer o.t.mu.RUnlock()
	if o.t.view.life != o.life {
		return events.Outcome{}, errOtherLife
	}
	return o.t.decisions[o.command], nil
}

// waitKey is what somebody waits for: a pod by name, the outcome of a command
// by id, or, without a name, the reader.
type waitKey struct {
	kind waitKind
	name string
}

type waitKind int

const (
	waitPod waitKind = iota
	waitOutcome
	waitReader
)

// reach waits until the table has everything up to a sequence.
func (t *Table) reach(ctx context.Context, sequence uint64) error {
	ctx, stop := context.WithTimeoutCause(ctx, t.bus.timeout, errSlow)
	defer stop()
	ch, cancel := t.register(waitKey{kind: waitReader})
	defer cancel()
	life := uint64(0)
	for {
		t.mu.RLock()
		now, newest := t.view.life, t.view.newest
		t.mu.RUnlock()
		switch {
		case life != 0 && now != life:
			return errOtherLife
		case newest >= sequence:
			return nil
		}
		life = now
		select {
		case <-ctx.Done():
			return fmt.Errorf("read the log up to %d: %w: %w", sequence, ErrUnavailable, context.Cause(ctx))
		case <-ch:
		}
	}
}

// register returns a channel that is readable after each change of a key, and a
// function that takes it back.
func (t *Table) register(key waitKey) (chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiters[key] == nil {
		t.waiters[key] = map[chan struct{}]struct{}{}
	}
	t.waiters[key][ch] = struct{}{}
	return ch, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.waiters[key], ch)
		if len(t.waiters[key]) == 0 {
			delete(t.waiters, key)
			if key.kind == waitOutcome {
				delete(t.decisions, key.name)
			}
		}
	}
}

// wake makes the channels of a key readable; t.mu is held.
func (t *Table) wake(key waitKey) {
	for ch := range t.waiters[key] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
