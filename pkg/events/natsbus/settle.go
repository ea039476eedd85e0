package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"berth/pkg/events"
)

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

// carryOut does what a message asks for and settles it.
func (w *worker) carryOut(ctx context.Context, msg jetstream.Msg) {
	begun := time.Now()
	log := w.bus.log.With().Str("stage", string(w.stage.Stage)).Str("subject", msg.Subject()).Logger()
	// One tenth of the time is left for settling the message.
	ctx, cancel := context.WithTimeoutCause(ctx, w.stage.Time, fmt.Errorf("the stage %s took longer than %s", w.stage.Stage, w.stage.Time))
	defer cancel()

	meta, err := msg.Metadata()
	if err != nil {
		log.Error().Err(err).Msg("Message without metadata")
		return
	}
	d := Delivery{Attempt: meta.NumDelivered, Queued: meta.Timestamp, Sequence: meta.Sequence.Stream}
	stop := w.extend(ctx, msg)
	v := w.attempt(ctx, msg, &d)
	log = log.With().Str("command_id", d.ID).Str("pod_name", d.Pod).Uint64("attempt", d.Attempt).Logger()

	if v.name == "dead" {
		if err := w.bury(ctx, msg, d, v); err != nil {
			log.Error().Err(err).Msg("Cannot bury a command; trying again")
			v = verdict{name: "again", delay: mostDelay}
		} else {
			log.Error().Str("reason", string(v.reason)).Str("cause", v.text).Msg("Command cannot be done")
		}
	}
	stop()
	if err := w.settle(ctx, msg, v); err != nil {
		log.Warn().Err(err).Msg("Cannot settle a command; it is delivered again")
	}
	if w.stage.Done != nil {
		w.stage.Done(time.Since(begun), v.name)
	}
}

// settle tells the server what became of a message. Where the connection is
// lost it waits for the next one, also past the message's time.
func (w *worker) settle(ctx context.Context, msg jetstream.Msg, v verdict) error {
	return w.bus.ask(context.WithoutCancel(ctx), v.name, func(context.Context) error {
		switch v.name {
		case "ack":
			return msg.Ack()
		case "dead":
			return msg.TermWithReason(string(v.reason))
		default:
			return msg.NakWithDelay(v.delay)
		}
	})
}

// attempt counts the deliveries before it decodes, so that a poison message
// ends in the dead letters.
func (w *worker) attempt(ctx context.Context, msg jetstream.Msg, d *Delivery) verdict {
	attempts := w.stage.Attempts
	c, err := parse(msg)
	if err == nil {
		d.Command = c
	}
	switch {
	case d.Attempt > attempts:
		return verdict{name: "dead", reason: events.RetriesExhausted, text: "delivered too often without an answer"}
	case err != nil:
		return judge(Permanent(events.RequestInvalid, err), d.Attempt, attempts)
	}
	ctx, cancel := context.WithTimeoutCause(WithTraceparent(ctx, c.Traceparent), w.stage.Time*9/10,
		fmt.Errorf("the stage %s took longer than %s", w.stage.Stage, w.stage.Time*9/10))
	defer cancel()
	err = w.guard(func() error { return w.stage.Handler(ctx, *d) })
	if errors.Is(err, errPanic) {
		attempts = min(attempts, panicAttempts)
	}
	v := judge(err, d.Attempt, attempts)
	if v.name == "again" {
		w.bus.log.WithLevel(patience(d.Attempt)).Err(err).Str("stage", string(w.stage.Stage)).Str("command_id", d.ID).Str("pod_name", d.Pod).
			Uint64("attempt", d.Attempt).Dur("delay_ms", v.delay).Msg("Command is tried again")
	}
	return v
}

// patience is the level at which the log says that a command is tried again. Most
// need one more attempt; what needs many has a fault that somebody should hear of,
// though not at each attempt.
func patience(attempt uint64) zerolog.Level {
	const first, every = 8, 32
	if attempt == first || attempt%every == 0 {
		return zerolog.WarnLevel
	}
	return zerolog.DebugLevel
}

// parse reads a command that stands where it belongs.
func parse(msg jetstream.Msg) (events.Command, error) {
	c, err := events.ParseCommand(msg.Data())
	if err != nil {
		return events.Command{}, err
	}
	if c.Subject() != msg.Subject() {
		return events.Command{}, fmt.Errorf("the command contradicts its subject: %w", events.ErrMalformed)
	}
	return c, nil
}

// panicAttempts is how often a command is tried whose handler panics.
const panicAttempts = 3

var errPanic = errors.New("the stage failed inside")

// guard makes an error of a panic: one command must not end the process.
func (w *worker) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.bus.log.Error().Interface("panic", p).Bytes("stack", debug.Stack()).Str("stage", string(w.stage.Stage)).Msg("Handler panicked")
			err = errPanic
		}
	}()
	return f()
}

// bury makes a failure known and keeps a copy of the message, without variables, with
// its cause.
func (w *worker) bury(ctx context.Context, msg jetstream.Msg, d Delivery, v verdict) error {
	if w.stage.Fail != nil && d.Stage != "" {
		if err := w.guard(func() error { return w.stage.Fail(ctx, d, v.reason, v.text) }); err != nil {
			return fmt.Errorf("make the failure known: %w", err)
		}
	}
	_, _, id, err := events.ParseCommandSubject(msg.Subject())
	if err != nil {
		id = msg.Subject() // Somebody else's message; its whole subject becomes one token.
	}
	letter := nats.NewMsg(events.DeadLetterSubject(w.bus.cluster, w.stage.Stage, id))
	letter.Data = withoutVariables(msg.Data())
	letter.Header.Set("Berth-Reason", string(v.reason))
	letter.Header.Set("Berth-Cause", headerText(v.text))
	letter.Header.Set("Berth-Subject", msg.Subject())
	return w.bus.ask(ctx, "publish dead letter", func(ctx context.Context) error {
		_, err := w.bus.js.PublishMsg(ctx, letter, jetstream.WithExpectStream(events.DeadLetterStream))
		return err
	})
}

// withoutVariables is a command as it is kept: what a pod's containers get may be
// secret. A message that is no command stays as it is, since nobody knows what it
// was to be.
func withoutVariables(data []byte) []byte {
	c, err := events.ParseCommand(data)
	if err != nil {
		return data
	}
	if c.Rendered != nil {
		c.Rendered = json.RawMessage("{}")
	}
	if c.Project != nil {
		c.Project = withoutEnv(*c.Project)
	}
	if c.Create != nil {
		create := *c.Create
		create.Settings, create.ManifestURL = nil, create.Manifest()
		if create.Project != nil {
			create.Project = withoutEnv(*create.Project)
		}
		c.Create = &create
	}
	kept, err := c.Marshal()
	if err != nil {
		return []byte("{}") // It was read from JSON, and can be written.
	}
	return kept
}

func withoutEnv(p events.ProjectRequest) *events.ProjectRequest {
	p.Env, p.Config = nil, nil
	return &p
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
