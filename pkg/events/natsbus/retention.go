package natsbus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// ForgetGone removes the history of the pods that have been gone since before a
// time, each up to its gone record and no further: a pod that has the name now
// keeps its own. It returns how many lives of pods it removed.
func (b *Bus) ForgetGone(ctx context.Context, before time.Time) (int, error) {
	stream, err := b.logStream(ctx)
	if err != nil {
		return 0, err
	}
	// The log is in the order of time: the first young one ends this.
	removed := 0
	for from := uint64(1); ; removed++ {
		raw, err := b.nextMessage(ctx, stream, from, events.EventFilter(b.cluster, events.Gone))
		if err != nil || raw == nil || raw.Time.After(before) {
			return removed, err
		}
		key, err := events.ParsePodSubject(raw.Subject)
		if err != nil {
			return removed, fmt.Errorf("read log at %d: %w", raw.Sequence, err)
		}
		err = b.ask(ctx, "forget "+key.Pod, func(ctx context.Context) error {
			return stream.Purge(ctx, jetstream.WithPurgeSubject(events.PodFilter(key.Cluster, key.Pod)),
				jetstream.WithPurgeSequence(raw.Sequence+1))
		})
		if err != nil {
			return removed, err
		}
		from = raw.Sequence + 1
	}
}
