package app

import (
	"context"
	"errors"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/api/internal/audit"
	"berth/services/api/internal/silo"
)

// deleteWait is how long a delete may take to get into the log.
const deleteWait = 10 * time.Second

// Delete returns when it is certain that the pod will go: `deleting` is in the
// log. A pod that is being deleted already is no fault.
func (b *backend) Delete(ctx context.Context, user, pod string) error {
	e, err := b.own(ctx, user, pod)
	switch {
	case err != nil:
		return err
	case e.Event == events.Gone:
		return silo.ErrNoPod
	case e.Event == events.Deleting:
		return nil
	}
	generation := e.Generation
	id := natsbus.NewID()
	audit.SetCommand(ctx, id)
	err = b.bus.Publish(ctx, events.Command{
		Stage: events.StageDelete, ID: id, Cluster: b.bus.Cluster(), User: user,
		Pod: pod, Generation: generation, After: e.Known(), Delete: &events.DeleteRequest{},
	}, "user")
	if err != nil {
		return unavailable(err)
	}
	waiting, cancel := b.waiting(ctx, deleteWait)
	defer cancel()
	_, err = b.table.Await(waiting, pod, func(e natsbus.Entry) bool {
		return e.Generation != generation || e.Event == events.Deleting || e.Event == events.Gone
	})
	if err != nil {
		return waitFault(err)
	}
	return nil
}

// AwaitGone waits until a pod is gone. For a name that is not the user's the
// answer is true at once; false means that nobody deletes the pod, or that it
// takes too long.
func (b *backend) AwaitGone(ctx context.Context, user, pod string) (bool, error) {
	e, err := b.own(ctx, user, pod)
	switch {
	case errors.Is(err, silo.ErrNoPod):
		return true, nil
	case err != nil:
		return false, err
	case !e.Event.Over():
		return false, nil
	}
	generation := e.Generation
	over := func(e natsbus.Entry) bool { return e.Generation != generation || e.Event == events.Gone }
	waiting, cancel := b.waiting(ctx, b.config.TimeoutDelete)
	defer cancel()
	_, err = b.table.Await(waiting, pod, over)
	switch {
	case err == nil:
		return true, nil
	case !errors.Is(err, errTimeout):
		return false, waitFault(err)
	}
	// This replica may lag: the leader is asked before the "no".
	e, err = b.table.Fresh(ctx, pod)
	if err != nil {
		return false, unavailable(err)
	}
	return over(e), nil
}
