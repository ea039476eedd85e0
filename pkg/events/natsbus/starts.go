package natsbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// Start is when a pod was licensed.
type Start struct {
	Pod, User string
	// Sequence is the record's place in the log, At when it was appended.
	Sequence uint64
	At       time.Time
}

// Starts returns the newest start of each pod name and user since a time, in the order of the log,
// without reading the records: there may be many. Nothing is missing that the stream's leader had at the
// time of the call.
func (b *Bus) Starts(ctx context.Context, since time.Time) ([]Start, error) {
	filter := events.EventFilter(b.cluster, events.Licensed)
	goal, err := b.lastMessage(ctx, filter)
	if err != nil || goal == nil {
		return nil, err
	}
	var consumer jetstream.Consumer
	err = b.ask(ctx, "read "+filter, func(ctx context.Context) (err error) {
		consumer, err = b.js.CreateOrUpdateConsumer(ctx, events.LogStream, jetstream.ConsumerConfig{
			FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, HeadersOnly: true,
			AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: 2 * pastIdle,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(500), jetstream.PullExpiry(10*time.Second))
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	defer messages.Stop()
	starts := map[string]Start{}
	for taken, last := uint64(0), uint64(0); goal != nil && last < goal.Sequence; {
		idle, cancel := context.WithTimeout(ctx, pastIdle)
		msg, err := messages.Next(jetstream.NextContext(idle))
		cancel()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, fmt.Errorf("read the log: %w: %w", ErrUnavailable, context.Cause(ctx))
		case errors.Is(err, context.DeadlineExceeded):
			// What was to come may have been purged.
			if goal, err = b.lastMessage(ctx, filter); err != nil {
				return nil, err
			}
			continue
		default:
			return nil, fmt.Errorf("read the log: %w: %w", ErrUnavailable, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		if taken++; meta.Sequence.Consumer != taken {
			return nil, errPastLost
		}
		last = meta.Sequence.Stream
		if key, err := events.ParsePodSubject(msg.Subject()); err == nil && !meta.Timestamp.Before(since) {
			starts[msg.Subject()] = Start{Pod: key.Pod, User: key.User, Sequence: last, At: meta.Timestamp}
		}
	}
	return slices.SortedFunc(maps.Values(starts), func(a, b Start) int { return cmp.Compare(a.Sequence, b.Sequence) }), nil
}
