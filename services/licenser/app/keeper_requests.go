package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/store"
	"berth/services/licenser/internal/upkeep"
)

// requests does what hubs have written into the rows of projects: of some, or of all where some is nil. A request that cannot be done holds
// up no other one, and is tried again at growing intervals; an error is one that all would have.
func (k *keeper) requests(ctx context.Context, some []string) error {
	if !k.drives() {
		return nil
	}
	for after := ""; ; {
		requests, err := k.store.ActionRequests(ctx, some, after, page)
		if err != nil {
			return err
		}
		for _, project := range some {
			if !slices.ContainsFunc(requests, func(r store.ActionRequest) bool { return r.Project == project }) {
				delete(k.hindered, project) // The hub has thought better of it.
			}
		}
		for _, r := range requests {
			k.progress.beat()
			after = r.Project
			if !k.hindered.due(r.Project, time.Now()) {
				continue
			}
			err := k.request(ctx, r)
			switch {
			case err == nil:
				delete(k.hindered, r.Project)
			case away(err), ctx.Err() != nil:
				return err
			default:
				k.log.Warn().Err(err).Str("project_id", r.Project).Msg("What a hub asks for has to be tried again")
				k.hindered.failed(r.Project, time.Now())
				// What the pods did meanwhile does not have to wait for all that cannot be done.
				if err := k.news(ctx); err != nil {
					return err
				}
			}
		}
		if len(requests) < page {
			return nil
		}
	}
}

// request makes commands of what a hub asks for, and then clears it. The command has the same id
// as long as it is not cleared, so that it is carried out once.
func (k *keeper) request(ctx context.Context, r store.ActionRequest) error {
	action, done, wrong := upkeep.ParseRequest(r.Request)
	if done {
		return nil
	}
	// A stop clears the request before it is noted, and [store.Store.Command] sees that: none falls in between.
	stop, err := k.bus.LastStop(ctx, r.Project)
	if err != nil {
		return err
	}
	entry, err := k.fresh(ctx, r.Project)
	if err != nil {
		return err
	}
	if wrong != nil {
		return k.refuse(ctx, r, entry, wrong)
	}
	command, over, err := k.store.Command(ctx, r, natsbus.NewID())
	switch {
	case err != nil:
		return err
	case command == "":
		return nil // Another one has taken its place, or a stop has cleared it.
	case over: // Done again, it would end what was started since.
		return k.store.ClearRequest(ctx, r, command)
	case action == upkeep.Stop:
		if err = k.stop(ctx, r.Project); err == nil {
			err = k.store.Done(ctx, r, command)
		}
	default:
		if action == upkeep.Restart && entry.Command != command && amendable(entry.Record) {
			// The creator would refuse it, of which the hub would never hear: the pod lives on.
			if fault := k.templateFault(ctx); fault != nil {
				return k.refuse(ctx, r, entry, fault)
			}
		}
		err = k.start(ctx, r.Project, entry, events.Restart{
			Command: command, Cause: events.CauseHub, Message: "the hub asked for it", LastStop: &stop,
		}, action == upkeep.Restart)
	}
	switch {
	case errors.Is(err, events.ErrMalformed), errors.Is(err, events.ErrTooLarge):
		return k.refuse(ctx, r, entry, err)
	case err != nil:
		return err
	}
	k.log.Info().Str("project_id", r.Project).Str("action", string(action)).Str("command_id", command).Msg("Doing what a hub asks for")
	return k.store.ClearRequest(ctx, r, command)
}

// templateTime is how long the keeper waits for a creator that is slow; where there is none it does not wait.
const templateTime = 5 * time.Second

// templateFault says why no project can be started; nil where one can, or no creator says.
func (k *keeper) templateFault(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, templateTime)
	defer cancel()
	var t wire.Template
	err := k.bus.Ask(ctx, events.RenderSubject(k.bus.Cluster()), wire.MethodTemplate, wire.ProjectRef{}, &t)
	if fault := (*natsbus.Fault)(nil); errors.As(err, &fault) && fault.Reason == events.TemplateInvalid {
		return fmt.Errorf("%s: %w", fault.Reason, fault)
	}
	return nil
}

// refuse tells a hub that what it asks for can never be done, and clears it.
func (k *keeper) refuse(ctx context.Context, r store.ActionRequest, entry natsbus.Entry, wrong error) error {
	k.log.Warn().Err(wrong).Str("project_id", r.Project).Msg("Cannot do what a hub asks for")
	if err := k.store.SetState(ctx, r.Project, string(upkeep.StateOf(entry.Record)), wrong.Error()); err != nil {
		return err
	}
	return k.store.ClearRequest(ctx, r, "")
}

// fresh reads the newest record of a project's pod from the log, and brings the keeper's table up to date with it.
func (k *keeper) fresh(ctx context.Context, project string) (natsbus.Entry, error) {
	entry, err := k.table.Fresh(ctx, events.ProjectPod(project))
	return newest(project, entry), err
}

// start starts a project, or, where its pod is on its way out, has another one follow. One that runs is only
// started again where that is asked for.
func (k *keeper) start(ctx context.Context, project string, entry natsbus.Entry, wish events.Restart, again bool) error {
	another, err := follows(ctx, k.bus, entry)
	// What was there at a stop, and what was to follow it, goes, whether that stop has been carried out or not.
	doomed := wish.LastStop != nil && entry.Doomed(*wish.LastStop)
	another = another && (!doomed || entry.Restart.Knows(*wish.LastStop))
	switch {
	case err != nil:
		return err
	case entry.Command == wish.Command: // It has been done before.
		return nil
	case entry.Event == "", entry.Event == events.Gone && !another:
		// The hub is told where nothing comes of it, also by another keeper.
		if err := k.store.Ask(ctx, project, wish.Command); err != nil {
			return err
		}
		k.asked[project] = wish.Command
		return k.bus.AskStart(ctx, wish.Command, events.ProjectRequest{ID: project, Cause: wish.Cause, LastStop: wish.LastStop})
	case another:
		return nil
	case !again && !doomed && !entry.Event.Over() && entry.Event != events.Ended:
		return nil
	}
	return k.bus.AskRestart(ctx, entry, wish)
}

// stop stops a project, also one that is about to be started.
func (k *keeper) stop(ctx context.Context, project string) error {
	if err := k.forget(ctx, project); err != nil {
		return err
	}
	if err := k.store.Unwanted(ctx, project); err != nil {
		return err
	}
	entry, err := endPod(ctx, k.bus, project, k.fresh)
	if err == nil && (entry.Event == "" || entry.Event == events.Gone) {
		err = k.store.SetState(ctx, project, string(upkeep.Opened), "")
	}
	return err
}

// forget ends the wait for the start of a project.
func (k *keeper) forget(ctx context.Context, project string) error {
	if _, asked := k.asked[project]; !asked {
		return nil
	}
	if err := k.store.Ask(ctx, project, ""); err != nil {
		return err
	}
	delete(k.asked, project)
	return nil
}
