package app

import (
	"context"
	"errors"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/service/config"
	"berth/services/api/internal/silo"
)

// backend answers the silo endpoints from the log. It is safe for concurrent use.
type backend struct {
	bus    *natsbus.Bus
	table  *natsbus.Table
	config config.Config
	// draining ends when the replica begins to stop.
	draining context.Context //nolint:containedctx // It is the replica's life, not a request's.
}

var (
	_ silo.Lists   = (*backend)(nil)
	_ silo.Creates = (*backend)(nil)
	_ silo.Deletes = (*backend)(nil)
)

// errDraining ends the waits of a replica that stops.
var errDraining = errors.New("this replica is stopping; ask again")

// errNotYours is the answer for what does not exist and for what is another
// user's: the two must not differ.
var errNotYours = silo.Fault(events.NotFound, "you have no such pod")

// waiting returns a context that ends also when the replica drains or after d.
func (b *backend) waiting(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	released := context.AfterFunc(b.draining, func() { cancel(errDraining) })
	timed, stop := context.WithTimeoutCause(ctx, d, errTimeout)
	return timed, func() {
		stop()
		released()
		cancel(nil)
	}
}

var errTimeout = errors.New("the time to wait is over")

// Pods returns what is shown of a user's pods.
func (b *backend) Pods(ctx context.Context, user string) ([]silo.PodInfo, error) {
	if err := b.table.Ready(); err != nil {
		return nil, unavailable(err)
	}
	entries := b.table.User(user)
	if len(entries) == 0 {
		var err error
		if entries, err = b.table.FreshUser(ctx, user); err != nil {
			return nil, unavailable(err)
		}
	}
	now := time.Now()
	pods := make([]silo.PodInfo, 0, len(entries))
	for _, e := range entries {
		pods = append(pods, silo.InfoOf(e.Record, now))
	}
	return pods, nil
}

// own returns the newest record of a user's pod as the log's leader has it, or
// errNotYours. The table alone would not do, however good its record looks: on a
// replica that lags it may be of an earlier life of the name, which is ready,
// being deleted or gone while the caller's pod is not.
func (b *backend) own(ctx context.Context, user, pod string) (natsbus.Entry, error) {
	e, err := b.table.Fresh(ctx, pod)
	if err != nil {
		return natsbus.Entry{}, unavailable(err)
	}
	if e.Event == "" || e.User != user {
		return natsbus.Entry{}, errNotYours
	}
	return e, nil
}

// unavailable is the answer while the log cannot be read: unknown, never no.
func unavailable(err error) error {
	if errors.Is(err, natsbus.ErrUnavailable) {
		return silo.Fault(events.Unavailable, err.Error())
	}
	return err
}
