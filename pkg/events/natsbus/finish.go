package natsbus

import (
	"context"
	"strconv"

	"berth/pkg/events"
)

// AskFinish publishes the command that copies the tokens out of a pod, on behalf of
// Berth itself. The same request about the same record is swallowed within two
// minutes; bucket tells requests apart that are made because the bucket of the
// tokens is another one than before, and is empty for the others.
func (b *Bus) AskFinish(ctx context.Context, entry Entry, bucket string) error {
	cause := strconv.FormatUint(entry.Sequence, 10)
	if bucket != "" {
		cause += "-" + bucket
	}
	r := entry.Record
	return b.Publish(ctx, events.Command{
		Stage: events.StageFinish, ID: lifeID(r), Cluster: r.Cluster, User: r.User,
		Pod: r.Pod, Generation: r.Generation, After: entry.Known(),
	}, cause)
}
