package natsbus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// Outcome reads from the leader what became of a command; the zero Outcome
// means that it is undecided.
func (b *Bus) Outcome(ctx context.Context, command string) (events.Outcome, error) {
	o, _, err := b.outcome(ctx, command)
	return o, err
}

func (b *Bus) outcome(ctx context.Context, command string) (events.Outcome, uint64, error) {
	raw, err := b.lastMessage(ctx, events.OutcomeSubject(b.cluster, command))
	if err != nil || raw == nil {
		return events.Outcome{}, 0, err
	}
	e, err := events.Parse(raw.Data)
	if err != nil {
		return events.Outcome{}, 0, fmt.Errorf("read log at %d: %w", raw.Sequence, err)
	}
	if e.Outcome == nil {
		return events.Outcome{}, 0, fmt.Errorf("read log at %d: %w: not an outcome", raw.Sequence, events.ErrMalformed)
	}
	return *e.Outcome, raw.Sequence, nil
}

// Decide appends a command's outcome, as [events.NextOutcome] allows, and
// returns the outcome that holds: the caller's, or, with [events.ErrDecided],
// another's that came first. It takes the outcome to be undecided and reads
// only where that is wrong. After [ErrUnavailable] it is not known whether the
// outcome is in the log.
func (b *Bus) Decide(ctx context.Context, proposed events.Outcome) (events.Outcome, error) {
	proposed.Cluster = b.cluster
	var current events.Outcome
	var sequence uint64
	for range maxConflicts {
		next, changed, err := events.NextOutcome(current, proposed)
		if err != nil || !changed {
			return current, err
		}
		e := b.event(ctx)
		e.Outcome = &next
		data, err := e.Marshal()
		if err != nil {
			return events.Outcome{}, fmt.Errorf("decide %s: %w", proposed.Command, err)
		}
		err = b.writeOutcome(ctx, sequence, next, data)
		if err == nil {
			return next, nil
		}
		if ctx.Err() != nil {
			return events.Outcome{}, err
		}
		was := sequence
		var readErr error
		current, sequence, readErr = b.outcome(ctx, proposed.Command)
		switch {
		case readErr != nil:
			return events.Outcome{}, readErr
		case sequence != was: // Another's came first, or the answer to this one was lost.
		case !conflict(err):
			return events.Outcome{}, err
		default:
			pause(ctx, conflictPause)
		}
	}
	return events.Outcome{}, fmt.Errorf("decide %s: %w: others were faster %d times", proposed.Command, ErrUnavailable, maxConflicts)
}

// Correct appends a command's outcome on the condition that from is the one
// that holds; the zero Outcome stands for undecided. It returns the outcome that
// holds: to, or, with [events.ErrDecided], another that came in between. After
// [ErrUnavailable] it is not known whether the outcome is in the log.
func (b *Bus) Correct(ctx context.Context, from, to events.Outcome) (events.Outcome, error) {
	to.Cluster = b.cluster
	var current events.Outcome
	var sequence uint64
	if from.Verdict != "" {
		var err error
		if current, sequence, err = b.outcome(ctx, to.Command); err != nil {
			return events.Outcome{}, err
		}
	}
	if current != from {
		return current, events.ErrDecided
	}
	next, changed, err := events.NextOutcome(current, to)
	if err != nil || !changed {
		return current, err
	}
	e := b.event(ctx)
	e.Outcome = &next
	data, err := e.Marshal()
	if err != nil {
		return events.Outcome{}, fmt.Errorf("correct %s: %w", to.Command, err)
	}
	err = b.writeOutcome(ctx, sequence, next, data)
	if err == nil || !conflict(err) {
		return next, err
	}
	if current, _, err = b.outcome(ctx, to.Command); err != nil {
		return events.Outcome{}, err
	}
	return current, events.ErrDecided
}

func (b *Bus) writeOutcome(ctx context.Context, last uint64, outcome events.Outcome, data []byte) error {
	msg := &nats.Msg{Subject: events.OutcomeSubject(outcome.Cluster, outcome.Command), Data: data}
	return b.ask(ctx, "publish "+msg.Subject, func(ctx context.Context) error {
		_, err := b.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(events.LogStream),
			jetstream.WithExpectLastSequencePerSubject(last), jetstream.WithMsgTTL(events.OutcomeTTL))
		return err
	})
}

// Complete returns the age of the log's stream when that has been compared with
// the cluster since it was made, else [ErrUnavailable]. It asks the leader.
func (b *Bus) Complete(ctx context.Context) (created time.Time, err error) {
	if created, err = b.Created(ctx); err != nil {
		return time.Time{}, err
	}
	// A mark is never taken back.
	if b.complete.Load() == created.UnixNano() {
		return created, nil
	}
	raw, err := b.lastMessage(ctx, events.MarkSubject(b.cluster))
	if err != nil {
		return time.Time{}, err
	}
	if raw == nil {
		return time.Time{}, fmt.Errorf("the log has not been compared with the cluster yet: %w", ErrUnavailable)
	}
	e, err := events.Parse(raw.Data)
	if err != nil {
		return time.Time{}, fmt.Errorf("read log at %d: %w", raw.Sequence, err)
	}
	if e.Mark == nil {
		return time.Time{}, fmt.Errorf("read log at %d: %w: not a mark", raw.Sequence, events.ErrMalformed)
	}
	if e.Mark.Created != created.UnixNano() {
		return time.Time{}, fmt.Errorf("the log was made anew after the comparison with the cluster: %w", ErrUnavailable)
	}
	b.complete.Store(e.Mark.Created)
	return created, nil
}

// MarkComplete appends that the log has been compared with the cluster. created
// is the age of the stream that was compared; where it has been made anew
// meanwhile, the mark does not count and [ErrUnavailable] is returned.
func (b *Bus) MarkComplete(ctx context.Context, created int64, pods int) error {
	e := b.event(ctx)
	e.Mark = &events.Mark{Cluster: b.cluster, Created: created, Pods: pods}
	data, err := e.Marshal()
	if err != nil {
		return fmt.Errorf("mark the log complete: %w", err)
	}
	now, err := b.Created(ctx)
	if err != nil {
		return err
	}
	if now.UnixNano() != created {
		return fmt.Errorf("the log was made anew during the comparison: %w", ErrUnavailable)
	}
	return b.ask(ctx, "mark the log complete", func(ctx context.Context) error {
		_, err := b.js.Publish(ctx, events.MarkSubject(b.cluster), data, jetstream.WithExpectStream(events.LogStream))
		return err
	})
}
