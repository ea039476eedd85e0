package app

import (
	"context"
	"fmt"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

// spare is how old something must be before a sweep that nobody has asked for takes it
// for left over.
const spare = time.Minute

// sweepEvery publishes a sweep at each whole multiple of an interval, until ctx ends.
// All replicas do it at the same moment and under the same name, so that there is one
// sweep; an interval of zero means none.
func sweepEvery(ctx context.Context, bus *natsbus.Bus, interval time.Duration, failed func(error)) error {
	if interval <= 0 {
		<-ctx.Done()
		return nil
	}
	for {
		slot := time.Now().Truncate(interval).Add(interval)
		timer := time.NewTimer(time.Until(slot))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err := publishSweep(ctx, bus, slot); err != nil && ctx.Err() == nil {
			failed(err)
		}
	}
}

// publishSweep asks for the sweep of a time.
func publishSweep(ctx context.Context, bus *natsbus.Bus, slot time.Time) error {
	at := slot.UTC().Format("20060102T150405Z")
	err := bus.Publish(ctx, events.Command{
		Stage: events.StageSweep, ID: "sweep-" + at, Cluster: bus.Cluster(), Sweep: &events.SweepRequest{Spare: int(spare / time.Second)},
	}, at)
	if err != nil {
		return fmt.Errorf("publish sweep: %w", err)
	}
	return nil
}
