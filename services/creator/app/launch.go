package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/creator/internal/cluster"
	"berth/services/creator/internal/render"
)

// occupiedDelay is the pause before a name that somebody else's object has in
// Kubernetes is tried again.
const occupiedDelay = time.Second

// launchAttempts is more than fit into the time for a create: its timer says
// when a launch has been tried for long enough.
const launchAttempts = 1000

// pods makes pods in the cluster; see package cluster.
type pods interface {
	Launch(ctx context.Context, pod *corev1.Pod) (uid string, err error)
}

// launch makes the pod in Kubernetes, between two appends: `launching` fences it
// against a delete before, `launched` reports it after.
func (c *creator) launch(ctx context.Context, d natsbus.Delivery) error {
	var pod corev1.Pod
	if err := json.Unmarshal(d.Rendered, &pod); err != nil {
		return natsbus.Permanent(events.RequestInvalid, fmt.Errorf("read rendered pod: %w", err))
	}
	entry, _, err := c.bus.AppendAfter(ctx, d.Newest(), d.Pod, events.Fact{
		Kind: events.FactLaunch, Generation: d.Generation, At: time.Now().UTC(),
	})
	switch {
	case errors.Is(err, events.ErrGeneration):
		return nil
	case errors.Is(err, events.ErrOver):
		return c.lost(ctx, entry)
	case err != nil:
		return err
	case !entry.LaunchedAt.IsZero():
		return nil
	}
	render.Stamp(&pod, d.ID, d.Generation)
	uid, err := c.pods.Launch(ctx, &pod)
	if err != nil {
		return c.notMade(ctx, d, entry, err)
	}
	entry, _, err = c.bus.AppendAfter(ctx, entry, d.Pod, events.Fact{
		Kind: events.FactLaunched, Generation: d.Generation, At: time.Now().UTC(), UID: uid,
	})
	switch {
	case errors.Is(err, events.ErrGeneration):
		return nil
	case errors.Is(err, events.ErrOver):
		return c.lost(ctx, entry)
	}
	return err
}

// lost is told that a delete came first. What this launch, or an earlier attempt
// of it, has made is deleted, and the deleter learns that nothing more will come.
func (c *creator) lost(ctx context.Context, entry natsbus.Entry) error {
	if entry.Event == events.Gone || entry.LaunchingAt.IsZero() {
		return nil
	}
	return c.bus.AskDelete(ctx, entry, events.DeleteRequest{LaunchOver: true})
}

// notMade decides what the API server's answer means for the launch.
func (c *creator) notMade(ctx context.Context, d natsbus.Delivery, entry natsbus.Entry, err error) error {
	if rejected := (*cluster.RejectedError)(nil); errors.As(err, &rejected) {
		return natsbus.Permanent(events.Reason(rejected.Reason), rejected)
	}
	if !errors.Is(err, cluster.ErrOccupied) {
		return err
	}
	if _, _, err := c.bus.AppendAfter(ctx, entry, d.Pod, events.Fact{
		Kind: events.FactWait, Generation: d.Generation, At: time.Now().UTC(), Reason: events.NameOccupied, Message: err.Error(),
	}); err != nil && !errors.Is(err, events.ErrOver) && !errors.Is(err, events.ErrGeneration) {
		return err
	}
	return natsbus.Again(occupiedDelay, err)
}

// failLaunch makes it known that a pod could not be launched.
func (c *creator) failLaunch(ctx context.Context, d natsbus.Delivery, reason events.Reason, message string) error {
	return c.bus.Fail(ctx, d.Pod, d.Generation, reason, message, events.DeleteRequest{LaunchOver: true})
}
