package natsbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// Delivery is a command as it comes to a stage.
type Delivery struct {
	events.Command
	// Attempt counts the deliveries of this command, from 1.
	Attempt uint64
	// Queued is when the command was stored.
	Queued time.Time
	// Sequence is the command's place in its stream.
	Sequence uint64
}

// Newest is the newest record of the command's pod that its sender knew, the
// zero Entry for none. It may be stale: it is for [Bus.AppendAfter], which finds
// out.
func (d Delivery) Newest() Entry {
	k := d.After
	if k == nil || k.Sequence == 0 || k.Record.Pod != d.Pod || k.Record.Cluster != d.Cluster || k.Record.Generation != d.Generation {
		return Entry{}
	}
	return Entry{Record: k.Record, Sequence: k.Sequence}
}

// Known is an entry as a command carries it to the next stage.
func (e Entry) Known() *events.Known {
	if e.Sequence == 0 {
		return nil
	}
	return &events.Known{Sequence: e.Sequence, Record: e.Record}
}

// Handler carries out a command. What it returns decides what becomes of the
// command:
//
//   - nil: done; it is removed.
//   - an error of [Permanent]: it can never be done. [Stage.Fail] is called,
//     the command goes to the dead letters and is removed.
//   - any other error: it is delivered again after a delay that grows, or that
//     of [Again], up to [Stage.Attempts] times; then it is permanent.
//
// The context ends before the server would deliver the command to somebody else.
type Handler func(context.Context, Delivery) error

// Stage says how the commands of a stage are consumed.
type Stage struct {
	Stage   events.Stage
	Handler Handler
	// Fail makes a permanent failure known: an outcome, a failed record. Where
	// it returns an error the command is delivered again. A message that is no
	// command has only its dead letter.
	Fail func(ctx context.Context, d Delivery, reason events.Reason, message string) error
	// Concurrency is how many commands are carried out at once; 0 means 16.
	Concurrency int
	// AckWait is how long one attempt may take before the command goes to
	// another replica; 0 means 15 s.
	AckWait time.Duration
	// Time, where it is more than AckWait, is how long one attempt may take that is under
	// way: its AckWait begins anew until then. So the command of a process that has died
	// goes to another replica soon, and that of one at work stays. 0 means AckWait.
	Time time.Duration
	// Attempts is how often a command is tried; 0 means 64, about five minutes.
	Attempts uint64
	// Done, if set, is told of each command how long it took and what came of it:
	// ack, again or dead.
	Done func(d time.Duration, verdict string)
}

// drainTimeout bounds the handing back of commands that were not begun.
const drainTimeout = 2 * time.Second

// Consume carries out the commands of a stage until ctx ends, and returns nil
// then: it takes no more, lets those under way come to their end, and hands back
// what it has not begun. A lost server, stream or consumer is waited for.
//
// It returns an error only when the stream cannot be made as it must be.
func (b *Bus) Consume(ctx context.Context, s Stage) error {
	s.Concurrency = orDefault(s.Concurrency, 16)
	s.AckWait = orDefault(s.AckWait, 15*time.Second)
	s.Time = max(s.Time, s.AckWait)
	s.Attempts = orDefault(s.Attempts, 64)
	w := &worker{bus: b, stage: s, places: make(chan struct{}, s.Concurrency), work: make(chan jetstream.Msg)}
	var running sync.WaitGroup
	defer running.Wait()
	defer close(w.work)
	for range s.Concurrency {
		// They stay, and with them their stacks, which would grow anew for each
		// command. A drain lets what is under way come to its end.
		running.Go(func() { w.carryOutAll(context.WithoutCancel(ctx)) })
	}
	for ctx.Err() == nil {
		err := w.pull(ctx)
		if err == nil || ctx.Err() != nil {
			break
		}
		b.log.Warn().Err(err).Str("stage", string(s.Stage)).Msg("Consumer lost; opening it again")
		if lost(err) {
			if err := b.Provision(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		pause(ctx, 250*time.Millisecond)
	}
	return nil
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// lost says that the consumer or its stream is no more.
func lost(err error) bool {
	return errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound)
}

// worker carries out the commands of a stage.
type worker struct {
	bus   *Bus
	stage Stage
	// places has an element for each command under way.
	places chan struct{}
	work   chan jetstream.Msg
}

// carryOutAll carries out commands until there will be no more.
func (w *worker) carryOutAll(ctx context.Context) {
	for msg := range w.work {
		w.carryOut(ctx, msg)
		<-w.places
	}
}

// pull takes commands until ctx ends, then it returns nil, or until the
// consumer has to be opened again.
func (w *worker) pull(ctx context.Context) error {
	consumer, err := w.open(ctx)
	if err != nil {
		return err
	}
	// As many as can be carried out at once are asked for ahead: one round trip a
	// command would bound the throughput.
	messages, err := consumer.Messages(jetstream.PullMaxMessages(w.stage.Concurrency), jetstream.PullHeartbeat(500*time.Millisecond),
		jetstream.PullExpiry(10*time.Second))
	if err != nil {
		return fmt.Errorf("pull from %s: %w", w.stage.Stage, err)
	}
	defer messages.Stop()
	late := 0
	for {
		asked := time.Now()
		select {
		case w.places <- struct{}{}:
		case <-ctx.Done():
			w.drain(ctx, messages)
			return nil
		}
		// A handler leaves a tenth of the command's time. Where less than half of that
		// went by in waiting for a place, the rest is enough; else the time of all
		// that may have been in the buffer begins anew.
		if time.Since(asked) > w.stage.AckWait/20 {
			late = w.stage.Concurrency
		}
		msg, err := messages.Next(jetstream.NextContext(ctx))
		switch {
		case err == nil && ctx.Err() == nil:
			if late > 0 {
				late--
				w.begin(msg)
			}
			w.work <- msg // There is a place, so there is somebody to take it.
			continue
		case err == nil:
			w.handBack(msg)
		}
		<-w.places
		if ctx.Err() != nil {
			w.drain(ctx, messages)
			return nil
		}
		if errors.Is(err, jetstream.ErrNoHeartbeat) {
			// The server is away, or the consumer is: ask which.
			err = w.bus.ask(ctx, "ask for consumer "+string(w.stage.Stage), func(ctx context.Context) error {
				_, err := consumer.Info(ctx)
				return err
			})
			if !lost(err) {
				continue
			}
		}
		return fmt.Errorf("pull from %s: %w", w.stage.Stage, err)
	}
}

// open makes the stage's consumer, or finds it.
func (w *worker) open(ctx context.Context) (consumer jetstream.Consumer, err error) {
	cluster, stage := w.bus.cluster, w.stage.Stage
	err = w.bus.ask(ctx, "open consumer "+string(stage), func(ctx context.Context) (err error) {
		consumer, err = w.bus.js.CreateOrUpdateConsumer(ctx, events.CommandStream, jetstream.ConsumerConfig{
			Durable:       ConsumerName(cluster, stage),
			Description:   "The " + string(stage) + " stage",
			FilterSubject: events.CommandFilter(cluster, stage),
			AckPolicy:     jetstream.AckExplicitPolicy,
			AckWait:       w.stage.AckWait,
			MaxDeliver:    -1,
			MaxAckPending: 10_000,
		})
		return err
	})
	return consumer, err
}

// ConsumerName is the name of the durable consumer of a stage, in the stream
// [events.CommandStream].
func ConsumerName(cluster string, stage events.Stage) string {
	return events.Token(cluster) + "-" + string(stage)
}

// drain hands back what was delivered after the last call of Next.
func (w *worker) drain(ctx context.Context, messages jetstream.MessagesContext) {
	if !w.bus.nc.IsConnected() {
		return // The server delivers again by itself what it had sent.
	}
	messages.Drain()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return
		}
		w.handBack(msg)
	}
}

// begin makes the server count a message's time from now.
func (w *worker) begin(msg jetstream.Msg) {
	if err := msg.InProgress(); err != nil {
		w.bus.log.Warn().Err(err).Str("subject", msg.Subject()).Msg("Cannot claim more time for a command; another replica may get it too")
	}
}

// extend makes the server count a message's time anew again and again, where its
// stage gives it more than that, until the function returned is called.
func (w *worker) extend(ctx context.Context, msg jetstream.Msg) (stop func()) {
	if w.stage.Time <= w.stage.AckWait {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause(ctx, w.stage.AckWait/3) {
			w.begin(msg)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// handBack gives a message that was not begun to the other replicas.
func (w *worker) handBack(msg jetstream.Msg) {
	if err := msg.Nak(); err != nil {
		w.bus.log.Warn().Err(err).Str("subject", msg.Subject()).Msg("Cannot hand back a command; it is delivered again later")
	}
}
