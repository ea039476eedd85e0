package app

import (
	"context"
	"errors"
	"slices"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/licenser/internal/store"
	"berth/services/licenser/internal/upkeep"
)

// pending is how long the keeper waits for what it has asked for before it asks again.
const pending = time.Minute

// due says that a project is to be computed again: when, and from which inputs.
type due struct {
	at     time.Time
	inputs string
}

// errLater is returned for what cannot be done before something that is under way has come to its end.
var errLater = errors.New("the project's next pod is about to be made")

// hear does what the news of the database ask for.
func (k *keeper) hear(ctx context.Context) error {
	var projects []string
	failed := k.changes.drain(func(c store.Change) error {
		switch {
		case c.Settings:
			return k.settings(ctx)
		case c.License != "":
			return k.licenses(ctx, c.License)
		}
		projects = append(projects, c.Project)
		return k.requests(ctx, c.Project)
	})
	if len(projects) == 0 {
		return failed
	}
	slices.Sort(projects)
	return first(failed, k.outdated(ctx, projects))
}

// licenses has projects computed again whose licenses have another content now than when that was last done: those of all
// licenses, or of one. A timer each is set for when a license begins and ends to be valid.
func (k *keeper) licenses(ctx context.Context, license string) error {
	for {
		changed, err := k.store.ChangedLicenses(ctx, license, page)
		if err != nil {
			return err
		}
		for _, c := range changed {
			if err := k.timers(ctx, c); err != nil {
				return err
			}
			// The same content may come back within minutes, and is another change then.
			task := events.ProjectTask{Do: events.TaskLicense, License: c.ID}
			if err := k.bus.AskTask(ctx, task, natsbus.NewID()); err != nil {
				return err
			}
			if err := k.store.KnowLicense(ctx, c); err != nil {
				return err
			}
		}
		if len(changed) < page {
			return nil
		}
	}
}

// timers sets those of a license; what is past needs none.
func (k *keeper) timers(ctx context.Context, c store.LicenseChange) error {
	for timer, at := range map[events.Timer]*time.Time{events.TimerActivates: c.Activates, events.TimerExpires: c.Expires} {
		if at == nil || !at.After(time.Now()) {
			continue
		}
		if err := k.bus.ArmTask(ctx, timer, *at, events.ProjectTask{Do: events.TaskLicense, License: c.ID}); err != nil {
			return err
		}
	}
	return nil
}

// settings has all projects computed again where the site's settings have changed.
func (k *keeper) settings(ctx context.Context) error {
	digest, changed, err := k.store.ChangedSettings(ctx)
	if err != nil || !changed {
		return err
	}
	if err := k.bus.AskTask(ctx, events.ProjectTask{Do: events.TaskSettings}, natsbus.NewID()); err != nil {
		return err
	}
	return k.store.KnowSettings(ctx, digest)
}

// outdated has those of the projects computed again that have a pod, and whose inputs are others than those it was
// computed from.
func (k *keeper) outdated(ctx context.Context, projects []string) error {
	live := slices.DeleteFunc(projects, func(project string) bool {
		entry, ok := k.table.Pod(events.ProjectPod(project))
		return !ok || !amendable(entry.Record)
	})
	for part := range slices.Chunk(live, page) {
		found, err := k.store.Outdated(ctx, part)
		if err != nil {
			return err
		}
		if err := k.recompute(ctx, found); err != nil {
			return err
		}
	}
	return nil
}

// amendable says that a pod can be followed by another one because of a change: it lives, and its licenses
// have been looked at.
func amendable(r events.Record) bool {
	return !r.Event.Over() && r.Event != events.Ended && r.Event != events.Claimed && r.Event != ""
}

// recompute has projects computed again, the first at once and the others at the site's pace.
func (k *keeper) recompute(ctx context.Context, projects []store.Outdated) error {
	now := time.Now()
	for _, p := range projects {
		if before := k.due[p.Project]; before.inputs == p.Inputs && now.Sub(before.at) < pending {
			continue // It is under way.
		}
		at := k.pace.Next(now)
		if err := askRecompute(ctx, k.bus, p.Project, now, at); err != nil {
			return err
		}
		k.due[p.Project] = due{at, p.Inputs}
	}
	return nil
}

// askRecompute has a project computed again: at once, or by a timer. A timer that is set for the same already
// is replaced.
func askRecompute(ctx context.Context, bus *natsbus.Bus, project string, now, at time.Time) error {
	task := events.ProjectTask{Do: events.TaskRecompute, Project: project}
	if at.After(now) {
		return bus.ArmTask(ctx, events.TimerRecompute, at, task)
	}
	return bus.AskTask(ctx, task, natsbus.NewID())
}

// requests does what hubs have written into the rows of projects: of all, or of one.
func (k *keeper) requests(ctx context.Context, project string) error {
	var failed error
	for after := ""; ; {
		requests, err := k.store.ActionRequests(ctx, project, after, page)
		if err != nil {
			return err
		}
		for _, r := range requests {
			after = r.Project
			failed = first(failed, k.request(ctx, r))
		}
		if len(requests) < page {
			return failed
		}
	}
}

// request makes commands of what a hub asks for, and then clears it. The command has the same id
// as long as it is not cleared, so that it is carried out once.
func (k *keeper) request(ctx context.Context, r store.ActionRequest) error {
	action, done, err := upkeep.ParseRequest(r.Request)
	if done {
		return nil
	}
	entry, lookErr := k.table.Fresh(ctx, events.ProjectPod(r.Project))
	if lookErr != nil {
		return lookErr
	}
	if err != nil {
		k.log.Warn().Err(err).Str("project_id", r.Project).Msg("Cannot do what a hub asks for")
		if err := k.store.SetState(ctx, r.Project, string(upkeep.StateOf(entry.Record)), err.Error()); err != nil {
			return err
		}
		return k.store.ClearRequest(ctx, r)
	}
	command, err := k.store.Command(ctx, r, natsbus.NewID())
	if err != nil {
		return err
	}
	if action == upkeep.Stop {
		err = k.stop(ctx, r.Project, entry)
	} else {
		err = k.start(ctx, r.Project, entry, command, action == upkeep.Restart)
	}
	if err != nil {
		return err
	}
	k.log.Info().Str("project_id", r.Project).Str("action", string(action)).Str("command_id", command).Msg("Doing what a hub asks for")
	return k.store.ClearRequest(ctx, r)
}

// start starts a project, or, where its pod is on its way out, has another one follow. One that runs is only
// started again where that is asked for.
func (k *keeper) start(ctx context.Context, project string, entry natsbus.Entry, command string, again bool) error {
	switch {
	case entry.Command == command: // It has been done before.
		return nil
	case entry.Event == "", entry.Event == events.Gone && entry.Restart == nil, lost(entry):
		k.asked[project] = command
		return k.bus.AskStart(ctx, command, events.ProjectRequest{ID: project, Cause: events.CauseHub})
	case entry.Event == events.Gone: // Another pod follows.
		return nil
	case !again && !entry.Event.Over() && entry.Event != events.Ended:
		return nil
	}
	return k.bus.AskRestart(ctx, entry, events.Restart{Command: command, Cause: events.CauseHub, Message: "the hub asked for it"})
}

// stop stops a project, also one that waits for being started again.
func (k *keeper) stop(ctx context.Context, project string, entry natsbus.Entry) error {
	if entry.Event == events.Gone && entry.Restart != nil && !lost(entry) {
		return errLater
	}
	if err := k.store.Unwanted(ctx, project); err != nil || entry.Event == "" || entry.Event == events.Gone {
		return err
	}
	return k.bus.AskDelete(ctx, entry, events.DeleteRequest{Stop: true})
}

// lost says that the pod which was to follow has not come, and will not.
func lost(gone natsbus.Entry) bool {
	return gone.Event == events.Gone && gone.Restart != nil && time.Since(gone.Time) > seatKeeping
}
