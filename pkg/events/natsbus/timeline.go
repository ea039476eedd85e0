package natsbus

import (
	"context"
	"fmt"
	"maps"
	"time"

	"berth/pkg/events"
)

// Step is a record as it stands in the log, with who appended it.
type Step struct {
	Entry
	// Source is the service and instance that appended the record.
	Source string
}

// Scope says whose records are read: those of one pod name, of one user, or of
// both. Empty text stands for any.
type Scope struct{ Pod, User string }

// After reads from the leader the records of a scope that the log has after a
// sequence, in their order, limit of them at the most, with their generations. It
// makes one request a record. Records that this version cannot read are left out.
// [ErrUnavailable] is also returned where the log of that age is not, or not any
// more, the one that there is.
func (b *Bus) After(ctx context.Context, after events.Position, scope Scope, limit int) ([]Step, error) {
	if err := b.sameLog(ctx, after); err != nil {
		return nil, err
	}
	s, err := b.logStream(ctx)
	if err != nil {
		return nil, err
	}
	var steps []Step
	filter := events.ScopeFilter(b.cluster, scope.Pod, scope.User)
	for from := after.Sequence + 1; len(steps) < limit; {
		raw, err := b.nextMessage(ctx, s, from, filter)
		if err != nil {
			return nil, err
		}
		if raw == nil {
			break
		}
		from = raw.Sequence + 1
		step, err := stepOf(raw.Subject, raw.Data, raw.Sequence, after.Created)
		if err != nil {
			b.log.Warn().Err(err).Str("subject", raw.Subject).Msg("Skipped a message that this version cannot read")
			continue
		}
		steps = append(steps, step)
	}
	// The log may have been made anew between two reads.
	return steps, b.sameLog(ctx, after)
}

func stepOf(subject string, data []byte, sequence uint64, created int64) (Step, error) {
	e, err := decode(subject, data, sequence)
	if err != nil {
		return Step{}, err
	}
	if e.Generation == "" {
		e.Generation = events.Position{Created: created, Sequence: sequence}.String()
	}
	event, err := events.Parse(data)
	return Step{Entry: e, Source: event.Source}, err
}

func (b *Bus) sameLog(ctx context.Context, position events.Position) error {
	created, err := b.Created(ctx)
	if err != nil {
		return err
	}
	if created.UnixNano() != position.Created {
		return errOtherLife
	}
	return nil
}

// RecordAt returns when the record at a position was appended; there is false where
// the log does not have that record, or is another one.
func (b *Bus) RecordAt(ctx context.Context, position events.Position) (appended time.Time, there bool, err error) {
	created, err := b.Created(ctx)
	if err != nil || created.UnixNano() != position.Created || position.Sequence == 0 {
		return time.Time{}, false, err
	}
	s, err := b.logStream(ctx)
	if err != nil {
		return time.Time{}, false, err
	}
	raw, err := b.nextMessage(ctx, s, position.Sequence, events.ClusterFilter(b.cluster))
	if err != nil || raw == nil || raw.Sequence != position.Sequence {
		return time.Time{}, false, err
	}
	return raw.Time, true, nil
}

// Epoch says which reading of the log a table has its records from.
type Epoch struct {
	// Created is when the stream was made, in Unix nanoseconds; 0 before it was read.
	Created int64
	// Loads counts how often the table has read the log from nothing, or again after
	// a lost connection. While it stays the same, onChange is called for every record.
	Loads uint64
}

// Epoch returns the table's epoch. Within onChange it is that of the entry.
func (t *Table) Epoch() Epoch {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return Epoch{Created: t.view.created, Loads: t.loads}
}

// FreshPods is [Table.Pods] with everything that the stream's leader had at the
// time of the call: it waits until the table has it.
func (t *Table) FreshPods(ctx context.Context) ([]Entry, error) {
	life, err := t.trusted()
	if err != nil {
		return nil, err
	}
	raw, err := t.bus.lastMessage(ctx, events.ClusterFilter(t.bus.cluster))
	if err != nil {
		return nil, err
	}
	if err := t.same(ctx, life); err != nil {
		return nil, err
	}
	if raw != nil {
		if err := t.reach(ctx, raw.Sequence); err != nil {
			return nil, fmt.Errorf("read all pods: %w", err)
		}
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.view.life != life || !t.view.loaded {
		return nil, errOtherLife
	}
	return t.view.entries(maps.Keys(t.view.pods)), nil
}
