package natsbus

import (
	"context"

	"berth/pkg/events"
)

// LastLicensed reads from the stream's leader the record with which a pod of a user was
// licensed last, in whatever life of its name: it alone says how. Where the log has none, it
// returns the zero Entry.
func (b *Bus) LastLicensed(ctx context.Context, user, pod string) (Entry, error) {
	return b.lastMatch(ctx, events.PodSubject(b.cluster, pod, user, events.Licensed))
}
