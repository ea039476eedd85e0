package app

import (
	"context"
	"fmt"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/deleter/internal/reap"
)

// userAttempts is how often the removal of a user is looked after: for about ten
// minutes, since a pod may take its time to end.
const userAttempts = 128

// remover carries out the removal of everything of a user.
type remover struct {
	bus   *natsbus.Bus
	sweep func(context.Context, scope) (result, error)
}

// handle asks for the delete of every pod that the user had when the command was
// queued, and comes back until they are gone, and then until nothing is left in the
// cluster that belongs to none of the user's pods. A pod that is created meanwhile is
// none of its business.
func (r *remover) handle(ctx context.Context, c natsbus.Delivery) error {
	if _, err := r.bus.Complete(ctx); err != nil {
		return err
	}
	entries, err := r.bus.UserPods(ctx, c.User)
	if err != nil {
		return err
	}
	names, records := make(map[string]bool, len(entries)), make([]events.Record, 0, len(entries))
	at := make(map[string]natsbus.Entry, len(entries))
	for _, e := range entries {
		names[e.Pod], at[e.Pod] = true, e
		records = append(records, e.Record)
	}
	doomed := reap.Doomed(records, c.Queued)
	for _, record := range doomed {
		// One that is being deleted is only given another push at first.
		if record.Event == events.Deleting && c.Attempt > 1 {
			continue
		}
		if err := r.bus.AskDelete(ctx, at[record.Pod], events.DeleteRequest{Stop: true}); err != nil {
			return err
		}
	}
	if len(doomed) > 0 {
		return natsbus.Again(lookAgain(c.Attempt), fmt.Errorf("%d pods of the user are not gone yet", len(doomed)))
	}
	done, err := r.sweep(ctx, scope{user: c.User, names: names})
	if err != nil {
		return err
	}
	if done.pending > 0 {
		return natsbus.Again(lookAgain(c.Attempt), fmt.Errorf("%d objects of the user are not gone yet", done.pending))
	}
	return decide(ctx, r.bus, events.Outcome{Verdict: events.Done, Command: c.ID, User: c.User})
}

// fail makes it known that not everything could be removed; what could not is left
// to the next sweep.
func (r *remover) fail(ctx context.Context, c natsbus.Delivery, reason events.Reason, message string) error {
	return decide(ctx, r.bus, events.Outcome{Verdict: events.Refused, Command: c.ID, User: c.User, Reason: reason, Message: message})
}
