package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/service"
	"berth/services/api/internal/silo"
	"berth/services/api/internal/v1"
)

var (
	_ v1.Projects = resources{}
	_ v1.Asks     = resources{}
)

// starts is how often a start looks at the pod again that has changed under it.
const starts = 3

// errRestless is the answer where a pod changes faster than it can be looked at.
var errRestless = &v1.Fault{Reason: events.Conflict, Message: "the project was started or stopped by somebody else meanwhile; ask again"}

// errStopping is the answer to a start that wants something else than a pod that still stops.
var errStopping = &v1.Fault{
	Reason:  events.Conflict,
	Message: "the project is being stopped; start it with another image, tag, env or config when it has stopped, or without them now",
}

// Start implements [v1.Projects].
func (r resources) Start(ctx context.Context, s v1.StartProject) (v1.Started, error) {
	if err := r.b.table.Ready(); err != nil {
		return v1.Started{}, told(err)
	}
	// What this start leads to is called off by whoever stops the project from now on.
	stop, err := r.b.bus.LastStop(ctx, s.Request.ID)
	if err != nil {
		return v1.Started{}, told(unavailable(err))
	}
	s.Request.LastStop = &stop
	for range starts {
		// A command that was refused does nothing any more: each try has its own.
		command := r.startOf(ctx, s)
		var decided events.Outcome
		if s.Key != "" {
			var err error
			key := v1.Create{Caller: s.Caller, User: command.User, Key: s.Key, Body: s.Body}
			done := events.Reason("")
			if s.Again {
				done = events.AlreadyRunning // A start that came between the two pods has made the next one.
			}
			if command.ID, decided, err = r.attempt(ctx, key, command.ID, done); err != nil {
				return v1.Started{}, told(err)
			}
		}
		e, err := r.newest(ctx, s.Request.ID)
		if err != nil {
			return v1.Started{}, told(err)
		}
		started, again, err := r.startAfter(ctx, e, command, decided, s)
		if !again {
			started.Command = command.ID
			return started, told(err)
		}
	}
	return v1.Started{}, errRestless
}

// startOf is the create of a project.
func (r resources) startOf(ctx context.Context, s v1.StartProject) events.Command {
	return events.Command{
		Stage: events.StageCreate, ID: natsbus.NewID(), Cluster: r.b.bus.Cluster(), User: events.ProjectUser(s.Request.ID), Traceparent: service.Traceparent(ctx),
		Create: &events.CreateRequest{Project: &s.Request, Silo: s.Caller.Silo, Deadline: time.Now().Add(r.b.config.CreateDeadline).UTC()},
	}
}

// newest returns the newest record of a project's pod as the log's leader has it, the zero Entry for none.
func (r resources) newest(ctx context.Context, project string) (natsbus.Entry, error) {
	e, err := r.b.own(ctx, events.ProjectUser(project), events.ProjectPod(project))
	if errors.Is(err, silo.ErrNoPod) {
		return natsbus.Entry{}, nil
	}
	return e, err
}

// startAfter does what a start comes to after a record. again says that another record came in between.
func (r resources) startAfter(
	ctx context.Context, e natsbus.Entry, command events.Command, decided events.Outcome, s v1.StartProject,
) (started v1.Started, again bool, err error) {
	// Of a request that is repeated: its pod is there, or has come before this one.
	elsewhere := s.Again && decided.Reason == events.AlreadyRunning
	mine := e.Event != "" && (e.Command == command.ID || decided.Verdict == events.Accepted || elsewhere)
	switch e.Event {
	case "", events.Gone:
		if elsewhere {
			return v1.Started{Entry: r.entry(e)}, false, errPodGone
		}
		return r.launchProject(ctx, command, s.Key != "", decided)
	case events.Deleting, events.Failed, events.Ended:
		if mine && e.Restart == nil {
			return v1.Started{Entry: r.entry(e)}, false, errPodGone
		}
		if !s.Again && changes(s.Request) {
			return v1.Started{Entry: r.entry(e)}, false, errStopping
		}
	default:
		// A pod that was there at a stop is not what a start after it asks for, whether that stop has been carried out or not.
		doomed := e.Doomed(*s.Request.LastStop)
		if doomed && !mine && !s.Again && changes(s.Request) {
			// Whoever noted the stop may have died before it asked for this.
			if err := r.b.bus.AskDelete(ctx, e, events.DeleteRequest{Stop: true, StopAt: *s.Request.LastStop}); err != nil {
				return v1.Started{}, false, unavailable(err)
			}
			return v1.Started{Entry: r.entry(e)}, false, errStopping
		}
		if mine || !s.Again && !doomed {
			return v1.Started{Entry: r.entry(e)}, false, nil
		}
	}
	wish := events.Restart{Command: command.ID, Cause: events.CauseAsked, Message: "somebody asked for that", LastStop: s.Request.LastStop}
	if s.Caller.Silo.Name != "" {
		wish.Message = "the silo " + s.Caller.Silo.Name + " asked for that"
	}
	e, err = r.wish(ctx, e, wish)
	if errors.Is(err, errPassed) {
		return v1.Started{}, true, nil
	}
	if err == nil && s.Key != "" && s.Again && e.Restart != nil && e.Restart.Command != command.ID {
		err = r.joined(ctx, command)
	}
	return v1.Started{Entry: r.entry(e), Following: true}, false, err
}

// joined notes that what a restart asks for is done by another one, so that it is not done again when it is repeated.
func (r resources) joined(ctx context.Context, command events.Command) error {
	_, err := r.b.bus.Decide(ctx, events.Outcome{
		Verdict: events.Refused, Command: command.ID, User: command.User, Reason: events.AlreadyRunning, Message: "another restart was under way already",
	})
	if errors.Is(err, events.ErrDecided) {
		return nil
	}
	return unavailable(err)
}

// changes says whether a start asks for something else than the last one.
func changes(r events.ProjectRequest) bool {
	return len(r.Image)+len(r.Tag)+len(r.Env)+len(r.Config)+len(r.Reset) > 0
}

// errPassed says that the pod was gone, or another, before a wish for the next one was in the log.
var errPassed = errors.New("the pod has gone")

// launchProject has a project's pod made.
func (r resources) launchProject(ctx context.Context, command events.Command, shared bool, decided events.Outcome) (v1.Started, bool, error) {
	name, err := r.b.launch(ctx, command, shared, decided)
	pod := v1.Started{Entry: v1.Entry{Record: events.Record{Pod: name}}}
	var refusal *silo.Error
	if errors.As(err, &refusal) && refusal.Status == 0 && (refusal.Reason == events.AlreadyRunning || refusal.Reason == events.Conflict) {
		now, freshErr := r.b.table.Fresh(ctx, events.ProjectPod(command.Create.Project.ID))
		switch {
		case freshErr != nil:
			return pod, false, freshErr
		case now.Event == "", now.Event == events.Gone, now.User == command.User:
			return pod, true, nil // Somebody was faster, or has stopped it: what there is now says what to do.
		}
		return pod, false, err // Another one has the name: that does not change by asking again.
	}
	if err != nil {
		return pod, false, err
	}
	e, err := r.b.table.Fresh(ctx, name)
	switch {
	case err != nil:
		return pod, false, err
	case e.Command != command.ID, e.Event == events.Gone:
		return pod, false, errPodGone
	}
	return v1.Started{Entry: r.entry(e), Created: true}, false, nil
}

// wish has a pod deleted, if it is not being deleted already, and another one made after it. It returns when that
// is in the log, with the record that says so.
func (r resources) wish(ctx context.Context, e natsbus.Entry, restart events.Restart) (natsbus.Entry, error) {
	// A wish that was made before the last stop is taken back by it.
	holds := func(e natsbus.Entry) bool {
		return e.Restart != nil && (e.Restart.LastStop == nil || *e.Restart.LastStop >= *restart.LastStop)
	}
	wished := func(e natsbus.Entry) bool { return e.Event == events.Deleting && holds(e) }
	if wished(e) {
		return e, nil
	}
	waiting, cancel := r.b.waiting(ctx, r.b.waits.remove)
	defer cancel()
	waiting, done := r.unlessRefused(waiting, restart.Command)
	defer done()
	if err := r.b.bus.AskRestart(ctx, e, restart); err != nil {
		return e, err
	}
	generation := e.Generation
	now, err := r.b.table.Await(waiting, e.Pod, func(e natsbus.Entry) bool {
		return e.Generation != generation || wished(e) || e.Event == events.Gone
	})
	refusal := (*v1.Fault)(nil)
	switch {
	case errors.As(err, &refusal):
		return e, refusal
	case err != nil:
		return e, waitFault(err)
	case now.Generation == generation && !holds(now):
		return now, errPassed
	case now.Generation != generation && now.Command != restart.Command:
		return now, errPassed
	}
	return now, nil
}

// AwaitStart implements [v1.Projects].
func (r resources) AwaitStart(ctx context.Context, s v1.Started) (v1.Entry, error) {
	e := s.Entry
	if s.Following && e.Restart != nil {
		var err error
		if e, err = r.follower(ctx, e); err != nil {
			return v1.Entry{}, told(err)
		}
	}
	return r.AwaitReady(ctx, e)
}

// follower waits for the pod that follows one that is deleted for it.
func (r resources) follower(ctx context.Context, e v1.Entry) (v1.Entry, error) {
	b := r.b
	waiting, cancel := b.waiting(ctx, b.config.TimeoutDelete+time.Minute)
	defer cancel()
	waiting, done := r.unlessRefused(waiting, e.Restart.Command)
	defer done()
	found, err := b.table.Await(waiting, e.Pod, func(n natsbus.Entry) bool {
		return n.Generation != e.Generation || n.Restart == nil
	})
	switch {
	case errors.Is(err, errTimeout):
		return e, &v1.Fault{Reason: events.Timeout, Message: "the pod before is still being deleted; ask for the project again, or follow its events"}
	case err != nil:
		return e, err
	case found.Generation == e.Generation:
		return e, &v1.Fault{Reason: events.Deleted, Message: "the project was stopped while it was being restarted"}
	}
	return r.entry(found), nil
}

// unlessRefused returns a context that ends with the reason when the command of a follower is refused. The caller ends it with the function.
func (r resources) unlessRefused(ctx context.Context, command string) (waiting context.Context, end func()) {
	waiting, refused := context.WithCancelCause(ctx)
	outcomes := r.b.table.ExpectOutcome(command)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.watchRefusal(waiting, command, outcomes, refused)
	}()
	return waiting, func() { refused(nil); <-done; outcomes.Close() }
}

// watchRefusal ends a wait with the reason when the command of a follower is refused.
func (r resources) watchRefusal(ctx context.Context, command string, outcomes *natsbus.Outcomes, end context.CancelCauseFunc) {
	outcome, err := r.b.bus.Outcome(ctx, command) // It may have been decided before.
	for {
		if err == nil && outcome.Verdict != "" {
			if outcome.Verdict != events.Accepted {
				end(&v1.Fault{Reason: outcome.Reason, Message: outcome.Message})
			}
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-outcomes.Changed():
			outcome, err = outcomes.Now()
		}
	}
}

// Project implements [v1.Projects].
func (r resources) Project(ctx context.Context, id string) (newest, licensed v1.Entry, err error) {
	e, err := r.newest(ctx, id)
	if err != nil || e.Event == "" {
		return v1.Entry{}, v1.Entry{}, told(err)
	}
	how, err := r.b.bus.LastLicensed(ctx, e.User, e.Pod)
	if err != nil {
		return v1.Entry{}, v1.Entry{}, told(err)
	}
	return r.entry(e), r.entry(how), nil
}

// Ask implements [v1.Asks].
func (r resources) Ask(ctx context.Context, method string, params, result any) error {
	err := r.b.bus.Ask(ctx, events.LicenseSubject(r.b.bus.Cluster()), method, params, result)
	if fault, ok := errors.AsType[*natsbus.Fault](err); ok {
		return &v1.Fault{Reason: cmp.Or(fault.Reason, events.Unavailable), Message: fault.Message}
	}
	if err != nil {
		return fmt.Errorf("ask the licenser: %w", err)
	}
	return nil
}
