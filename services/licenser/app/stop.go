package app

import (
	"context"

	"berth/pkg/events"
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
		if action, done, wrong := upkeep.ParseRequest(r.Request); done || wrong != nil || action == upkeep.Stop {
			continue // The keeper's.
		}
		if err := l.store.ClearRequest(ctx, r); err != nil {
			return nil, err
		}
	}
	return nil, l.store.Unwanted(ctx, ref.ID)
}
