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

// stopTime is how long it may take to note a stop, to read what there is, and to ask for the delete, before that is waited for.
const stopTime = 20 * time.Second

// Delete returns when it is certain that the pod will go: `deleting` is in the
// log. A pod that is being deleted already is no fault. A project's pod is deleted so that none
// follows it, and no start brings it up that was asked for before, also where there is no pod.
func (b *backend) Delete(ctx context.Context, user, pod string) error {
	var stop uint64
	if project, ok := events.ProjectOf(user); ok && events.ProjectID(project) && pod == events.ProjectPod(project) {
		// A stop that is noted is carried out, also when the client goes away.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), b.waits.remove+stopTime)
		defer cancel()
		var err error
		if stop, err = b.bus.NoteStop(ctx, project); err != nil {
			return unavailable(err)
		}
	}
	return b.remove(ctx, user, pod, stop)
}

// remove is [backend.Delete] of a project whose stop is noted at a place in the log.
func (b *backend) remove(ctx context.Context, user, pod string, stop uint64) error {
	e, err := b.own(ctx, user, pod)
	// What is asked for by somebody who knows of the stop follows it.
	last := func(e natsbus.Entry) bool { return e.Restart == nil || e.Restart.Knows(stop) }
	stops := func(e natsbus.Entry) bool { return e.Event == events.Deleting && last(e) }
	switch {
	case err != nil:
		return err
	case e.Event == events.Gone && !last(e):
		return b.takeBack(ctx, e, stop)
	case e.Event == events.Gone:
		return silo.ErrNoPod
	case stops(e):
		return nil
	}
	generation := e.Generation
	id := natsbus.NewID()
	audit.SetCommand(ctx, id)
	err = b.bus.Publish(ctx, events.Command{
		Stage: events.StageDelete, ID: id, Cluster: b.bus.Cluster(), User: user,
		Pod: pod, Generation: generation, After: e.Known(), Delete: &events.DeleteRequest{Stop: isProject(user), StopAt: stop},
	}, "user")
	if err != nil {
		return unavailable(err)
	}
	waiting, cancel := b.waiting(ctx, b.waits.remove)
	defer cancel()
	_, err = b.table.Await(waiting, pod, func(e natsbus.Entry) bool {
		return e.Generation != generation || stops(e) || e.Event == events.Gone
	})
	if err != nil {
		return waitFault(err)
	}
	return nil
}

// takeBack sees to it that a project's pod that is gone is not followed by another one; if that is there
// already, it is deleted.
func (b *backend) takeBack(ctx context.Context, gone natsbus.Entry, stop uint64) error {
	outcome, err := b.bus.Decide(ctx, events.Outcome{
		Verdict: events.Expiry, Command: gone.Restart.Command, User: gone.User, Reason: events.Deleted,
		Message: "the project was stopped while it was being restarted",
	})
	switch {
	case err != nil && !errors.Is(err, events.ErrDecided):
		return unavailable(err)
	case outcome.Verdict != events.Accepted:
		return silo.ErrNoPod
	}
	waiting, cancel := b.waiting(ctx, b.waits.remove)
	defer cancel()
	if _, err := b.table.Await(waiting, gone.Pod, func(e natsbus.Entry) bool { return e.Generation != gone.Generation }); err != nil {
		return waitFault(err)
	}
	return b.remove(ctx, gone.User, gone.Pod, stop)
}

func isProject(user string) bool {
	_, project := events.ProjectOf(user)
	return project
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
