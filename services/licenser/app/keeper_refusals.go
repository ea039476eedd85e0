package app

import (
	"cmp"
	"context"
	"errors"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/licenser/internal/store"
	"berth/services/licenser/internal/upkeep"
)

// A start that is refused leaves nothing in the log but the outcome of its command. These are the starts that nobody waits
// for: those that hubs have asked for, those that follow a pod which is gone, and those by which projects that are to run always come back.

// fruitless says that no pod came of a command.
func fruitless(o events.Outcome) bool {
	return o.Verdict == events.Refused || o.Verdict == events.Expiry
}

// whyNot says why no pod was made, for people; empty for nothing.
func whyNot(o events.Outcome) string {
	if o.Message == "" {
		return string(o.Reason)
	}
	return string(o.Reason) + ": " + o.Message
}

// follows says that another pod follows one that is gone: its start has not been refused, and is not overdue.
func follows(ctx context.Context, bus *natsbus.Bus, gone natsbus.Entry) (bool, error) {
	if gone.Event != events.Gone || gone.Restart == nil || time.Since(gone.Time) > seatKeeping {
		return false, nil
	}
	outcome, err := bus.Outcome(ctx, gone.Restart.Command)
	return err == nil && (!fruitless(outcome) || outcome.Reason == events.AlreadyRunning), err
}

// refusals looks what has become of starts that nobody waits for, of so many of each kind at most.
func (k *keeper) refusals(ctx context.Context, limit int) error {
	n := 0
	for project, command := range k.asked {
		if n++; n > limit {
			break
		}
		if err := k.each(ctx, events.ProjectPod(project), func() error { return k.answer(ctx, project, command) }); err != nil {
			return err
		}
	}
	n = 0
	for pod := range k.following {
		if n++; n > limit {
			break
		}
		if err := k.each(ctx, pod, func() error { return k.await(ctx, pod) }); err != nil {
			return err
		}
	}
	n = 0
	for project, at := range k.revivals {
		if time.Now().Before(at) {
			continue
		}
		if n++; n > limit {
			break
		}
		if err := k.each(ctx, events.ProjectPod(project), func() error { return k.revived(ctx, project, at) }); err != nil {
			return err
		}
	}
	return nil
}

// revived looks what has become of a start by which a project was to come back at a time. One that was refused counts as a failure at once; one
// that nobody has come to for long is found when all is looked at.
func (k *keeper) revived(ctx context.Context, project string, at time.Time) error {
	outcome, err := k.bus.Outcome(ctx, revival(project, at))
	if err != nil || outcome.Verdict == "" && time.Since(at) < seatKeeping {
		return err
	}
	if fruitless(outcome) {
		if err := k.reviveOne(ctx, project); err != nil {
			return err
		}
	}
	if k.revivals[project].Equal(at) {
		delete(k.revivals, project)
	}
	return nil
}

// each does something about a pod, unless that is late. It fails where everything else would.
func (k *keeper) each(ctx context.Context, pod string, f func() error) error {
	if !k.late.due(pod, time.Now()) {
		return nil
	}
	k.progress.beat()
	return k.hinder(ctx, pod, f())
}

// answer tells a hub why nothing has come of the start that it has asked for.
func (k *keeper) answer(ctx context.Context, project, command string) error {
	outcome, err := k.bus.Outcome(ctx, command)
	switch {
	case err != nil:
		return err
	case outcome.Verdict == "", outcome.Verdict == events.Accepted:
		return nil // Its pod's record will come.
	case outcome.Reason == events.AlreadyRunning, outcome.Reason == events.Deleted: // The pod that is there tells, or somebody has stopped it since.
	default:
		if err := k.store.SetState(ctx, project, string(upkeep.Opened), whyNot(outcome)); err != nil {
			return err
		}
	}
	return k.forget(ctx, project)
}

// await looks whether the pod that is to follow one will still come.
func (k *keeper) await(ctx context.Context, pod string) error {
	gone, _ := k.table.Pod(pod)
	project, ok := projectOf(gone.Record)
	if !ok || gone.Event != events.Gone || gone.Restart == nil {
		delete(k.following, pod)
		return nil
	}
	if another, err := follows(ctx, k.bus, gone); another || err != nil {
		return err
	}
	return k.follow(ctx, project, gone)
}

// follow notes that another pod is to follow one that is gone, or why none does.
func (k *keeper) follow(ctx context.Context, project string, gone natsbus.Entry) error {
	outcome, err := k.bus.Outcome(ctx, gone.Restart.Command)
	switch {
	case err != nil:
		return err
	case fruitless(outcome):
	case time.Since(gone.Time) > seatKeeping:
		outcome = events.Outcome{Reason: events.Timeout, Message: "the pod that was to follow the last one has not come: start the project again"}
	default:
		k.following[gone.Pod] = struct{}{}
		return k.store.SetState(ctx, project, string(upkeep.Starting), "")
	}
	if err := k.alone(ctx, project, gone, outcome); err != nil {
		return err
	}
	delete(k.following, gone.Pod)
	return nil
}

// alone notes that no pod follows one that is gone, and why: its seats are free, and the project has come to an end, or is started again if
// it is to run always.
func (k *keeper) alone(ctx context.Context, project string, gone natsbus.Entry, outcome events.Outcome) error {
	if outcome.Reason == events.AlreadyRunning {
		return nil // That pod tells.
	}
	if err := k.store.FreeSeats(ctx, gone.Cluster, gone.Pod, gone.Generation, gone.Time); err != nil {
		return err
	}
	u, err := k.store.Upkeep(ctx, project)
	fault := whyNot(outcome)
	switch {
	case errors.Is(err, store.ErrNoProject):
		return nil
	case err != nil:
		return err
	case outcome.Reason == events.Deleted: // Somebody has stopped it.
		fault, err = "", k.store.Over(ctx, project, since(gone))
	case !u.Wanted, !u.RetryAt.IsZero(): // It has been noted.
		fault = cmp.Or(u.Error, fault)
	case u.AlwaysRunning:
		fault, err = k.failed(ctx, project, u, u.Failures+1, fault)
	default:
		err = k.store.Failed(ctx, project, u.Failures, time.Time{}, fault)
	}
	if err != nil {
		return err
	}
	return k.store.SetState(ctx, project, string(upkeep.Opened), fault)
}
