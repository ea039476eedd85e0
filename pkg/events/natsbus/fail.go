package natsbus

import (
	"context"
	"errors"
	"strconv"
	"time"

	"berth/pkg/events"
)

// Fail ends a create with a reason: it appends failed and asks for what was made
// to be removed; request says what the deleter should know. A pod that is over
// already, was ready before, or has another generation is left alone.
func (b *Bus) Fail(ctx context.Context, pod, generation string, reason events.Reason, message string, request events.DeleteRequest) error {
	entry, _, err := b.Append(ctx, pod, events.Fact{
		Kind: events.FactFail, Generation: generation, At: time.Now().UTC(), Reason: reason, Message: message,
	})
	switch {
	case errors.Is(err, events.ErrOver) && entry.Event == events.Failed:
		// Somebody failed it, this service before a crash perhaps; see that the delete is asked for.
	case errors.Is(err, events.ErrOver), errors.Is(err, events.ErrOrder), errors.Is(err, events.ErrGeneration):
		return nil
	case err != nil:
		return err
	}
	return b.AskDelete(ctx, entry, request)
}

// AskDelete publishes the delete of a pod on behalf of Berth itself. The same
// request about the same record is swallowed within two minutes.
func (b *Bus) AskDelete(ctx context.Context, entry Entry, request events.DeleteRequest) error {
	cause := strconv.FormatUint(entry.Sequence, 10) + "-" + string(request.Timer) + request.Vanished + request.Found
	if request.LaunchOver {
		cause += "-over"
	}
	if request.Stop {
		cause += "-stop" + strconv.FormatUint(request.StopAt, 10)
	}
	command := DeleteOf(entry.Record, request)
	command.After = entry.Known()
	return b.Publish(ctx, command, cause)
}

// DeleteOf makes the command that deletes a pod on behalf of Berth itself. Its id
// is the pod's create command's, or, for an adopted pod, its generation.
func DeleteOf(record events.Record, request events.DeleteRequest) events.Command {
	return events.Command{
		Stage: events.StageDelete, ID: lifeID(record), Cluster: record.Cluster, User: record.User,
		Pod: record.Pod, Generation: record.Generation, Delete: &request,
	}
}

// lifeID names the timers and deletes of one life of a pod.
func lifeID(record events.Record) string {
	if record.Command != "" {
		return record.Command
	}
	return record.Generation
}

// ArmTimer sets one of a pod's two timers; when it fires, the delete stage is
// told which.
func (b *Bus) ArmTimer(ctx context.Context, record events.Record, timer events.Timer, at time.Time) error {
	return b.Arm(ctx, timer, lifeID(record), at, DeleteOf(record, events.DeleteRequest{Timer: timer}))
}

// DisarmTimers takes back both timers of a pod.
func (b *Bus) DisarmTimers(ctx context.Context, record events.Record) error {
	return b.Disarm(ctx, lifeID(record))
}
