package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// TokenLife names the life of a pod whose tokens are kept.
type TokenLife struct{ Pod, Generation string }

// PutTokens keeps the tokens of one life of a pod, by their keys, in place of what
// was kept before. The creator's.
func (b *Bus) PutTokens(ctx context.Context, pod, generation string, tokens map[string]string) error {
	data, err := json.Marshal(tokens)
	if err != nil {
		return fmt.Errorf("marshal tokens: %w", err)
	}
	subject := events.TokenSubject(b.cluster, pod, generation)
	// The subject is in errors and logs; what is kept is not.
	return b.askMade(ctx, "keep "+subject, func(ctx context.Context) error {
		_, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data}, jetstream.WithExpectStream(events.TokenStream))
		return err
	})
}

// Tokens reads the tokens of one life of a pod from the bucket's leader. known is
// false where none are kept: none were copied yet, the pod is gone, or the bucket
// was lost and they are still to be read again.
func (b *Bus) Tokens(ctx context.Context, pod, generation string) (tokens map[string]string, known bool, err error) {
	s, err := b.handle(ctx, events.TokenStream)
	if err != nil {
		return nil, false, err
	}
	subject := events.TokenSubject(b.cluster, pod, generation)
	var raw *jetstream.RawStreamMsg
	err = b.askMade(ctx, "read "+subject, func(ctx context.Context) (err error) {
		raw, err = s.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			raw, err = nil, nil
		}
		return err
	})
	if err != nil || raw == nil {
		return nil, false, err
	}
	if err := json.Unmarshal(raw.Data, &tokens); err != nil {
		// The error of encoding/json could quote what it stumbled over.
		return nil, false, fmt.Errorf("read %s: %w", subject, events.ErrMalformed)
	}
	return tokens, true, nil
}

// DropTokens removes the tokens of one life of a pod. The deleter's.
func (b *Bus) DropTokens(ctx context.Context, pod, generation string) error {
	s, err := b.handle(ctx, events.TokenStream)
	if err != nil {
		return err
	}
	subject := events.TokenSubject(b.cluster, pod, generation)
	return b.askMade(ctx, "remove "+subject, func(ctx context.Context) error {
		return s.Purge(ctx, jetstream.WithPurgeSubject(subject))
	})
}

// TokenLives lists whose tokens are kept, without reading them.
func (b *Bus) TokenLives(ctx context.Context) (map[TokenLife]bool, error) {
	subjects, err := b.subjects(ctx, events.TokenStream, events.TokenFilter(b.cluster))
	if err != nil {
		return nil, err
	}
	lives := make(map[TokenLife]bool, len(subjects))
	for _, subject := range subjects {
		_, pod, generation, err := events.ParseTokenSubject(subject)
		if err != nil {
			continue // Nobody's; it is not ours to judge.
		}
		lives[TokenLife{pod, generation}] = true
	}
	return lives, nil
}

// TokensCreated asks when the bucket of the tokens was made. What was copied before
// is not in it.
func (b *Bus) TokensCreated(ctx context.Context) (time.Time, error) {
	s, err := b.handle(ctx, events.TokenStream)
	if err != nil {
		return time.Time{}, err
	}
	var created time.Time
	err = b.askMade(ctx, "ask for stream "+events.TokenStream, func(ctx context.Context) error {
		info, err := s.Info(ctx)
		if err == nil {
			created = info.Created
		}
		return err
	})
	return created, err
}
