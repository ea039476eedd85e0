package app

import (
	"context"
	"time"

	"berth/pkg/events"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/store"
)

const (
	// maxSuspects is how many licenses a pod is tried without, one at a time; where more have changed it, all are blamed.
	maxSuspects = 8
	// searchTime bounds all of these trials together.
	searchTime = 5 * time.Second
)

// judged is [licenser.verdict] on the pod that has been computed for a request. Where several licenses have changed a pod that is refused by what they
// write into it as they please, the refusal names those alone without whose patch, gpu and dedicated_vm it would be taken, and all where
// there is no such license, or it cannot be found out.
func (l *licenser) judged(ctx context.Context, req computeRequest, c computed, readOnly bool) (wire.Verdict, error) {
	v, err := l.verdict(ctx, c.Pod, c.Licenses, readOnly)
	if err != nil || v.Accepted || v.MakesRoom {
		return v, err
	}
	guilty := l.guilty(ctx, req, c, readOnly)
	if len(guilty) == 0 {
		return v, nil
	}
	told, err := l.verdict(ctx, c.Pod, guilty, readOnly)
	if err != nil || told.Accepted {
		return v, nil //nolint:nilerr // What is known is an answer.
	}
	return told, nil
}

// guilty are the licenses of a refused pod, of several that have changed it, without each of which it would be taken.
func (l *licenser) guilty(ctx context.Context, req computeRequest, c computed, readOnly bool) (found []events.License) {
	var suspects []events.License
	for _, license := range c.Licenses {
		if license.Patched || license.Machine {
			suspects = append(suspects, license)
		}
	}
	if len(suspects) < 2 || len(suspects) > maxSuspects {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	req.Mode, req.Base = store.Preview, c.Base
	for _, suspect := range suspects {
		req.Without = suspect.ID
		without, err := l.compute(ctx, req)
		if err != nil {
			continue // Another patch builds on it.
		}
		if v, err := l.verdict(ctx, without.Pod, without.Licenses, readOnly); err == nil && v.Accepted {
			found = append(found, suspect)
		}
	}
	return found
}
