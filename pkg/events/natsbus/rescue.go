package natsbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// rescueEvery is how often stranded commands are looked for.
const rescueEvery = 5 * time.Second

// Rescue looks after the stranded commands of all stages until ctx ends, and
// returns nil then: those that are still in the stream although their consumer
// takes them for acknowledged. It happens now and then when a server is restarted
// in the middle of acknowledgements (seen with 2.15.2). They would neither be
// delivered again nor removed, and with them their variables would stay. Whether
// one has been done is not certain, so it is published once more.
//
// One service does it for all: whoever reads the stream reads everybody's
// commands.
func (b *Bus) Rescue(ctx context.Context) error {
	floors := map[events.Stage]uint64{}
	for pause(ctx, rescueEvery) {
		for _, stage := range events.Stages() {
			floor, err := b.ackFloor(ctx, stage)
			if err == nil {
				// What was acknowledged a moment ago may be on its way out.
				err = b.republish(ctx, stage, min(floors[stage], floor))
				floors[stage] = floor
			}
			if err != nil && ctx.Err() == nil {
				b.log.Debug().Err(err).Str("stage", string(stage)).Msg("Cannot look for stranded commands")
			}
		}
	}
	return nil
}

// ackFloor is the sequence up to which a stage's consumer takes everything for
// acknowledged; 0 where there is no consumer.
func (b *Bus) ackFloor(ctx context.Context, stage events.Stage) (floor uint64, err error) {
	err = b.ask(ctx, "ask for consumer "+string(stage), func(ctx context.Context) error {
		consumer, err := b.js.Consumer(ctx, events.CommandStream, ConsumerName(b.cluster, stage))
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil // No service of that stage has ever run.
		}
		if err == nil {
			floor = consumer.CachedInfo().AckFloor.Stream
		}
		return err
	})
	return floor, err
}

// republish publishes once more, and removes, the commands of a stage up to a
// sequence.
func (b *Bus) republish(ctx context.Context, stage events.Stage, upTo uint64) error {
	stream, err := b.handle(ctx, events.CommandStream)
	if err != nil {
		return err
	}
	for from := uint64(1); from <= upTo; {
		raw, err := b.nextMessage(ctx, stream, from, events.CommandFilter(b.cluster, stage))
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
