package app

import (
	"context"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/upkeep"
)

// stopProject notes that a project is not to run: it is not started again by itself, and what its hub has asked for and
// nobody has come to yet is cleared. The starts that are on their way are called off by whoever asks for this, in the log,
// and then ([natsbus.Bus.NoteStop]): what began with the database as it was before this knows of no such stop.
func (l *licenser) stopProject(ctx context.Context, ref wire.ProjectRef) (any, error) {
	if !events.ProjectID(ref.ID) {
		return nil, refused("project_id %.60q is no UUID in lower case", ref.ID)
	}
	requests, err := l.store.ActionRequests(ctx, []string{ref.ID}, "", 1)
	if err != nil {
		return nil, err
	}
	for _, r := range requests {
		action, done, wrong := upkeep.ParseRequest(r.Request)
		if done || wrong != nil {
			continue // The keeper's.
		}
		if action == upkeep.Stop {
			// The keeper would come to it later, and end what is started until then. Whoever asks for this may die before it has done
			// the same, so that it is done here.
			last := func(ctx context.Context, project string) (natsbus.Entry, error) { return lastOf(ctx, l.bus, project) }
			if _, err := endPod(ctx, l.bus, ref.ID, last); err != nil {
				return nil, err
			}
		}
		if err := l.store.ClearRequest(ctx, r, ""); err != nil {
			return nil, err
		}
	}
	return nil, l.store.Unwanted(ctx, ref.ID)
}

// endPod notes in the log that a project is stopped, and only then reads its newest record and has the pod deleted that is there:
// a start that this does not see sees the stop. It returns the record.
func endPod(
	ctx context.Context, bus *natsbus.Bus, project string, read func(ctx context.Context, project string) (natsbus.Entry, error),
) (natsbus.Entry, error) {
	stop, err := bus.NoteStop(ctx, project)
	if err != nil {
		return natsbus.Entry{}, err
	}
	entry, err := read(ctx, project)
	if err != nil || entry.Event == "" || entry.Event == events.Gone {
		return entry, err
	}
	return entry, bus.AskDelete(ctx, entry, events.DeleteRequest{Stop: true, StopAt: stop, Message: "the hub asked for it"})
}
