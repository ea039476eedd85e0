package natsbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	errSlow = errors.New("no answer in time")
	errLost = errors.New("the connection was lost before the answer")
)

// ask carries out one request to the server. It waits for a connection that is
// being made, bounds the request, and gives it up when the connection is lost,
// since the answer is lost with it. Errors are wrapped in [ErrUnavailable]:
// whether the server has done what was asked is then unknown.
func (b *Bus) ask(ctx context.Context, what string, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, b.timeout, errSlow)
	defer cancel()
	err := b.connected(ctx)
	if err == nil {
		err = b.untilLost(ctx, request)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
	}
	return nil
}

// askMade is ask for a stream that nothing else makes anew when it is lost: it is
// made, and asked once more.
func (b *Bus) askMade(ctx context.Context, what string, request func(context.Context) error) error {
	err := b.ask(ctx, what, request)
	if !lost(err) && !errors.Is(err, jetstream.ErrNoStreamResponse) {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, b.timeout, errSlow)
	defer cancel()
	if made := b.Provision(ctx); made != nil {
		return errors.Join(err, made)
	}
	return b.ask(ctx, what, request)
}

// untilLost calls request with a context that ends when the connection is lost.
func (b *Bus) untilLost(ctx context.Context, request func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b.mu.Lock()
	link := b.link
	b.mu.Unlock()
	defer context.AfterFunc(link, func() { cancel(errLost) })()
	err := request(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// connected waits until there is a connection.
func (b *Bus) connected(ctx context.Context) error {
	if b.nc.IsConnected() {
		return nil
	}
	up := b.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer b.nc.RemoveStatusListener(up)
	// It may have come up before the channel was there.
	for !b.nc.IsConnected() {
		if b.nc.IsClosed() {
			return nats.ErrConnectionClosed
		}
		select {
		case <-up:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", b.away(), context.Cause(ctx))
		}
	}
	return nil
}

// dropped gives up what is under way on a connection that is lost.
func (b *Bus) dropped() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cut != nil {
		b.cut()
	}
	b.link, b.cut = context.WithCancel(context.Background())
}

// pause waits for d, or less if ctx ends first; then it returns false.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
