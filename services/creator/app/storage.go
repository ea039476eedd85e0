package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/kube"
	"berth/services/creator/internal/cluster"
	"berth/services/creator/internal/render"
)

// How long a launch waits for its claim before it makes place for others, and how
// soon it comes back.
const (
	boundPatience  = 3 * time.Second
	boundDelay     = 500 * time.Millisecond
	unsettledDelay = time.Second
	// removingDelay is shorter: a removal takes no longer than a few requests.
	removingDelay = 250 * time.Millisecond
)

// storages makes the users' volumes and claims in the cluster; see package cluster.
type storages interface {
	Storage(ctx context.Context, s render.Storage) (cluster.Claim, error)
	Claim(ctx context.Context, s render.Storage) (cluster.Claim, error)
}

// pendingError says that the storage has to be waited for. Its text is what the
// user reads.
type pendingError struct {
	delay time.Duration
	text  string
	err   error // The cause; it may be nil.
}

func (e *pendingError) Error() string { return e.text }
func (e *pendingError) Unwrap() error { return e.err }

// provide sees to it that the storage which a pod mounts can be used, and makes the
// pod mount it by the name that it has. It returns the zero Storage for a pod that
// mounts none.
//
// The pod is written into the user's storage record before anything is made, so that
// nobody removes what it is about to use. It stays there until its delete takes it
// out, whatever becomes of this launch. Where the delete was faster, since this process
// was paused for longer than a launch may take, the next sweep does: to take it out
// here could begin a removal that nobody carries on before.
func (c *creator) provide(ctx context.Context, d natsbus.Delivery, pod *corev1.Pod) (render.Storage, error) {
	storage, err := render.StorageOf(pod, d.User, c.config.Namespace, c.site())
	if err != nil || storage.Name == "" {
		return storage, err
	}
	record, err := c.bus.ChangeStorage(ctx, events.StorageFact{
		Kind: events.StorageUse, User: d.User, At: time.Now().UTC(), Use: useOf(d), Claim: storage.Name,
	})
	if errors.Is(err, events.ErrRemoving) {
		return storage, &pendingError{removingDelay, "the user's storage is being removed after the last pod; waiting for it to be gone", err}
	}
	if err != nil {
		return storage, err
	}
	storage.Name = record.Claim
	err = c.bind(ctx, storage)
	if errors.Is(err, cluster.ErrForeign) {
		if storage.Name, err = c.rename(ctx, d, storage); err == nil {
			err = c.bind(ctx, storage)
		}
	}
	switch {
	case errors.Is(err, cluster.ErrForeign):
		// Both names are somebody else's: nothing here can change that.
		return storage, &cluster.RejectedError{Reason: render.ReasonStorageFailed, Message: err.Error()}
	case errors.Is(err, cluster.ErrUseless):
		if sweepErr := c.clear(ctx, d); sweepErr != nil {
			return storage, sweepErr
		}
		return storage, &pendingError{unsettledDelay, err.Error() + "; it is being removed", err}
	case errors.Is(err, cluster.ErrUnsettled):
		return storage, &pendingError{unsettledDelay, err.Error() + "; waiting for it to go", err}
	case err != nil:
		return storage, err
	}
	storage.Mount(pod)
	return storage, nil
}

// clear asks for the removal of what is in the way of a user's storage and cannot be
// used any more, once in the time in which the broker knows a command again.
func (c *creator) clear(ctx context.Context, d natsbus.Delivery) error {
	return c.bus.Publish(ctx, events.Command{
		Stage: events.StageSweep, ID: "storage-" + d.ID, Cluster: d.Cluster, User: d.User, Sweep: &events.SweepRequest{},
	}, "useless")
}

// rename takes the other name for a user's storage, which no other user has, and
// returns the name that holds.
func (c *creator) rename(ctx context.Context, d natsbus.Delivery, storage render.Storage) (string, error) {
	record, err := c.bus.ChangeStorage(ctx, events.StorageFact{
		Kind: events.StorageMove, User: d.User, At: time.Now().UTC(), From: storage.Name, Claim: kube.StorageName(d.User, true),
	})
	if err == nil && record.State != events.StorageUsed {
		err = errors.New("the user's storage was given up meanwhile")
	}
	return record.Claim, err
}

// bind makes a storage, or finds it, and waits until a pod can use it.
func (c *creator) bind(ctx context.Context, storage render.Storage) error {
	news := c.claims.expect(storage.Name) // Before the claim is made, since it may be bound at once.
	defer news.end()
	claim, err := c.storages.Storage(ctx, storage)
	if err != nil || claim.Bound || news.bound(ctx, claim.UID, c.boundPatience) {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("wait for claim %s: %w", storage.Name, context.Cause(ctx))
	}
	// The news may be lost, or the watcher.
	claim, err = c.storages.Claim(ctx, storage)
	switch {
	case apierrors.IsNotFound(err):
		return &pendingError{boundDelay, fmt.Sprintf("the claim %s went away; making it again", storage.Name), err}
	case err != nil || claim.Bound:
		return err
	}
	return &pendingError{boundDelay, fmt.Sprintf("waiting for the claim %s to be bound", storage.Name), nil}
}

// useOf is the life of a pod that a command is about.
func useOf(d natsbus.Delivery) events.Use {
	return events.Use{Pod: d.Pod, Generation: d.Generation, Command: d.ID}
}
