package app

import (
	"context"
	"errors"
	"net/http"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/service"
	"berth/services/api/internal/audit"
	"berth/services/api/internal/silo"
)

// DeleteUser has everything of a user removed, and waits until it is gone. False means that it takes
// longer than timeoutDelete; it goes on then.
func (b *backend) DeleteUser(ctx context.Context, user string) (bool, error) {
	_, done, err := b.carryOut(ctx, events.Command{Stage: events.StageDeleteUser, User: user})
	return done, err
}

// Sweep looks for what outlived its pod.
func (b *backend) Sweep(ctx context.Context, dryRun bool) (events.Report, error) {
	outcome, done, err := b.carryOut(ctx, events.Command{Stage: events.StageSweep, Sweep: &events.SweepRequest{DryRun: dryRun}})
	switch {
	case err != nil:
		return events.Report{}, err
	case !done:
		return events.Report{}, errSweep
	case outcome.Report == nil:
		return events.Report{DryRun: dryRun}, nil
	}
	return *outcome.Report, nil
}

// errSweep is no 503: the sweep was asked for.
var errSweep = &silo.Error{
	Status: http.StatusGatewayTimeout, Reason: events.Timeout,
	Message: "the sweep takes longer than timeoutDelete and goes on; ask again to see what is left",
}

// carryOut publishes a command that makes no pod and waits until it has been carried out. done is false
// where that takes longer than timeoutDelete, as the log's leader says.
func (b *backend) carryOut(ctx context.Context, c events.Command) (outcome events.Outcome, done bool, err error) {
	if err := b.table.Ready(); err != nil {
		return events.Outcome{}, false, unavailable(err)
	}
	c.ID, c.Cluster, c.Traceparent = natsbus.NewID(), b.bus.Cluster(), service.Traceparent(ctx)
	audit.SetCommand(ctx, c.ID)
	outcomes := b.table.ExpectOutcome(c.ID)
	defer outcomes.Close()
	if err := b.bus.Publish(ctx, c, "user"); err != nil {
		return events.Outcome{}, false, unavailable(err)
	}
	waiting, cancel := b.waiting(ctx, b.config.TimeoutDelete)
	defer cancel()
	for {
		outcome, err := outcomes.Now()
		if err != nil {
			return events.Outcome{}, false, unavailable(err)
		}
		if outcome.Verdict != "" {
			return decided(outcome)
		}
		select {
		case <-outcomes.Changed():
			continue
		case <-waiting.Done():
		}
		if err := context.Cause(waiting); !errors.Is(err, errTimeout) {
			return events.Outcome{}, false, waitFault(err)
		}
		// This replica may lag: the leader is asked before the "no".
		if outcome, err = b.bus.Outcome(ctx, c.ID); err != nil {
			return events.Outcome{}, false, unavailable(err)
		}
		return decided(outcome)
	}
}

// decided reads the outcome of a command that makes no pod.
func decided(outcome events.Outcome) (events.Outcome, bool, error) {
	switch outcome.Verdict {
	case "":
		return outcome, false, nil
	case events.Done:
		return outcome, true, nil
	default:
		return outcome, false, silo.Fault(outcome.Reason, outcome.Message)
	}
}
