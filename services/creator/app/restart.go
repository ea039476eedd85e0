package app

import (
	"context"
	"errors"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/creator/internal/template"
)

// restart writes into the record of a project's pod that another one follows, and has
// it deleted; at its end the deleter asks for the next one. Where the pod is gone
// already, and nobody else has it followed, that is done here.
func (c *creator) restart(ctx context.Context, d natsbus.Delivery) error {
	if _, err := c.bus.Complete(ctx); err != nil {
		return natsbus.Again(busyDelay(d.Attempt), err) // Missing means unknown.
	}
	project, _ := events.ProjectOf(d.User)
	if off, err := c.calledOff(ctx, project, d.Restart.LastStop); err != nil {
		return err
	} else if off > 0 {
		// In the record somebody might take it for what follows a start of now.
		return c.failRestart(ctx, d, events.Deleted, stoppedBefore)
	}
	// A create has one pod. Where that has come, and another one since, this was done, and nothing would follow.
	if had, err := c.bus.Claimed(ctx, d.Pod, d.Restart.Command); err != nil || had {
		return err
	}
	// The pod that is there lives on where no other one could follow.
	if _, err := c.templates.Text(); err != nil {
		return c.keep(ctx, d, err)
	}
	entry, _, err := c.bus.AppendAfter(ctx, d.Newest(), d.Pod, events.Fact{
		Kind: events.FactDelete, Generation: d.Generation, At: time.Now().UTC(), Message: d.Restart.Message, Restart: d.Restart,
	})
	switch {
	case err == nil:
		return c.bus.AskDelete(ctx, entry, events.DeleteRequest{})
	case errors.Is(err, events.ErrGeneration):
		return nil // Another pod has followed.
	case errors.Is(err, events.ErrOver) && entry.Restart != nil && !d.Restart.After(entry.Restart):
		return c.bus.AskFollowUp(ctx, entry.Record)
	case d.Restart.Cause == events.CauseLicenses:
		return nil // What was to be replaced is gone, or forgotten; nobody has asked for another.
	case errors.Is(err, events.ErrOver), errors.Is(err, events.ErrOrder): // Gone, or forgotten since.
		return c.bus.AskStart(ctx, d.Restart.Command, events.ProjectRequest{ID: project, Cause: d.Restart.Cause, LastStop: d.Restart.LastStop})
	}
	return err
}

// keep leaves the pod of a restart alone for which there is no template. One whose wish is in the log goes on.
func (c *creator) keep(ctx context.Context, d natsbus.Delivery, why error) error {
	if errors.Is(why, template.ErrUnknown) {
		return natsbus.Again(busyDelay(d.Attempt), why)
	}
	if d.Restart.Cause == events.CauseLicenses {
		// Nobody waits for its outcome, which would stand in the way of the same restart when there is a template again: the keeper
		// asks for that.
		_, err := c.goesOn(ctx, d)
		return err
	}
	return c.failRestart(ctx, d, reasonOf(why), why.Error())
}

// failRestart makes it known that a restart could not be done. One whose wish is in the
// log goes on.
func (c *creator) failRestart(ctx context.Context, d natsbus.Delivery, reason events.Reason, message string) error {
	if wished, err := c.goesOn(ctx, d); wished || err != nil {
		return err
	}
	_, err := c.bus.Correct(ctx, events.Outcome{}, events.Outcome{
		Verdict: events.Refused, Command: d.Restart.Command, User: d.User, Reason: reason, Message: message,
	})
	if errors.Is(err, events.ErrDecided) {
		return nil
	}
	return err
}

// goesOn has the pod of a restart deleted whose wish is in the log, and says whether it is.
func (c *creator) goesOn(ctx context.Context, d natsbus.Delivery) (wished bool, err error) {
	entry, err := c.bus.Last(ctx, d.Pod)
	if err != nil || entry.Generation != d.Generation || entry.Event != events.Deleting || entry.Restart == nil {
		return false, err
	}
	return true, c.bus.AskDelete(ctx, entry, events.DeleteRequest{})
}
