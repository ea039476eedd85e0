package natsbus

import (
	"context"

	"berth/pkg/events"
)

// History reads from the leader all records of a pod name that the log still
// has, of whatever generation, in their order. It makes one request a record:
// it is for people and for tests, not for a hot path.
func (b *Bus) History(ctx context.Context, pod string) ([]Entry, error) {
	created, err := b.Created(ctx)
	if err != nil {
		return nil, err
	}
	s, err := b.logStream(ctx)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for from := uint64(1); ; {
		raw, err := b.nextMessage(ctx, s, from, events.PodFilter(b.cluster, pod))
		if err != nil || raw == nil {
			return entries, err
		}
		e, err := decode(raw.Subject, raw.Data, raw.Sequence)
		if err != nil {
			return entries, err
		}
		if e.Generation == "" {
			e.Generation = events.At(created, e.Sequence).String()
		}
		entries = append(entries, e)
		from = raw.Sequence + 1
	}
}
