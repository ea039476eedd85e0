package natsbus

import (
	"context"
	"time"

	"berth/pkg/events"
)

// AskRestart publishes the command that has a project's pod deleted and another one
// made. The same wish about the same life of the pod is swallowed within two minutes,
// and whichever comes first holds.
func (b *Bus) AskRestart(ctx context.Context, entry Entry, restart events.Restart) error {
	r := entry.Record
	return b.Publish(ctx, events.Command{
		Stage: events.StageRestart, ID: restart.Command, Cluster: r.Cluster, User: r.User, Pod: r.Pod, Generation: r.Generation,
		After: entry.Known(), Restart: &restart,
	}, r.Generation)
}

// AskFollowUp publishes the create that follows a restart whose pod is gone. It is
// repeated when the delete is redelivered.
func (b *Bus) AskFollowUp(ctx context.Context, gone events.Record) error {
	project, ok := events.ProjectOf(gone.User)
	if gone.Restart == nil || !ok {
		return nil
	}
	return b.AskStart(ctx, gone.Restart.Command, events.ProjectRequest{ID: project, Cause: gone.Restart.Cause, LastStop: gone.Restart.LastStop})
}

// AskStart publishes a create of a project's pod that no client waits for.
func (b *Bus) AskStart(ctx context.Context, command string, request events.ProjectRequest) error {
	return b.Publish(ctx, events.Command{
		Stage: events.StageCreate, ID: command, Cluster: b.cluster, User: events.ProjectUser(request.ID),
		Create: &events.CreateRequest{Project: &request, Deadline: time.Now().Add(followUpTime).UTC()},
	}, "create")
}

// followUpTime is how long a start that no client waits for may wait for a creator. An
// outcome is kept for longer, so that it is decided once.
const followUpTime = events.OutcomeTTL / 2

// AskTask publishes something to do about a project or a license. The same task with
// the same cause is swallowed within two minutes.
func (b *Bus) AskTask(ctx context.Context, task events.ProjectTask, cause string) error {
	return b.Publish(ctx, b.taskCommand(task), cause)
}

// ArmTask sets a durable timer for a task. One of the same kind for the same project
// or license is replaced. None is taken back: whoever carries a task out looks whether
// there is anything to do.
func (b *Bus) ArmTask(ctx context.Context, timer events.Timer, at time.Time, task events.ProjectTask) error {
	task.At = at.UTC()
	c := b.taskCommand(task)
	return b.Arm(ctx, timer, c.ID, at, c)
}

// taskCommand is the command of a task. Its id says what it is about, so that a timer is
// found again.
func (b *Bus) taskCommand(task events.ProjectTask) events.Command {
	id := "settings"
	switch {
	case task.Project != "":
		id = "project-" + task.Project
	case task.License != "":
		id = "license-" + task.License
	}
	return events.Command{Stage: events.StageProject, ID: id, Cluster: b.cluster, Task: &task}
}
