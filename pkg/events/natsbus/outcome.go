package natsbus

import (
	"context"
	"errors"
	"fmt"

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
// only where that is wrong.
func (b *Bus) Decide(ctx context.Context, proposed events.Outcome) (events.Outcome, error) {
	proposed.Cluster = b.cluster
	var current events.Outcome
	var sequence uint64
	for {
		next, changed, err := events.NextOutcome(current, proposed)
		if err != nil || !changed {
			return current, err
		}
		err = b.writeOutcome(ctx, sequence, next)
		if err == nil {
			return next, nil
		}
		if ctx.Err() != nil {
			return events.Outcome{}, fmt.Errorf("decide %s: %w: %w", proposed.Command, ErrUnavailable, err)
		}
		was := sequence
		var readErr error
		if current, sequence, readErr = b.outcome(ctx, proposed.Command); readErr != nil {
			return events.Outcome{}, readErr
		}
		if !conflict(err) && sequence == was {
			return events.Outcome{}, fmt.Errorf("decide %s: %w: %w", proposed.Command, ErrUnavailable, err)
		}
	}
}

func (b *Bus) writeOutcome(ctx context.Context, last uint64, outcome events.Outcome) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	e := b.event(ctx)
	e.Outcome = &outcome
	data, err := e.Marshal()
	if err != nil {
		return err
	}
	msg := &nats.Msg{Subject: events.OutcomeSubject(outcome.Cluster, outcome.Command), Data: data}
	_, err = b.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(events.LogStream),
		jetstream.WithExpectLastSequencePerSubject(last), jetstream.WithMsgTTL(events.OutcomeTTL))
	return err
}

// Complete returns nil when the log has been compared with the cluster since
// its stream was made, else [ErrUnavailable]. It asks the leader.
func (b *Bus) Complete(ctx context.Context) error {
	raw, err := b.lastMessage(ctx, events.MarkSubject(b.cluster))
	if err != nil {
		return err
	}
	if raw == nil {
		return fmt.Errorf("the log has not been compared with the cluster yet: %w", ErrUnavailable)
	}
	e, err := events.Parse(raw.Data)
	if err != nil {
		return fmt.Errorf("read log at %d: %w", raw.Sequence, err)
	}
	if e.Mark == nil {
		return fmt.Errorf("read log at %d: %w: not a mark", raw.Sequence, events.ErrMalformed)
	}
	// The mark stands in the stream that it is about: it tells the stream's age.
	b.created.Store(e.Mark.Created)
	return nil
}

// MarkComplete appends that the log has been compared with the cluster. created
// is the age of the stream that was compared; where it has been made anew
// meanwhile, nothing is appended and [ErrUnavailable] is returned.
func (b *Bus) MarkComplete(ctx context.Context, created int64, pods int) error {
	info, err := b.info(ctx)
	if err != nil {
		return err
	}
	if info.Created.UnixNano() != created {
		return fmt.Errorf("the log was made anew during the comparison: %w", ErrUnavailable)
	}
	e := b.event(ctx)
	e.Mark = &events.Mark{Cluster: b.cluster, Created: created, Pods: pods}
	data, err := e.Marshal()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = b.js.Publish(ctx, events.MarkSubject(b.cluster), data, jetstream.WithExpectStream(events.LogStream))
	if err != nil {
		return errors.Join(ErrUnavailable, fmt.Errorf("mark the log complete: %w", err))
	}
	return nil
}
