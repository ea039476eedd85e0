package app

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/licenser/internal/store"
	"berth/services/licenser/internal/upkeep"
)

// situation is what the keeper goes by in a record: as long as it is the same, there is nothing new to do.
type situation struct {
	generation string
	state      upkeep.State
	end        upkeep.End
	event      events.Type // Only of those that are something to the keeper beyond the state.
	reason     events.Reason
}

func situationOf(r events.Record) situation {
	s := situation{generation: r.Generation, state: upkeep.StateOf(r), end: upkeep.EndOf(r)}
	if s.state != upkeep.Starting && s.state != upkeep.Running || r.Event == events.Gone {
		s.event, s.reason = r.Event, r.Reason
	}
	return s
}

// settle sees to the seats of all pods with news in the log: others may wait for them, and they have to wait for nobody's lock
// on a project. What else follows of the news is then [keeper.news]'s.
func (k *keeper) settle(ctx context.Context) error {
	return k.records.drain(func(pod string) error {
		k.progress.beat()
		if entry, ok := k.table.Pod(pod); ok {
			if err := k.seats(ctx, entry); err != nil {
				return k.putOff(ctx, pod, err)
			}
		}
		k.looks[pod] = struct{}{}
		return nil
	})
}

// news does what the news in the log ask for. Where that does not work with several pods one after the other, it leaves the rest for after
// what else there is to do.
func (k *keeper) news(ctx context.Context) error {
	vain := 0
	err := k.settle(ctx)
	for pod := range k.looks {
		if err != nil || vain == faults {
			break
		}
		k.progress.beat()
		delete(k.looks, pod) // Before the look, as there may be other news of it meanwhile.
		if !k.late.due(pod, time.Now()) {
			continue // Then [keeper.retry] has it looked at.
		}
		fault := k.look(ctx, pod)
		if fault != nil {
			vain++
		}
		if err = k.hinder(ctx, pod, fault); err != nil {
			k.looks[pod] = struct{}{}
		} else {
			err = k.settle(ctx)
		}
	}
	return err
}

// look does what the newest record of a pod asks for. All of it can be repeated.
func (k *keeper) look(ctx context.Context, pod string) error {
	entry, ok := k.table.Pod(pod)
	if !ok {
		delete(k.seen, pod) // It has been gone for long.
		delete(k.settled, pod)
		delete(k.late, pod)
		return nil
	}
	s := situationOf(entry.Record)
	if k.seen[pod] != s {
		if err := k.seats(ctx, entry); err != nil {
			return err
		}
		if project, ok := projectOf(entry.Record); ok {
			if err := k.project(ctx, project, entry); err != nil {
				return err
			}
		}
		k.seen[pod] = s
	}
	delete(k.late, pod)
	return nil
}

// projectOf returns the project that a record is about; ok is false for the pod of a person.
func projectOf(r events.Record) (project string, ok bool) {
	project, ok = events.ProjectOf(r.User)
	return project, ok && events.ProjectID(project) && r.Pod == events.ProjectPod(project)
}

// newest is the newest record of a project's pod as a look by name finds it. A record that another user has under
// that name is none of the project's: to the project it is as if there were no pod.
func newest(project string, entry natsbus.Entry) natsbus.Entry {
	if entry.User != events.ProjectUser(project) {
		return natsbus.Entry{}
	}
	return entry
}

// pod is the newest record of a project's pod that the keeper's table knows.
func (k *keeper) pod(project string) (natsbus.Entry, bool) {
	entry, _ := k.table.Pod(events.ProjectPod(project))
	entry = newest(project, entry)
	return entry, entry.Event != ""
}

// lastOf reads the newest record of a project's pod from the log.
func lastOf(ctx context.Context, bus *natsbus.Bus, project string) (natsbus.Entry, error) {
	entry, err := bus.Last(ctx, events.ProjectPod(project))
	return newest(project, entry), err
}

// seats frees what a pod that is gone has used, or keeps it for the one that follows. A pod that was found in the
// cluster because the log had been lost goes on with the seats that it had.
func (k *keeper) seats(ctx context.Context, e natsbus.Entry) (err error) {
	s := situationOf(e.Record)
	switch {
	case k.settled[e.Pod] == s, k.seen[e.Pod] == s:
		return nil
	case e.Event == events.Gone && e.Restart == nil:
		err = k.store.FreeSeats(ctx, e.Cluster, e.Pod, e.Generation, e.Time)
	case e.Event == events.Gone:
		err = k.store.KeepSeats(ctx, e.Cluster, e.Pod, e.Generation, e.Time, e.Time.Add(seatKeeping))
	case e.ClaimedAt.IsZero():
		err = k.store.InheritSeats(ctx, e.Cluster, e.Pod, e.User, e.Generation)
	}
	if err == nil {
		k.settled[e.Pod] = s
	}
	return err
}

// project notes what a record means for the project, and begins what follows from it.
func (k *keeper) project(ctx context.Context, project string, entry natsbus.Entry) error {
	state, fault := upkeep.StateOf(entry.Record), upkeep.Fault(entry.Record)
	if cameToNothing(entry.Record) {
		if err := k.store.Undo(ctx, project, entry.Command); err != nil {
			return err
		}
	}
	if k.asked[project] == entry.Command {
		if err := k.forget(ctx, project); err != nil {
			return err
		}
	}
	if entry.Event == events.Gone && entry.Restart != nil {
		return k.follow(ctx, project, entry)
	}
	var err error
	switch upkeep.EndOf(entry.Record) {
	case upkeep.Stopped:
		err = k.store.Over(ctx, project, since(entry))
	case upkeep.Died:
		fault, err = k.died(ctx, project, entry)
	case upkeep.NoEnd:
		if state == upkeep.Starting || state == upkeep.Running {
			err = k.lives(ctx, project, entry)
		}
	}
	if err != nil {
		return err
	}
	if entry.Event == events.Ended {
		// Only a pod that is no more can be followed by another one.
		if err := k.bus.AskDelete(ctx, entry, events.DeleteRequest{Reason: entry.Reason, Message: entry.Message}); err != nil {
			return err
		}
	}
	if fault == "" {
		return k.store.Enter(ctx, standing(project, entry))
	}
	return k.store.SetState(ctx, project, string(state), fault)
}

// standing is the state of a project by the newest record of its pod.
func standing(project string, entry natsbus.Entry) store.Standing {
	s := store.Standing{Project: project, State: string(upkeep.StateOf(entry.Record))}
	switch {
	case upkeep.EndOf(entry.Record) == upkeep.Died, entry.Event == events.Gone && entry.Restart != nil:
		// What is said of it is not of the record alone.
	case s.State == string(upkeep.Starting), s.State == string(upkeep.Running):
		s.Since = since(entry)
	default:
		s.Since = entry.Time
	}
	return s
}

// cameToNothing says that a start has failed before its pod was launched: what it asked for is not to be kept.
func cameToNothing(r events.Record) bool {
	return upkeep.EndOf(r) == upkeep.Died && r.LaunchedAt.IsZero() && !r.ClaimedAt.IsZero()
}

// lives notes that a project has a pod. Once that is ready it looks whether anything has changed since it was made, and
// sets the timer by which idleness is found.
func (k *keeper) lives(ctx context.Context, project string, entry natsbus.Entry) error {
	since := since(entry)
	if err := k.store.Lives(ctx, project, since, !entry.ReadyAt.IsZero()); err != nil {
		return err
	}
	if err := k.forget(ctx, project); err != nil {
		return err
	}
	if upkeep.StateOf(entry.Record) != upkeep.Running {
		return nil
	}
	outdated, err := k.store.Outdated(ctx, []string{project})
	if err != nil {
		return err
	}
	if err := k.recompute(ctx, outdated); err != nil {
		return err
	}
	u, err := k.store.Upkeep(ctx, project)
	if errors.Is(err, store.ErrNoProject) {
		return nil
	}
	if err != nil {
		return err
	}
	next := upkeep.Idle(use(u, u.Now, entry, k.config.IdleWarning))
	switch {
	case u.AlwaysRunning, next == upkeep.Idleness{}:
		return nil
	case next.Stop, !next.StopAt.IsZero():
		next.Look = u.Now // The timer's task warns and stops.
	}
	return k.bus.ArmTask(ctx, events.TimerIdle, next.Look, events.ProjectTask{Do: events.TaskIdle, Project: project})
}

// since is from when on a pod has been what it is: ready, or on its way there.
func since(entry natsbus.Entry) time.Time {
	if !entry.ReadyAt.IsZero() {
		return entry.ReadyAt
	}
	return begun(entry)
}

// begun is when the life of a pod began; Berth may have found it in the cluster.
func begun(entry natsbus.Entry) time.Time {
	for _, at := range []time.Time{entry.ClaimedAt, entry.LaunchedAt} {
		if !at.IsZero() {
			return at
		}
	}
	return entry.Time
}

// use is what there is to know about the use of a project.
func use(u store.Upkeep, now time.Time, entry natsbus.Entry, warning time.Duration) upkeep.Use {
	return upkeep.Use{
		Now: now, LastActivity: u.LastActivity, Since: since(entry),
		Timeout: u.IdleTimeout, Warning: warning, StopAt: entry.IdleStopAt,
	}
}

// died counts the end of a pod that nobody wanted to end, and has it started again if the project is to run always. It
// returns what there is to say about it. A life is counted once: whoever lives has no time of a next start.
func (k *keeper) died(ctx context.Context, project string, entry natsbus.Entry) (string, error) {
	fault := upkeep.Fault(entry.Record)
	u, err := k.store.Upkeep(ctx, project)
	if err == nil && u.StartedAt.Before(begun(entry).Truncate(time.Microsecond)) {
		// It has lived and died between two looks.
		if err = k.store.Lives(ctx, project, since(entry), !entry.ReadyAt.IsZero()); err == nil {
			u, err = k.store.Upkeep(ctx, project)
		}
	}
	switch {
	case errors.Is(err, store.ErrNoProject):
		return fault, nil
	case err != nil:
		return "", err
	case !u.AlwaysRunning:
		return fault, k.store.Over(ctx, project, since(entry))
	case !u.Wanted && u.Error != "":
		return u.Error, nil // It was given up.
	case !u.Wanted:
		return fault, nil
	case !u.RetryAt.IsZero():
		return fault, k.startAt(ctx, project, u.RetryAt)
	}
	return k.failed(ctx, project, u, upkeep.Failures(u.Failures, entry.ReadyAt, upkeep.EndedAt(entry.Record, entry.Time)), fault)
}

// failed notes so many failures in a row, and either starts the project again later or gives it up.
func (k *keeper) failed(ctx context.Context, project string, u store.Upkeep, failures int, fault string) (string, error) {
	if failures >= k.config.AlwaysRunningFailures {
		fault = upkeep.GaveUp(failures, fault)
		k.log.Warn().Str("project_id", project).Int("failures", failures).Str("cause", fault).Msg("Giving up a project that is to run always")
		return fault, k.store.Failed(ctx, project, failures, time.Time{}, fault)
	}
	//nolint:gosec // Chance spreads the starts; nobody gains by guessing.
	retry := u.Now.Add(upkeep.Jitter(upkeep.Backoff(failures), rand.Float64())).Truncate(time.Microsecond)
	if err := k.store.Failed(ctx, project, failures, retry, fault); err != nil {
		return "", err
	}
	k.log.Info().Str("project_id", project).Int("failures", failures).Time("retry_at", retry).Str("cause", fault).
		Msg("Starting a project again that is to run always")
	return fault, k.startAt(ctx, project, retry)
}

func (k *keeper) startAt(ctx context.Context, project string, at time.Time) error {
	k.revivals[project] = at
	return k.bus.ArmTask(ctx, events.TimerStart, at,
		events.ProjectTask{Do: events.TaskStart, Project: project, Cause: events.CauseAlwaysRunning})
}
