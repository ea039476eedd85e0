package natsbus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// KeptRecords is how many records of one pod name, user and event the log keeps: the
// newest. Those before are forgotten, as of a pod that is ready and unready all the time.
const KeptRecords = 64

// Step is a record as it stands in the log, with who appended it.
type Step struct {
	Entry
	// Source is the service and instance that appended the record.
	Source string
}

// Scope says whose records are read: those of one pod name, of one user, or of
// both. Empty text stands for any.
type Scope struct{ Pod, User string }

// fewReads is how many records [Bus.After] reads one by one before it makes a
// consumer, which the servers of a cluster have to agree on.
const fewReads = 16

// After reads the records of a scope that the log has after a sequence, in their
// order, with their generations: those that are wanted, or all where wants is nil, limit of
// them at the most. Nothing is missing that the stream's leader had at the time of the call.
// How many there are that are not wanted does not count: the caller bounds the time.
// Records that this version cannot read are left out. [ErrUnavailable] is also returned
// where the log of that age is not, or not any more, the one that there is.
func (b *Bus) After(ctx context.Context, after events.Position, scope Scope, limit int, wants func(events.Record) bool) ([]Step, error) {
	if err := b.sameLog(ctx, after); err != nil {
		return nil, err
	}
	s, err := b.logStream(ctx)
	if err != nil {
		return nil, err
	}
	p := past{bus: b, filter: events.ScopeFilter(b.cluster, scope.Pod, scope.User), created: after.Created, last: after.Sequence, limit: limit, wants: wants}
	for range fewReads {
		raw, err := b.nextMessage(ctx, s, p.last+1, p.filter)
		if err != nil {
			return nil, err
		}
		if raw == nil || p.take(raw.Subject, raw.Data, raw.Sequence) {
			return p.steps, b.sameLog(ctx, after)
		}
	}
	if err := p.read(ctx); err != nil {
		return nil, err
	}
	// The log may have been made anew between two reads.
	return p.steps, b.sameLog(ctx, after)
}

// past is what is read of the log in one [Bus.After].
type past struct {
	bus     *Bus
	filter  string
	created int64
	limit   int
	wants   func(events.Record) bool

	// last is the sequence up to which everything has been taken.
	last  uint64
	steps []Step
}

// take takes a record in, and returns true when there are enough.
func (p *past) take(subject string, data []byte, sequence uint64) (enough bool) {
	p.last = sequence
	step, err := stepOf(subject, data, sequence, p.created)
	switch {
	case err != nil:
		p.bus.log.Warn().Err(err).Str("subject", subject).Msg("Skipped a message that this version cannot read")
	case p.wants == nil || p.wants(step.Record):
		p.steps = append(p.steps, step)
	}
	return len(p.steps) >= p.limit
}

// pastIdle is how long a consumer may say nothing until the leader is asked whether
// there is anything more, and how long it outlives its reader, at the least.
const pastIdle = time.Second

// errPastLost says that messages of a consumer were lost with a connection.
var errPastLost = fmt.Errorf("the connection was lost meanwhile: %w", ErrUnavailable)

// read takes with a consumer what the leader has. The consumer may be on a server that
// is behind it: it is read until it has got there.
func (p *past) read(ctx context.Context) error {
	goal, err := p.newest(ctx)
	if err != nil || goal <= p.last {
		return err
	}
	var consumer jetstream.Consumer
	err = p.bus.ask(ctx, "read "+p.filter, func(ctx context.Context) (err error) {
		consumer, err = p.bus.js.CreateOrUpdateConsumer(ctx, events.LogStream, jetstream.ConsumerConfig{
			FilterSubjects: []string{p.filter}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: p.last + 1,
			AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: 2 * pastIdle,
		})
		return err
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(500), jetstream.PullExpiry(10*time.Second))
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer messages.Stop()
	for taken := uint64(0); p.last < goal; {
		idle, cancel := context.WithTimeout(ctx, pastIdle)
		msg, err := messages.Next(jetstream.NextContext(idle))
		cancel()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return fmt.Errorf("read the log: %w: %w", ErrUnavailable, context.Cause(ctx))
		case errors.Is(err, context.DeadlineExceeded):
			// What was to come may have been purged.
			if goal, err = p.newest(ctx); err != nil {
				return err
			}
			continue
		default:
			return fmt.Errorf("read the log: %w: %w", ErrUnavailable, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if taken++; meta.Sequence.Consumer != taken {
			return errPastLost
		}
		if p.take(msg.Subject(), msg.Data(), meta.Sequence.Stream) {
			break
		}
	}
	return nil
}

// newest is the sequence of the leader's last record of the scope, 0 for none.
func (p *past) newest(ctx context.Context) (uint64, error) {
	raw, err := p.bus.lastMessage(ctx, p.filter)
	if err != nil || raw == nil {
		return 0, err
	}
	return raw.Sequence, nil
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
