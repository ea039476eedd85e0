package natsbus

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// QueueCreated asks when the stream of the commands was made: whoever finds it younger than
// before knows that all timers are lost.
func (b *Bus) QueueCreated(ctx context.Context) (time.Time, error) {
	s, err := b.handle(ctx, events.CommandStream)
	if err != nil {
		return time.Time{}, err
	}
	var info *jetstream.StreamInfo
	err = b.ask(ctx, "ask for stream "+events.CommandStream, func(ctx context.Context) (err error) {
		info, err = s.Info(ctx)
		return err
	})
	if err != nil {
		return time.Time{}, err
	}
	return info.Created, nil
}
