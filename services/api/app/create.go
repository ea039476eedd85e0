package app

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/service"
	"berth/services/api/internal/audit"
	"berth/services/api/internal/silo"
)

// Create hands a create to the creator and waits for what becomes of it: the
// name of the pod, or the reason why there is none. When it answers "nothing
// will be made", that is so, whatever is paused where.
func (b *backend) Create(ctx context.Context, r silo.CreateRequest) (string, error) {
	if err := b.table.Ready(); err != nil {
		return "", unavailable(err)
	}
	command := b.command(ctx, r)
	audit.SetCommand(ctx, command.ID)
	name, err := b.launch(ctx, command, false, events.Outcome{})
	if err != nil {
		return "", err
	}
	return name, nil
}

// launch publishes a create and waits for what becomes of it: the name of the pod,
// or the reason why there is none. With an error it returns the name of the pod that
// failed, if there was one. The command may be shared: published before, here or on another
// replica, with an outcome that may be known.
func (b *backend) launch(ctx context.Context, command events.Command, shared bool, decided events.Outcome) (string, error) {
	outcomes := b.table.ExpectOutcome(command.ID)
	defer outcomes.Close()
	if decided.Verdict == "" {
		if err := b.bus.Publish(ctx, command, "create"); err != nil {
			if errors.Is(err, events.ErrTooLarge) {
				return "", silo.Fault(events.RequestInvalid, "the request is larger than "+strconv.Itoa(events.MaxCommand)+" bytes: shorten its variables")
			}
			return b.expire(ctx, command) // It may have been stored all the same.
		}
	}
	if shared {
		var err error
		if decided, err = b.earlier(ctx, command.ID); err != nil {
			return "", err
		}
	}
	waiting, cancel := b.waiting(ctx, time.Until(command.Create.Deadline))
	defer cancel()
	for {
		outcome, err := outcomes.Now()
		if outcome.Verdict == "" {
			outcome = decided
		}
		switch {
		case err != nil:
			return "", unavailable(err)
		case outcome.Verdict == events.Accepted:
			name, err := b.accepted(waiting, outcome)
			switch {
			case err != nil:
				return outcome.Pod, err
			case name != "":
				return name, nil
			case waiting.Err() != nil:
				return b.claimed(ctx, outcome)
			}
			continue // The name was lost to another; the next outcome says which it is.
		case outcome.Verdict != "":
			return "", silo.Fault(outcome.Reason, outcome.Message)
		}
		select {
		case <-outcomes.Changed():
		case <-waiting.Done():
			if ctx.Err() != nil {
				return "", context.Cause(ctx) // Nobody listens any more; the create goes on.
			}
			return b.expire(ctx, command)
		}
	}
}

// earlier returns the outcome that a command had before this replica listened, if
// it had one, and errPodGone where its pod has come and gone since. It brings the
// table up to date about that pod.
func (b *backend) earlier(ctx context.Context, command string) (events.Outcome, error) {
	outcome, err := b.bus.Outcome(ctx, command)
	if err != nil || outcome.Verdict != events.Accepted {
		return outcome, unavailable(err)
	}
	// In this order: a claim that comes in between must not look like one that is over.
	had, err := b.bus.Claimed(ctx, outcome.Pod, command)
	if err != nil {
		return outcome, unavailable(err)
	}
	e, err := b.table.Fresh(ctx, outcome.Pod)
	if err == nil && had && e.Command != command {
		err = errPodGone
	}
	return outcome, unavailable(err)
}

func (b *backend) command(ctx context.Context, r silo.CreateRequest) events.Command {
	return events.Command{
		Stage: events.StageCreate, ID: natsbus.NewID(), Cluster: b.bus.Cluster(), User: r.User,
		Traceparent: service.Traceparent(ctx),
		Create: &events.CreateRequest{
			ManifestURL: r.ManifestURL, Settings: r.Settings, Deadline: time.Now().Add(b.config.CreateDeadline).UTC(),
			Silo: r.Silo,
		},
	}
}

// accepted waits a little for a pod to be launched. It returns no name and no
// error when the claim was not seen.
func (b *backend) accepted(ctx context.Context, outcome events.Outcome) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.waits.launch, errTimeout)
	defer cancel()
	e, err := b.table.Await(ctx, outcome.Pod, func(e natsbus.Entry) bool {
		return e.Command == outcome.Command && (!e.LaunchedAt.IsZero() || e.Event.Over())
	})
	switch {
	case errors.Is(err, natsbus.ErrUnavailable):
		return "", unavailable(err)
	case err != nil && e.Command == outcome.Command:
		return outcome.Pod, nil
	case err != nil:
		return "", nil
	case e.Event.Over() && e.ReadyAt.IsZero():
		return "", silo.Fault(cmp.Or(e.Reason, events.Deleted), cmp.Or(e.Message, "the pod was deleted while it was being made"))
	}
	return outcome.Pod, nil
}

// expire ends a create that nobody has decided, so that nothing will be made of
// it, and obeys where somebody was faster.
func (b *backend) expire(ctx context.Context, command events.Command) (string, error) {
	ctx = context.WithoutCancel(ctx)
	outcome, err := b.bus.Decide(ctx, events.Outcome{
		Verdict: events.Expiry, Command: command.ID, User: command.User,
		Reason: events.Expired, Message: "no service took the request in time; nothing has been made",
	})
	switch {
	case err != nil && !errors.Is(err, events.ErrDecided):
		return "", errUnknown
	case outcome.Verdict == events.Accepted:
		return b.claimed(ctx, outcome)
	}
	return "", silo.Fault(outcome.Reason, outcome.Message)
}

// claimed returns the name of a create that was accepted, if it has been claimed
// by now: a watch of a name that is not would be told "no".
func (b *backend) claimed(ctx context.Context, outcome events.Outcome) (string, error) {
	e, err := b.bus.Last(context.WithoutCancel(ctx), outcome.Pod)
	if err != nil || e.Command != outcome.Command {
		return "", errUnknown
	}
	return outcome.Pod, nil
}

// errUnknown is no 503: that promises that nothing will be made.
var errUnknown = &silo.Error{
	Status: http.StatusGatewayTimeout, Reason: events.Unavailable,
	Message: "it is not known whether a pod is being made: list your pods before you ask again",
}

// AwaitReady waits until a pod is ready, or never will be. For a name that is
// not the user's the answer is false at once.
func (b *backend) AwaitReady(ctx context.Context, user, pod string) (bool, error) {
	e, err := b.own(ctx, user, pod)
	if errors.Is(err, silo.ErrNoPod) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	generation := e.Generation
	// The create timer ends a create long before this; it is for the case that
	// every deleter is away.
	waiting, cancel := b.waiting(ctx, b.config.TimeoutCreateMax+time.Minute)
	defer cancel()
	e, err = b.table.Await(waiting, pod, func(e natsbus.Entry) bool {
		_, over := watched(e.Record, generation)
		return over
	})
	if err != nil {
		return false, waitFault(err)
	}
	ready, _ := watched(e.Record, generation)
	return ready, nil
}

// watched is what the watch of a pod's create comes to, by the newest record of its name: the pod was ready, or never will be;
// over is false as long as either may be.
func watched(newest events.Record, generation string) (ready, over bool) {
	if newest.Generation != generation {
		return false, true // Another pod has the name by now, ready or not.
	}
	ready = newest.Event == events.Ready || newest.Event == events.Unready
	return ready, ready || !newest.ReadyAt.IsZero() || newest.Event.Over() || newest.Event == events.Ended
}

// waitFault says why a wait ended without an answer.
func waitFault(err error) error {
	if errors.Is(err, errDraining) || errors.Is(err, errTimeout) {
		return silo.Fault(events.Unavailable, err.Error())
	}
	return unavailable(err)
}
