package app

import (
	"context"
	"errors"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

// restart writes into the record of a project's pod that another one follows, and has
// it deleted; at its end the deleter asks for the next one. Where the pod is gone
// already, and nobody else has it followed, that is done here.
func (c *creator) restart(ctx context.Context, d natsbus.Delivery) error {
	if _, err := c.bus.Complete(ctx); err != nil {
		return natsbus.Again(busyDelay(d.Attempt), err) // Missing means unknown.
	}
	entry, _, err := c.bus.AppendAfter(ctx, d.Newest(), d.Pod, events.Fact{
		Kind: events.FactDelete, Generation: d.Generation, At: time.Now().UTC(), Message: d.Restart.Message, Restart: d.Restart,
	})
	switch {
	case err == nil:
		return c.bus.AskDelete(ctx, entry, events.DeleteRequest{})
	case errors.Is(err, events.ErrGeneration):
		return nil // Another pod has followed.
	case errors.Is(err, events.ErrOver) && entry.Restart != nil:
		return c.bus.AskFollowUp(ctx, entry.Record)
	case d.Restart.Cause == events.CauseLicenses:
		return nil // What was to be replaced is gone, or forgotten; nobody has asked for another.
	case errors.Is(err, events.ErrOver), errors.Is(err, events.ErrOrder): // Gone, or forgotten since.
		project, _ := events.ProjectOf(d.User)
		return c.bus.AskStart(ctx, d.Restart.Command, events.ProjectRequest{ID: project, Cause: d.Restart.Cause})
	}
	return err
}

// failRestart makes it known that a restart could not be done. One whose wish is in the
// log goes on.
func (c *creator) failRestart(ctx context.Context, d natsbus.Delivery, reason events.Reason, message string) error {
	entry, err := c.bus.Last(ctx, d.Pod)
	if err != nil {
		return err
	}
	if entry.Generation == d.Generation && entry.Event == events.Deleting && entry.Restart != nil {
		return c.bus.AskDelete(ctx, entry, events.DeleteRequest{})
	}
	_, err = c.bus.Correct(ctx, events.Outcome{}, events.Outcome{
		Verdict: events.Refused, Command: d.Restart.Command, User: d.User, Reason: reason, Message: message,
	})
	if errors.Is(err, events.ErrDecided) {
		return nil
	}
	return err
}
