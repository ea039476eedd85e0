package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"berth/pkg/events"
)

// Question is what one service asks another over core NATS, and waits for. Nothing
// that must not be lost is asked so.
type Question struct {
	// Method says what is asked; Params is a JSON value that the method defines.
	Method string          `json:"method"`
	Params json.RawMessage `json:"params,omitempty"`
	// Traceparent carries the W3C trace context; empty for none.
	Traceparent string `json:"traceparent,omitempty"`
}

// reply is the answer to a question: a result or a fault.
type reply struct {
	Result json.RawMessage `json:"result,omitempty"`
	Fault  *Fault          `json:"fault,omitempty"`
}

// Fault is an answer that says why there is no result: the asker's mistake, or that
// the answerer cannot answer now.
type Fault struct { //nolint:errname // What callers are told, not only an error.
	Reason  events.Reason `json:"reason"`
	Message string        `json:"message"`
}

// Error is the fault's message.
func (f *Fault) Error() string { return f.Message }

// Ask asks a question on a subject ([events.LicenseSubject], [events.RenderSubject]) and
// reads the answer into result, which may be nil. The error is a [*Fault] where the answerer says
// why not, with [events.Unavailable] where nobody answers or the wait was too long: whether
// something was changed is then unknown.
func (b *Bus) Ask(ctx context.Context, subject, method string, params, result any) error {
	q := Question{Method: method, Traceparent: Traceparent(ctx)}
	var err error
	if q.Params, err = json.Marshal(params); err != nil {
		return fmt.Errorf("marshal question %s: %w", method, err)
	}
	data, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("marshal question %s: %w", method, err)
	}
	if len(data) > events.MaxCommand {
		return &Fault{events.RequestInvalid, fmt.Sprintf("the request has %d bytes, more than %d", len(data), events.MaxCommand)}
	}
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	msg, err := b.nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		b.log.Debug().Err(err).Str("method", method).Msg("A question has no answer")
		return &Fault{events.Unavailable, "no " + answerers(subject) + " answers; it may be starting, or it waits for its database"}
	}
	var r reply
	if err := json.Unmarshal(msg.Data, &r); err != nil {
		return fmt.Errorf("read the answer to %s: %w", method, err)
	}
	if r.Fault != nil {
		return r.Fault
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(r.Result, result); err != nil {
		return fmt.Errorf("read the answer to %s: %w", method, err)
	}
	return nil
}

// questionTime is how long a question may take; whoever answers gives up before.
const questionTime = 20 * time.Second

// answerers is who answers on a subject.
func answerers(subject string) string {
	if strings.HasPrefix(subject, strings.TrimSuffix(events.RenderSubject(""), events.Token(""))) {
		return "creator"
	}
	return "licenser"
}

// Answer answers questions on a subject until the function returned is called, which waits
// for those that are under way. One of all services that answer there gets each question. answer is
// called in a goroutine of its own, at most limit at a time; it returns what [Ask] reads, or an error: a [*Fault] is
// told as it is, anything else as unavailable and logged.
func (b *Bus) Answer(ctx context.Context, subject string, limit int, answer func(context.Context, Question) (any, error)) (func(), error) {
	places := make(chan struct{}, limit)
	tell := func(m *nats.Msg, r reply) {
		data, err := json.Marshal(r)
		if err == nil && len(data) > events.MaxCommand {
			data, err = json.Marshal(reply{Fault: &Fault{events.RequestInvalid, "the answer is too large; ask for less at a time"}})
		}
		if err == nil {
			err = m.Respond(data)
		}
		if err != nil {
			b.log.Warn().Err(err).Msg("Cannot answer a question")
		}
	}
	sub, err := b.nc.QueueSubscribe(subject, "berth", func(m *nats.Msg) {
		var q Question
		if json.Unmarshal(m.Data, &q) != nil || q.Method == "" {
			tell(m, reply{Fault: &Fault{events.RequestInvalid, "the question is malformed"}})
			return
		}
		select {
		case places <- struct{}{}:
		default:
			tell(m, reply{Fault: &Fault{events.Unavailable, "too many questions at once; ask again"}})
			return
		}
		go func() {
			defer func() { <-places }()
			tell(m, b.answered(ctx, q, answer))
		}()
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to questions: %w", err)
	}
	b.settleSubscriptions()
	return func() {
		_ = sub.Unsubscribe()
		b.settleSubscriptions() // Else the server sends one more, to nobody.
		for range limit {
			places <- struct{}{} // Until all have been answered.
		}
	}, nil
}

// settleSubscriptions waits until the server knows of what has been subscribed to and what
// not any more. Where the connection is lost it is told by the next one.
func (b *Bus) settleSubscriptions() {
	if b.nc.IsConnected() {
		_ = b.nc.FlushTimeout(flushTime)
	}
}

// flushTime is how long a server may take to hear of a subscription.
const flushTime = time.Second

// answered is the reply to a question. A panic must not end the process.
func (b *Bus) answered(ctx context.Context, q Question, answer func(context.Context, Question) (any, error)) (r reply) {
	ctx, cancel := context.WithTimeout(WithTraceparent(ctx, q.Traceparent), questionTime*9/10)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			b.log.Error().Interface("panic", p).Str("method", q.Method).Msg("A question made the service panic")
			r = reply{Fault: &Fault{events.Unavailable, "the service failed inside; its log says how"}}
		}
	}()
	result, err := answer(ctx, q)
	if fault := (*Fault)(nil); errors.As(err, &fault) {
		return reply{Fault: fault}
	}
	if err == nil {
		var data json.RawMessage
		if data, err = json.Marshal(result); err == nil {
			return reply{Result: data}
		}
	}
	b.log.Warn().Err(err).Str("method", q.Method).Msg("A question cannot be answered")
	return reply{Fault: &Fault{events.Unavailable, "it cannot be answered now; the log of the service says why"}}
}
