package natsbus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
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
	// Attempts is how often a command is tried; 0 means 64, about five minutes.
	Attempts uint64
	// Done, if set, is told of each command how long it took and what came of it:
	// ack, again or dead.
	Done func(d time.Duration, verdict string)
}

type permanentError struct {
	reason events.Reason
	err    error
}

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Permanent makes an error that no repetition mends. The error's text is what
// the user reads.
func Permanent(reason events.Reason, err error) error { return &permanentError{reason, err} }

type againError struct {
	after time.Duration
	err   error
}

func (e *againError) Error() string { return e.err.Error() }
func (e *againError) Unwrap() error { return e.err }

// Again makes an error after which the command is delivered again after d.
func Again(d time.Duration, err error) error { return &againError{d, err} }

// The delays before a command is delivered again.
const (
	firstDelay = 100 * time.Millisecond
	mostDelay  = 5 * time.Second
)

// verdict is what becomes of a delivered message.
type verdict struct {
	name   string // ack, again or dead.
	delay  time.Duration
	reason events.Reason
	text   string
}

// judge is the one place where the fate of a command is decided.
func judge(err error, attempt, attempts uint64) verdict {
	if err == nil {
		return verdict{name: "ack"}
	}
	if p := (*permanentError)(nil); errors.As(err, &p) {
		return verdict{name: "dead", reason: p.reason, text: p.Error()}
	}
	if attempt >= attempts {
		return verdict{name: "dead", reason: events.RetriesExhausted, text: err.Error()}
	}
	if a := (*againError)(nil); errors.As(err, &a) {
		return verdict{name: "again", delay: a.after}
	}
	return verdict{name: "again", delay: min(firstDelay<<min(attempt-1, 10), mostDelay)}
}

// Consume carries out the commands of a stage until ctx ends, and returns nil
// then: it takes no more, lets those under way come to their end, and hands back
// what it has not begun. A lost server, stream or consumer is waited for.
func (b *Bus) Consume(ctx context.Context, s Stage) error {
	s.Concurrency = orDefault(s.Concurrency, 16)
	s.AckWait = orDefault(s.AckWait, 15*time.Second)
	s.Attempts = orDefault(s.Attempts, 64)
	for ctx.Err() == nil {
		if err := b.consume(ctx, s); err != nil && ctx.Err() == nil {
			b.log.Warn().Err(err).Str("stage", string(s.Stage)).Msg("Consumer lost; opening it again")
			if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) {
				if err := b.Provision(ctx); err != nil && ctx.Err() == nil {
					return err
				}
			}
			pause(ctx, 250*time.Millisecond)
		}
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

func (b *Bus) consume(ctx context.Context, s Stage) error {
	setup, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	consumer, err := b.js.CreateOrUpdateConsumer(setup, events.CommandStream, jetstream.ConsumerConfig{
		Durable:       events.Token(b.cluster) + "-" + string(s.Stage),
		Description:   "The " + string(s.Stage) + " stage",
		FilterSubject: events.CommandFilter(b.cluster, s.Stage),
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       s.AckWait,
		MaxDeliver:    -1,
		MaxAckPending: 10_000,
	})
	if err != nil {
		return fmt.Errorf("open consumer %s: %w", s.Stage, err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(s.Concurrency), jetstream.PullHeartbeat(2*time.Second),
		jetstream.PullExpiry(10*time.Second))
	if err != nil {
		return fmt.Errorf("pull from %s: %w", s.Stage, err)
	}
	stop := context.AfterFunc(ctx, messages.Drain)
	defer stop()
	defer messages.Stop()

	var running sync.WaitGroup
	defer running.Wait()
	places := make(chan struct{}, s.Concurrency)
	for {
		msg, err := messages.Next()
		switch {
		case errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return nil
		case errors.Is(err, jetstream.ErrNoHeartbeat):
			// The server is away, or the consumer is: ask which.
			check, cancel := context.WithTimeout(ctx, requestTimeout)
			_, err := consumer.Info(check)
			cancel()
			if err != nil {
				return fmt.Errorf("pull from %s: %w", s.Stage, err)
			}
			continue
		case err != nil:
			return fmt.Errorf("pull from %s: %w", s.Stage, err)
		}
		if ctx.Err() != nil {
			b.handBack(msg)
			continue
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			b.handBack(msg)
			continue
		}
		running.Go(func() {
			defer func() { <-places }()
			// A drain lets what is under way come to its end.
			b.carryOut(context.WithoutCancel(ctx), s, msg)
		})
	}
}

// handBack gives a message that was not begun to the other replicas.
func (b *Bus) handBack(msg jetstream.Msg) {
	if err := msg.Nak(); err != nil {
		b.log.Warn().Err(err).Str("subject", msg.Subject()).Msg("Cannot hand back a command; it is delivered again later")
	}
}

// carryOut does what a message asks for and settles it.
func (b *Bus) carryOut(ctx context.Context, s Stage, msg jetstream.Msg) {
	begun := time.Now()
	// One tenth is left for settling the message.
	ctx, cancel := context.WithTimeoutCause(ctx, s.AckWait*9/10, fmt.Errorf("the stage %s took longer than %s", s.Stage, s.AckWait*9/10))
	defer cancel()

	meta, err := msg.Metadata()
	if err != nil {
		b.log.Error().Err(err).Str("subject", msg.Subject()).Msg("Message without metadata")
		return
	}
	d := Delivery{Attempt: meta.NumDelivered, Queued: meta.Timestamp, Sequence: meta.Sequence.Stream}
	v := b.attempt(ctx, s, msg, &d)
	log := b.log.With().Str("stage", string(s.Stage)).Str("command_id", d.ID).Str("pod_name", d.Pod).Uint64("attempt", d.Attempt).Logger()

	if v.name == "dead" {
		if err := b.bury(ctx, s, msg, d, v); err != nil {
			log.Error().Err(err).Msg("Cannot bury a command; trying again")
			v = verdict{name: "again", delay: mostDelay}
		} else {
			log.Error().Str("reason", string(v.reason)).Str("cause", v.text).Msg("Command cannot be done")
		}
	}
	switch v.name {
	case "ack":
		err = msg.Ack()
	case "again":
		err = msg.NakWithDelay(v.delay)
	case "dead":
		err = msg.TermWithReason(string(v.reason))
	}
	if err != nil {
		log.Warn().Err(err).Msg("Cannot settle a command; it is delivered again")
	}
	if s.Done != nil {
		s.Done(time.Since(begun), v.name)
	}
}

// attempt counts the deliveries before it decodes, so that a poison message
// ends in the dead letters.
func (b *Bus) attempt(ctx context.Context, s Stage, msg jetstream.Msg, d *Delivery) (v verdict) {
	defer func() {
		if p := recover(); p != nil {
			b.log.Error().Interface("panic", p).Bytes("stack", debug.Stack()).Str("stage", string(s.Stage)).Msg("Handler panicked")
			v = judge(fmt.Errorf("the %s stage failed inside", s.Stage), d.Attempt, min(s.Attempts, 3))
		}
	}()
	if d.Attempt > s.Attempts {
		if c, err := events.ParseCommand(msg.Data()); err == nil {
			d.Command = c
		}
		return verdict{name: "dead", reason: events.RetriesExhausted, text: "delivered too often without an answer"}
	}
	c, err := events.ParseCommand(msg.Data())
	if err != nil {
		return judge(Permanent(events.RequestInvalid, err), d.Attempt, s.Attempts)
	}
	d.Command = c
	cluster, stage, id, err := events.ParseCommandSubject(msg.Subject())
	if err != nil || cluster != c.Cluster || stage != c.Stage || id != c.ID {
		*d = Delivery{Attempt: d.Attempt}
		return judge(Permanent(events.RequestInvalid, fmt.Errorf("the command contradicts its subject: %w", events.ErrMalformed)), d.Attempt, s.Attempts)
	}
	err = s.Handler(WithTraceparent(ctx, c.Traceparent), *d)
	if v = judge(err, d.Attempt, s.Attempts); v.name == "again" {
		b.log.Debug().Err(err).Str("stage", string(s.Stage)).Str("command_id", d.ID).Str("pod_name", d.Pod).
			Uint64("attempt", d.Attempt).Dur("delay_ms", v.delay).Msg("Command is tried again")
	}
	return v
}

// bury makes a failure known and keeps a copy of the message with its cause.
func (b *Bus) bury(ctx context.Context, s Stage, msg jetstream.Msg, d Delivery, v verdict) error {
	if s.Fail != nil && d.Stage != "" {
		if err := s.Fail(ctx, d, v.reason, v.text); err != nil {
			return fmt.Errorf("make the failure known: %w", err)
		}
	}
	_, _, id, err := events.ParseCommandSubject(msg.Subject())
	if err != nil {
		id = msg.Subject() // Somebody else's message; its whole subject becomes one token.
	}
	letter := nats.NewMsg(events.DeadLetterSubject(b.cluster, s.Stage, id))
	letter.Data = msg.Data()
	letter.Header.Set("Berth-Reason", string(v.reason))
	letter.Header.Set("Berth-Cause", headerText(v.text))
	letter.Header.Set("Berth-Subject", msg.Subject())
	if _, err := b.js.PublishMsg(ctx, letter, jetstream.WithExpectStream(events.DeadLetterStream)); err != nil {
		return fmt.Errorf("publish dead letter: %w", err)
	}
	return nil
}

// headerText makes one line of at most 1 KiB of a text, as a header needs it.
func headerText(s string) string {
	out := make([]rune, 0, min(len(s), 1024))
	for _, r := range s {
		if len(out) == 1024 {
			break
		}
		if r < ' ' || r == 0x7f {
			r = ' '
		}
		out = append(out, r)
	}
	return string(out)
}
