package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/licenser/internal/licensing"
	"berth/services/licenser/internal/store"
	"berth/services/licenser/internal/upkeep"
)

const (
	// taskPart is how many projects one delivery of a task goes over: it must come to its end at a slow site, too.
	taskPart = 50
	// soon is the time before a task looks again at a project that is about to change.
	soon = time.Second
	// looks is how often a project is looked at that has been claimed and is about to be licensed; one that takes
	// longer is found when it is ready.
	looks = 30
)

// task does what has to be done about a project or a license when no pod is being made. All of it can be
// repeated, and a timer that fires for nothing finds nothing to do.
func (l *licenser) task(ctx context.Context, d natsbus.Delivery) error {
	if l.store == nil {
		return nil // The site had a database once.
	}
	err := l.carryOut(ctx, d)
	if errors.Is(err, store.ErrNoProject) || errors.Is(err, events.ErrOver) || errors.Is(err, events.ErrGeneration) || errors.Is(err, events.ErrOrder) {
		return nil // There is nothing to do it to any more.
	}
	return err
}

func (l *licenser) carryOut(ctx context.Context, d natsbus.Delivery) error {
	switch d.Task.Do {
	case events.TaskLicense, events.TaskSettings:
		return l.spread(ctx, *d.Task)
	case events.TaskRecompute:
		return l.recompute(ctx, d)
	case events.TaskStart:
		return l.revive(ctx, *d.Task)
	case events.TaskIdle:
		return l.idle(ctx, *d.Task)
	default:
		return fmt.Errorf("task %q: %w", d.Task.Do, events.ErrMalformed)
	}
}

// spread has all projects computed again that a license, or the site's settings, may touch: the first at once, the
// others by timers at the site's pace. Each delivery goes over a part of them, and a timer goes on with the rest when the
// timers of this part have fired. Delivered again, it replaces the timers that it has set.
func (l *licenser) spread(ctx context.Context, task events.ProjectTask) error {
	projects, err := l.store.ProjectsWith(ctx, l.bus.Cluster(), task.License, task.After, taskPart)
	if err != nil {
		return err
	}
	last, err := askRecompute(ctx, l.bus, l.store, projects, l.config.Projects.RestartsPerSecond, func(string, time.Time) {})
	if err != nil || len(projects) < taskPart {
		return err
	}
	task.After = projects[len(projects)-1]
	return l.bus.ArmTask(ctx, events.TimerRecompute, last, task)
}

// recompute computes a project that has a pod again, and has that replaced by another one if its quota differs. The
// quota is not stored before the other pod is made: until then each repetition comes to the same, and asks for the same
// restart.
func (l *licenser) recompute(ctx context.Context, d natsbus.Delivery) error {
	project := d.Task.Project
	stop, err := l.bus.LastStop(ctx, project)
	if err != nil {
		return err
	}
	req := computeRequest{
		Mode: store.Recompute, Pod: events.ProjectPod(project), User: events.ProjectUser(project),
		Project: &events.ProjectRequest{ID: project}, NotBefore: d.Task.At,
	}
	// The creator may take a while to answer; what is decided on is read after it.
	templateErr := l.askTemplate(ctx, &req)
	entry, err := lastOf(ctx, l.bus, project)
	switch {
	case err != nil:
		return err
	case entry.Unlicensed() && d.Attempt < looks:
		return natsbus.Again(soon, errors.New("the project's licenses are being looked at"))
	case !amendable(entry.Record):
		return nil
	case entry.Doomed(stop):
		// Whoever noted the stop may have died before it asked for this.
		return l.bus.AskDelete(ctx, entry, events.DeleteRequest{Stop: true, StopAt: stop})
	}
	req.Generation = entry.Generation
	inputs, err := l.store.Inputs(ctx, project)
	if err != nil {
		return err
	}
	c, err := computed{}, templateErr
	if err == nil {
		c, err = l.computeAgain(ctx, req)
	}
	fault := (*licensing.Fault)(nil)
	switch {
	case errors.As(err, &fault):
		return l.keepPod(ctx, *d.Task, inputs, fault)
	case err != nil:
		return err
	case c.Changed:
		err = l.bus.AskRestart(ctx, entry, events.Restart{
			Command: replacement(entry.Generation, c.RunQuota), Cause: events.CauseLicenses,
			Message: "the project's licenses or settings have changed, and make another pod of it", LastStop: &stop,
		})
		return errors.Join(err, l.giveBack(ctx, entry))
	}
	if err := l.store.NoteFault(ctx, project, inputs, ""); err != nil {
		return err
	}
	_, _, err = l.bus.AppendAfter(ctx, entry, entry.Pod, events.Fact{
		Kind: events.FactRelicense, Generation: entry.Generation, At: time.Now().UTC(), Licenses: c.Licenses,
	})
	return errors.Join(err, l.giveBack(ctx, entry))
}

// giveBack takes back what a pod was granted that had gone before: whoever follows the log has been at its end by then.
// What another pod of its name may have been promised waits for that.
func (l *licenser) giveBack(ctx context.Context, granted natsbus.Entry) error {
	now, err := l.bus.Last(ctx, granted.Pod)
	switch {
	case err != nil:
		return err
	case now.Event == "", now.Generation == granted.Generation && now.Event != events.Gone:
		return nil
	case now.Generation == granted.Generation && now.Restart == nil:
		return l.store.FreeSeats(ctx, granted.Cluster, granted.Pod, granted.Generation, now.Time)
	}
	return l.store.KeepSeats(ctx, granted.Cluster, granted.Pod, granted.Generation, goneBy(now, granted.Generation), time.Now().Add(seatKeeping))
}

// replacement is the id of the create of a pod that has another quota than the one of a generation: the same
// for the same change, so that it is made once.
func replacement(generation string, quota json.RawMessage) string {
	return "licenses-" + sum(generation, string(quota))
}

// revival is the id of the create by which a project that is to run always comes back at a time.
func revival(project string, at time.Time) string {
	return "revival-" + sum(project, at.UTC().Format(time.RFC3339Nano))
}

func sum(parts ...string) string {
	digest := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(digest[:16])
}

// revive starts a project that is to run always, is wanted, and does not run.
func (l *licenser) revive(ctx context.Context, task events.ProjectTask) error {
	stop, err := l.bus.LastStop(ctx, task.Project)
	if err != nil {
		return err
	}
	u, err := l.store.Upkeep(ctx, task.Project)
	if err != nil {
		return err
	}
	now := u.Now
	if now.Before(task.At) {
		now = task.At // The broker's clock has decided.
	}
	if !u.AlwaysRunning || !u.Wanted || u.RetryAt.IsZero() || u.RetryAt.After(now) {
		return nil
	}
	entry, err := lastOf(ctx, l.bus, task.Project)
	switch {
	case err != nil:
		return err
	case entry.Doomed(stop):
		// It was stopped since its last pod began, and whoever saw that pod late has noted that it is wanted.
		return l.store.Unwanted(ctx, task.Project)
	case entry.Restart != nil && entry.Event != events.Gone:
		return nil // Another pod follows without this.
	case entry.Event == events.Ended, entry.Event.Over() && entry.Event != events.Gone:
		return natsbus.Again(soon, errors.New("the project's last pod is being removed"))
	case entry.Event != "" && entry.Event != events.Gone:
		return nil
	}
	if another, err := follows(ctx, l.bus, entry); another || err != nil {
		return err
	}
	return l.bus.AskStart(ctx, revival(task.Project, u.RetryAt), events.ProjectRequest{
		ID: task.Project, Cause: events.CauseAlwaysRunning, LastStop: &stop,
	})
}

// idle warns or stops a project that nobody has used for long enough, or looks again when that may be so.
func (l *licenser) idle(ctx context.Context, task events.ProjectTask) error {
	entry, err := lastOf(ctx, l.bus, task.Project)
	if err != nil || upkeep.StateOf(entry.Record) != upkeep.Running {
		return err
	}
	u, err := l.store.Upkeep(ctx, task.Project)
	if err != nil {
		return err
	}
	now := u.Now
	if now.Before(task.At) {
		now = task.At
	}
	next := upkeep.Idleness{}
	if !u.AlwaysRunning {
		next = upkeep.Idle(use(u, now, entry, l.config.Projects.IdleWarning))
	}
	if next.Stop {
		// A start that comes from now on, before the pod is on its way out, has its own.
		stop, err := l.bus.NoteStop(ctx, task.Project)
		if err != nil {
			return err
		}
		now, err := lastOf(ctx, l.bus, task.Project)
		if err != nil || now.Generation != entry.Generation || now.Event.Over() {
			return err
		}
		return l.bus.AskDelete(ctx, now, events.DeleteRequest{
			Stop: true, StopAt: stop, Reason: events.Idle, Message: fmt.Sprintf("nobody has used the project for %s", u.IdleTimeout),
		})
	}
	if !next.StopAt.Equal(entry.IdleStopAt) {
		if _, _, err := l.bus.AppendAfter(ctx, entry, entry.Pod, events.Fact{
			Kind: events.FactIdle, Generation: entry.Generation, At: time.Now().UTC(), IdleStopAt: next.StopAt,
		}); err != nil {
			return err
		}
	}
	if next.Look.IsZero() {
		return nil
	}
	return l.bus.ArmTask(ctx, events.TimerIdle, next.Look, task)
}
