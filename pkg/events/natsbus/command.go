package natsbus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// Publish hands a command to its stage. Publishing it again with the same cause
// within two minutes changes nothing. It returns [ErrUnavailable], or the
// faults of [events.Command.Marshal].
func (b *Bus) Publish(ctx context.Context, c events.Command, cause string) error {
	if c.Traceparent == "" {
		c.Traceparent = Traceparent(ctx)
	}
	data, err := c.Marshal()
	if err != nil {
		return err
	}
	return b.ask(ctx, "publish "+c.Subject(), func(ctx context.Context) error {
		_, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: c.Subject(), Data: data},
			jetstream.WithExpectStream(events.CommandStream), jetstream.WithMsgID(c.MsgID(cause)))
		return err
	})
}

// Arm sets a durable timer: at the given time, to the second, the command is
// handed to its stage, whatever is restarted meanwhile. A timer of the same kind
// for the same pod's command is replaced. It has no message id, so that it can
// be armed again.
func (b *Bus) Arm(ctx context.Context, timer events.Timer, id string, at time.Time, c events.Command) error {
	if c.Traceparent == "" {
		c.Traceparent = Traceparent(ctx)
	}
	data, err := c.Marshal()
	if err != nil {
		return err
	}
	if whole := at.Truncate(time.Second); whole.Before(at) {
		at = whole.Add(time.Second)
	}
	subject := events.TimerSubject(b.cluster, id, timer)
	return b.ask(ctx, "arm "+subject, func(ctx context.Context) error {
		_, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data},
			jetstream.WithExpectStream(events.CommandStream),
			jetstream.WithScheduleAt(at), jetstream.WithScheduleTarget(c.Subject()))
		return err
	})
}

// Disarm takes back all timers of a command.
func (b *Bus) Disarm(ctx context.Context, id string) error {
	s, err := b.handle(ctx, events.CommandStream)
	if err != nil {
		return err
	}
	return b.ask(ctx, "disarm "+id, func(ctx context.Context) error {
		return s.Purge(ctx, jetstream.WithPurgeSubject(events.TimerFilter(b.cluster, id)))
	})
}

// Heartbeat says on core NATS that the cluster's watcher is alive.
func (b *Bus) Heartbeat(data []byte) error {
	return b.nc.Publish(events.HeartbeatSubject(b.cluster), data)
}

// OnHeartbeat calls f for each heartbeat of the cluster's watcher until the
// function returned is called.
func (b *Bus) OnHeartbeat(f func(data []byte)) (func(), error) {
	sub, err := b.nc.Subscribe(events.HeartbeatSubject(b.cluster), func(m *nats.Msg) { f(m.Data) })
	if err != nil {
		return nil, fmt.Errorf("subscribe to heartbeats: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}
