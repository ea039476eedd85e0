package natsbus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// rescueEvery is how often a stage looks for stranded commands.
const rescueEvery = 5 * time.Second

// rescue looks after stranded commands until ctx ends: those that are still in
// the stream although the consumer takes them for acknowledged. It happens now
// and then when a server is restarted in the middle of acknowledgements (seen
// with 2.15.2). They would neither be delivered again nor removed, and with them
// their variables would stay. Whether one has been done is not certain, so it is
// published once more.
func (w *worker) rescue(ctx context.Context, consumer jetstream.Consumer) {
	floor := uint64(0)
	for pause(ctx, rescueEvery) {
		var info *jetstream.ConsumerInfo
		err := w.bus.ask(ctx, "ask for consumer "+string(w.stage.Stage), func(ctx context.Context) (err error) {
			info, err = consumer.Info(ctx)
			return err
		})
		if err == nil {
			// What was acknowledged a moment ago may be on its way out.
			err = w.republish(ctx, min(floor, info.AckFloor.Stream))
			floor = info.AckFloor.Stream
		}
		if err != nil && ctx.Err() == nil {
			w.bus.log.Debug().Err(err).Str("stage", string(w.stage.Stage)).Msg("Cannot look for stranded commands")
		}
	}
}

// republish publishes once more, and removes, the commands up to a sequence.
func (w *worker) republish(ctx context.Context, upTo uint64) error {
	b := w.bus
	stream, err := b.handle(ctx, events.CommandStream)
	if err != nil {
		return err
	}
	for from := uint64(1); from <= upTo; {
		raw, err := b.nextMessage(ctx, stream, from, events.CommandFilter(b.cluster, w.stage.Stage))
		if err != nil || raw == nil || raw.Sequence > upTo {
			return err
		}
		err = b.ask(ctx, "rescue "+raw.Subject, func(ctx context.Context) error {
			_, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: raw.Subject, Data: raw.Data},
				jetstream.WithExpectStream(events.CommandStream), jetstream.WithMsgID(fmt.Sprintf("rescued.%d", raw.Sequence)))
			if err != nil {
				return err
			}
			return stream.DeleteMsg(ctx, raw.Sequence)
		})
		if err != nil {
			return err
		}
		b.log.Info().Str("subject", raw.Subject).Uint64("sequence", raw.Sequence).Msg("Rescued a stranded command")
		from = raw.Sequence + 1
	}
	return nil
}
