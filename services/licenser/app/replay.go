package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/pkg/license"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/licensing"
	"berth/services/licenser/internal/store"
)

const (
	// replayed is how many starts are run again for one answer, at the most.
	replayed = 50
	// replayTime is after how long an answer is given with what there is.
	replayTime = 10 * time.Second
	// replayPast is how far back one may ask.
	replayPast = 90 * 24 * time.Hour
)

// replay runs past starts of projects again, the newest of each, once as they would be made today and
// once with the change, and tells those that come to another end or to none. It computes from what the database has today: what a
// license was then is not kept. The pods of people are left out, since nobody keeps their variables.
func (l *licenser) replay(ctx context.Context, r wire.ReplayRequest) (wire.Replay, error) {
	after, err := l.checkReplay(ctx, r)
	if err != nil {
		return wire.Replay{}, err
	}
	starts, err := l.bus.Starts(ctx, r.Since)
	if err != nil {
		return wire.Replay{}, err
	}
	answer, size, begun := wire.Replay{Different: []wire.Replayed{}}, 0, time.Now()
	if r.Change != nil {
		answer.Concerned = new(0)
	}
	for _, start := range starts {
		project, ok := events.ProjectOf(start.User)
		if start.Sequence <= after || !ok || !events.ProjectID(project) {
			continue
		}
		if answer.Looked == replayed || size > maxAnswer || time.Since(begun) > replayTime {
			answer.Next = strconv.FormatUint(after, 10)
			break
		}
		result, concerned, err := l.again(ctx, r, start, project)
		if err != nil {
			return wire.Replay{}, err
		}
		after = start.Sequence
		answer.Looked++
		if concerned {
			*answer.Concerned++
		}
		if result != nil {
			answer.Different = append(answer.Different, *result)
			size += len(result.Diff)
		}
	}
	return answer, nil
}

func (l *licenser) checkReplay(ctx context.Context, r wire.ReplayRequest) (after uint64, err error) {
	now := time.Now()
	switch {
	case r.Since.Before(now.Add(-replayPast - time.Hour)): // Parts are asked for one after another, with the same since.
		return 0, refused("since is more than 90 days ago")
	case r.Since.After(now.Add(time.Hour)):
		return 0, refused("since has not been yet")
	case r.After != "":
		if after, err = strconv.ParseUint(r.After, 10, 64); err != nil {
			return 0, refused("after %.60q is not the next of an answer", r.After)
		}
	}
	return after, l.checkChange(ctx, r.Change, r.Template)
}

// again runs a start again; nil says that it would come to the same, or that its project is no more. concerned
// says that the project has the license which is changed.
func (l *licenser) again(ctx context.Context, r wire.ReplayRequest, start natsbus.Start, project string) (result *wire.Replayed, concerned bool, err error) {
	req := computeRequest{Mode: store.Preview, User: start.User, Pod: start.Pod, Project: &events.ProjectRequest{ID: project}}
	if err := l.useTemplate(ctx, &req, nil); err != nil && (len(r.Template) == 0 || !noTemplate(err)) {
		return nil, false, err
	}
	today, todayFault, err := l.trial(ctx, req)
	if err != nil || todayFault != nil && todayFault.Reason == events.ProjectUnknown {
		return nil, false, err
	}
	req.Change = r.Change
	if len(r.Template) > 0 {
		req.Base = r.Template
	}
	changed, fault, err := l.trial(ctx, req)
	if err != nil {
		return nil, false, err
	}
	concerned = changed.Concerned
	if fault == nil && todayFault == nil && bytes.Equal(today.Pod, changed.Pod) {
		return nil, concerned, nil
	}
	result = &wire.Replayed{Project: project, Pod: start.Pod, StartedAt: start.At.UTC()}
	if fault == nil && todayFault == nil {
		if result.Diff, err = discreetDiff(today.Pod, changed.Pod); err != nil {
			return nil, concerned, err
		}
	}
	// What the change makes is held against what would be made without it, in the same way.
	why := todayFault
	if todayFault == nil {
		v, err := l.verdict(ctx, today.Pod, today.Licenses, !r.DryRun)
		if err != nil {
			return nil, concerned, err
		}
		why = refusedAs(v)
	}
	if why != nil {
		result.Today = shown(why)
	}
	if fault == nil {
		v, err := l.verdict(ctx, changed.Pod, changed.Licenses, !r.DryRun)
		if err != nil {
			return nil, concerned, err
		}
		if fault = refusedAs(v); fault != nil || r.DryRun {
			result.Verdict = &v
		}
	} else {
		result.Fault = shown(fault)
	}
	if fault != nil && why != nil && *fault == *why {
		return nil, concerned, nil // It fails without the change, too.
	}
	return result, concerned, nil
}

// discreetDiff is what leads from one pod to another, as JSON, without values that may be secret.
func discreetDiff(before, after json.RawMessage) (json.RawMessage, error) {
	operations, err := license.Diff(before, after)
	if err != nil {
		return nil, fmt.Errorf("compare pods: %w", err)
	}
	steps := make([]license.Step, len(operations))
	for i, o := range operations {
		steps[i] = license.Step{Op: o.Op, Path: o.Path, Value: o.Value}
	}
	type operation struct {
		license.Operation

		Withheld bool `json:"withheld,omitempty"`
	}
	told := make([]operation, len(steps))
	for i, s := range (license.Explanation{Steps: steps}).Redacted(0).Steps {
		told[i] = operation{license.Operation{Op: s.Op, Path: s.Path, Value: s.Value}, s.Withheld}
	}
	return json.Marshal(told)
}

// trial is compute with its fault apart.
func (l *licenser) trial(ctx context.Context, req computeRequest) (computed, *licensing.Fault, error) {
	if len(req.Base) == 0 {
		return computed{}, &licensing.Fault{Reason: events.TemplateInvalid, Message: "the site has no template of project pods"}, nil
	}
	c, err := l.compute(ctx, req)
	if fault := (*licensing.Fault)(nil); errors.As(err, &fault) {
		return c, fault, nil
	}
	return c, nil, err
}
