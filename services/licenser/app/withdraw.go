package app

import (
	"context"
	"errors"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/licensing"
	"berth/services/licenser/internal/store"
)

const (
	// claimLooks is how often a stop looks for a pod that a creator is about to claim, claimPause the time between two.
	claimLooks = 8
	claimPause = 250 * time.Millisecond
)

// withdraw takes back each start of a project that has no pod now and is about to get one: what its hub has asked for,
// what follows a restart, and the next start of a project that is to run always. taken means that it is too late
// for one of them: its pod is about to be in the log, and has to be deleted. entry is the newest record of the project's pod.
func withdraw(ctx context.Context, bus *natsbus.Bus, project string, u store.Upkeep, entry natsbus.Entry) (taken bool, err error) {
	if entry.Event != "" && entry.Event != events.Gone {
		return false, nil
	}
	commands := []string{u.Asked}
	if entry.Restart != nil && !lost(entry) {
		commands = append(commands, entry.Restart.Command)
	}
	if !u.RetryAt.IsZero() {
		commands = append(commands, revival(project, u.RetryAt))
	}
	for _, command := range commands {
		if command == "" || command == entry.Command {
			continue
		}
		outcome, err := bus.Decide(ctx, events.Outcome{
			Verdict: events.Expiry, Command: command, User: events.ProjectUser(project), Reason: events.Deleted,
			Message: "the project was stopped before it was started",
		})
		if err != nil && !errors.Is(err, events.ErrDecided) {
			return false, err
		}
		if outcome.Verdict != events.Accepted {
			continue
		}
		// A pod that was claimed before the newest record is over.
		claimed, err := bus.Claimed(ctx, events.ProjectPod(project), command)
		if err != nil {
			return false, err
		}
		if claimed {
			now, err := lastOf(ctx, bus, project)
			if err != nil {
				return false, err
			}
			claimed = now.Generation == entry.Generation
		}
		taken = taken || !claimed
	}
	return taken, nil
}

// stopProject notes that a project is not to run, and takes back the starts that are on their way. A pod that comes of one
// all the same is deleted.
func (l *licenser) stopProject(ctx context.Context, ref wire.ProjectRef) (any, error) {
	if !events.ProjectID(ref.ID) {
		return nil, refused("project_id %.60q is no UUID in lower case", ref.ID)
	}
	for look := range claimLooks {
		entry, err := lastOf(ctx, l.bus, ref.ID)
		if err != nil {
			return nil, err
		}
		u, err := l.store.Upkeep(ctx, ref.ID)
		if err != nil && !errors.Is(err, store.ErrNoProject) {
			return nil, err
		}
		taken, err := withdraw(ctx, l.bus, ref.ID, u, entry)
		if err != nil {
			return nil, err
		}
		if taken {
			pause(ctx, claimPause)
			continue
		}
		if err := l.stopped(ctx, ref.ID, u); err != nil || look == 0 || entry.Event == "" || entry.Event == events.Gone {
			return nil, err // A pod that was there before is the asker's to delete.
		}
		return nil, l.bus.AskDelete(ctx, entry, events.DeleteRequest{Stop: true})
	}
	return nil, &licensing.Fault{Reason: events.Conflict, Message: "the project is just being started; stop it again in a moment"}
}

func (l *licenser) stopped(ctx context.Context, project string, u store.Upkeep) error {
	if u.Asked != "" {
		if err := l.store.Ask(ctx, project, ""); err != nil {
			return err
		}
	}
	return l.store.Unwanted(ctx, project)
}
