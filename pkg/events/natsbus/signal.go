package natsbus

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"berth/pkg/events"
)

// Bound is the news that a claim has been bound.
type Bound struct {
	Claim string `json:"claim"`
	UID   string `json:"uid"`
}

// SayBound says on core NATS that a claim has been bound. Who waits for it looks
// by itself, too: nothing depends on this message.
func (b *Bus) SayBound(bound Bound) error {
	data, err := json.Marshal(bound)
	if err != nil {
		return fmt.Errorf("marshal the news of a claim: %w", err)
	}
	return b.nc.Publish(events.BoundSubject(b.cluster), data)
}

// OnBound calls f for each claim that is bound until the function returned is
// called. f must not block.
func (b *Bus) OnBound(f func(Bound)) (func(), error) {
	sub, err := b.nc.Subscribe(events.BoundSubject(b.cluster), func(m *nats.Msg) {
		var bound Bound
		if json.Unmarshal(m.Data, &bound) == nil && bound.Claim != "" {
			f(bound)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to bound claims: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// Address is the question whether a pod has an address.
type Address struct {
	Pod string `json:"pod_name"`
	UID string `json:"uid"`
	IP  string `json:"ip"`
}

// addressAnswer is the watcher's answer.
type addressAnswer struct {
	Has   bool   `json:"has"`
	Error string `json:"error,omitempty"`
}

// ConfirmAddress asks the leading watcher, who asks the API server, whether the
// pod with a UID is alive and has the address now. [ErrUnavailable] is returned
// when nobody can tell.
func (b *Bus) ConfirmAddress(ctx context.Context, a Address) (bool, error) {
	data, err := json.Marshal(a)
	if err != nil {
		return false, fmt.Errorf("marshal address: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	msg, err := b.nc.RequestWithContext(ctx, events.ConfirmSubject(b.cluster), data)
	if err != nil {
		return false, fmt.Errorf("ask the watcher about an address: %w: %w", err, ErrUnavailable)
	}
	var answer addressAnswer
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return false, fmt.Errorf("read the watcher's answer: %w: %w", err, ErrUnavailable)
	}
	if answer.Error != "" {
		return false, fmt.Errorf("the watcher cannot tell: %s: %w", answer.Error, ErrUnavailable)
	}
	return answer.Has, nil
}

// OnConfirm answers questions about addresses until the function returned is
// called. Each is answered by a call of f in a goroutine of its own, of which there are
// at most as many as limit; questions beyond that are answered with an error.
func (b *Bus) OnConfirm(ctx context.Context, limit int, f func(context.Context, Address) (bool, error)) (func(), error) {
	places := make(chan struct{}, limit)
	answer := func(m *nats.Msg, a addressAnswer) {
		data, err := json.Marshal(a)
		if err == nil {
			err = m.Respond(data)
		}
		if err != nil {
			b.log.Debug().Err(err).Msg("Cannot answer a question about an address")
		}
	}
	sub, err := b.nc.Subscribe(events.ConfirmSubject(b.cluster), func(m *nats.Msg) {
		var a Address
		if json.Unmarshal(m.Data, &a) != nil || a.Pod == "" || a.IP == "" {
			answer(m, addressAnswer{Error: "the question is malformed"})
			return
		}
		select {
		case places <- struct{}{}:
		default:
			answer(m, addressAnswer{Error: "too many questions at once"})
			return
		}
		go func() {
			defer func() { <-places }()
			has, err := f(ctx, a)
			if err != nil {
				answer(m, addressAnswer{Error: err.Error()})
				return
			}
			answer(m, addressAnswer{Has: has})
		}()
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to questions about addresses: %w", err)
	}
	return func() {
		_ = sub.Unsubscribe()
		for range limit {
			places <- struct{}{} // Until all have been answered.
		}
	}, nil
}
