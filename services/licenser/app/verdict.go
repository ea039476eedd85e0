package app

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/licensing"
)

// verdict asks a creator what a start would say to a pod, and the API server unless it is readOnly. The refusal of
// a pod is an answer; an error is that nobody could be asked, and passes.
func (l *licenser) verdict(ctx context.Context, pod json.RawMessage, licenses []events.License, readOnly bool) (v wire.Verdict, err error) {
	err = l.askCreator(ctx, wire.MethodDryRun, wire.DryRunRequest{Pod: pod, Licenses: statuses(licenses), ReadOnly: readOnly}, &v)
	return v, err
}

// refusedAs is the refusal of a pod as a fault, nil where there is none.
func refusedAs(v wire.Verdict) *licensing.Fault {
	if v.Accepted {
		return nil
	}
	return &licensing.Fault{Reason: events.Reason(v.Reason), Message: v.Message}
}

// computeAgain computes a project that has a pod, in the mode recompute. What makes another pod of it is kept only if
// the API server would take that pod: else the project would end up with none. A refusal is a [*licensing.Fault].
func (l *licenser) computeAgain(ctx context.Context, req computeRequest) (computed, error) {
	c, err := l.compute(ctx, req)
	if err != nil || !c.Changed {
		return c, err
	}
	v, err := l.judged(ctx, req, c, false)
	if err != nil {
		return computed{}, err
	}
	// A full namespace counts the pod that runs, too.
	if fault := refusedAs(v); fault != nil && !v.MakesRoom {
		return computed{}, fault
	}
	req.Tried = c.Licensing.PodDigest
	c, err = l.compute(ctx, req)
	if err == nil && c.Changed && c.Licensing.PodDigest != req.Tried {
		return computed{}, natsbus.Again(soon, errors.New("the project's licenses are changing"))
	}
	return c, err
}

// retrial is after how long a pod that the API server has refused is tried again: a service account or the room for it may be
// there by then.
const retrial = 5 * time.Minute

// keepPod notes why a project cannot have the pod that its licenses make, so that it keeps the one that it has.
func (l *licenser) keepPod(ctx context.Context, task events.ProjectTask, inputs string, fault *licensing.Fault) error {
	level := zerolog.WarnLevel
	if fault.Reason == events.TemplateInvalid {
		// The template is none of the inputs: those of no digest are others at each look at everything, and the project is computed
		// again when the template is whole. The creator has said what is wrong with it.
		inputs, level = "", zerolog.DebugLevel
	}
	l.log.WithLevel(level).Str("project_id", task.Project).Str("reason", string(fault.Reason)).Str("cause", fault.Message).
		Msg("Licenses have changed and cannot be used; the project keeps the pod that it has")
	if err := l.store.NoteFault(ctx, task.Project, inputs, string(fault.Reason)+": "+fault.Message); err != nil {
		return err
	}
	if fault.Reason != events.PodRejected && fault.Reason != events.QuotaExceeded {
		return nil // It is in what the project is computed from, whose change is noticed.
	}
	return l.bus.ArmTask(ctx, events.TimerRecompute, time.Now().Add(retrial), events.ProjectTask{Do: events.TaskRecompute, Project: task.Project})
}

// unavailable says that nobody could be asked.
func unavailable(err error) bool {
	fault := (*natsbus.Fault)(nil)
	return errors.As(err, &fault) && fault.Reason == events.Unavailable
}
