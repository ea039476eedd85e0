package app

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/api/internal/silo"
)

// ownerLook is how often an address is looked at while it is waited for, for what no change of the log tells of.
const ownerLook = 500 * time.Millisecond

// Owner returns the user whose pod has an address. It is used to let people in without a password, so a
// user is named only when the log's leader says that the pod is alive with that address, no other pod
// that is alive says so too, and the API server, asked after that, says the same. Everything else
// is nobody: after the whole wait, whatever the cause, so that a user whom the caller may not name cannot be told from nobody.
//
// It returns a fault of [events.RequestInvalid] for an address that no pod can have, and of
// [events.Unavailable] while nobody can tell.
func (b *backend) Owner(ctx context.Context, address netip.Addr, mayName func(user string) bool) (string, error) {
	networks := b.config.PodSubnetCIDR
	if len(networks) > 0 && !slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(address) }) {
		return "", silo.Fault(events.RequestInvalid, "ip must be an address of a pod: one of podSubnetCidr")
	}
	ctx, cancel := b.waiting(ctx, b.waits.owner)
	defer cancel()
	changed, stop := b.owners.listen(address)
	defer stop()
	look := time.NewTicker(ownerLook)
	defer look.Stop()
	for {
		user, err := b.owner(ctx, address, mayName)
		switch {
		case ctx.Err() != nil: // Whatever failed, that is why.
		case err != nil:
			return "", unavailable(err)
		case user != "":
			return user, nil
		}
		select {
		case <-changed:
		case <-look.C:
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, errTimeout) {
				return "", waitFault(err)
			}
			// Nobody, or nobody can tell.
			if err := b.seeing(); err != nil {
				return "", unavailable(err)
			}
			return "", nil
		}
	}
}

// seeing returns nil while the log is what is in the cluster.
func (b *backend) seeing() error {
	if err := b.table.Ready(); err != nil {
		return err
	}
	return b.pulse.fresh()
}

// owner is [backend.Owner] at one moment: "" for nobody.
func (b *backend) owner(ctx context.Context, address netip.Addr, mayName func(string) bool) (string, error) {
	if err := b.seeing(); err != nil {
		return "", err
	}
	pod, found := b.owners.find(address)
	if !found {
		return "", nil
	}
	e, err := b.table.Fresh(ctx, pod)
	if err != nil {
		return "", err
	}
	// A user of others is nobody before the cluster is asked, so that the answer takes as long as for nobody.
	if !mayName(e.User) || !holds(e.Record) || !slices.Contains(addresses(e.Record), address) {
		return "", nil
	}
	has, err := b.confirms.has(ctx, natsbus.Address{Pod: pod, UID: e.Observed.UID, IP: address.String()})
	if err != nil {
		return "", err
	}
	// Another may have come meanwhile that says the same.
	if again, found := b.owners.find(address); !has || !found || again != pod {
		return "", nil
	}
	return e.User, nil
}
