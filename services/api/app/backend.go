package app

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

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
	// owners finds pods by address, pulse says whether that can be trusted, and confirms asks the cluster.
	owners   *owners
	pulse    *pulse
	confirms *confirms
	waits    waits
	// draining ends when the replica begins to stop.
	draining context.Context //nolint:containedctx // It is the replica's life, not a request's.
}

// waits are for how long a request waits for what others do.
type waits struct {
	// launch is for a create that was accepted, before its name is answered; the watch tells the rest.
	launch time.Duration
	// remove is for a delete to get into the log.
	remove time.Duration
	// first is for the first request with a key, of which nobody knows how it ended: it may be under way.
	first time.Duration
	// owner is for an address that is nobody's at first; clients give up after 5 s.
	owner time.Duration
}

func usualWaits() waits {
	return waits{launch: 2 * time.Second, remove: 10 * time.Second, first: 2 * time.Second, owner: 4500 * time.Millisecond}
}

var (
	_ silo.Lists   = (*backend)(nil)
	_ silo.Creates = (*backend)(nil)
	_ silo.Deletes = (*backend)(nil)
	_ silo.Cleans  = (*backend)(nil)
)

// errDraining ends the waits of a replica that stops.
var errDraining = errors.New("this replica is stopping; ask again")

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
	tokens, err := b.tokens(ctx, entries)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	pods := make([]silo.PodInfo, 0, len(entries))
	for i, e := range entries {
		info := silo.InfoOf(e.Record, b.config.IngressDomain, now)
		info.Tokens = tokens[i].values
		info.Warnings = append(info.Warnings, tokens[i].warnings...)
		pods = append(pods, info)
	}
	return pods, nil
}

// tokenReads is how many pods' tokens are read at a time for one request.
const tokenReads = 8

// podTokens are what is shown of a pod's tokens.
type podTokens struct {
	values   map[string]string
	warnings []string
}

// tokens reads the tokens of those pods that have some. A list that lacks a token would look like a pod
// without one, so when the bucket cannot be asked the whole answer is "unknown". What the bucket does
// not have, or nobody can read, is left out with a warning: the creator copies lost tokens again, and a
// list must not wait for that.
func (b *backend) tokens(ctx context.Context, entries []natsbus.Entry) ([]podTokens, error) {
	all := make([]podTokens, len(entries))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(tokenReads)
	for i, e := range entries {
		all[i].values = map[string]string{}
		if len(e.TokenKeys) == 0 || e.TokensAt.IsZero() || e.Event.Over() {
			continue
		}
		group.Go(func() error {
			values, known, err := b.bus.Tokens(ctx, e.Pod, e.Generation)
			switch {
			case errors.Is(err, events.ErrMalformed):
				all[i].warnings = []string{"the tokens that are kept cannot be read"}
			case err != nil:
				return unavailable(err)
			case !known:
				all[i].warnings = []string{"no tokens are kept; lost ones are copied again"}
			case values != nil:
				all[i].values = values
			}
			return nil
		})
	}
	return all, group.Wait()
}

// own returns the newest record of a user's pod as the log's leader has it, or
// silo.ErrNoPod. The table alone would not do, however good its record looks: on a
// replica that lags it may be of an earlier life of the name, which is ready,
// being deleted or gone while the caller's pod is not.
func (b *backend) own(ctx context.Context, user, pod string) (natsbus.Entry, error) {
	e, err := b.table.FreshOf(ctx, user, pod)
	if err != nil {
		return natsbus.Entry{}, unavailable(err)
	}
	if e.Event == "" {
		return natsbus.Entry{}, silo.ErrNoPod
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
