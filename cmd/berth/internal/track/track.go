// Package track waits for a pod to be ready or gone, by the stream in which the
// service tells what happens to it.
package track

import (
	"context"
	"iter"
	"slices"
	"strings"

	"berth/cmd/berth/internal/progress"
	"berth/pkg/client"
	"berth/pkg/events"
)

// API is the service; see [client.Client].
type API interface {
	Events(ctx context.Context, s client.Stream) iter.Seq2[client.Event, error]
	Timeline(ctx context.Context, user, name, generation string) (client.Timeline, error)
}

// Goal is what to wait for.
type Goal int

// The goals.
const (
	Ready Goal = iota
	Gone
)

// Tracker waits for one pod.
type Tracker struct {
	API API
	// Pod is the pod as it is known. Its generation is waited for: another pod that
	// gets its name means that it is gone.
	Pod  client.Pod
	Goal Goal
	// OnChange is called with what became known, several changes at once where
	// they happened before. OnSign, if set, is called whenever the service says something.
	OnChange func([]progress.Change)
	OnSign   func()

	// seen is the place in the log of the last change that was told.
	seen string
	// past is what happened before, until all of it is there.
	past     []progress.Change
	caughtUp bool
	result   Result
}

// Result is how the waiting ended.
type Result struct {
	// Reached says that the pod has come to its goal.
	Reached bool
	// Last is what is known of the pod; its zero value means nothing.
	Last progress.Change
}

// ChangeOf is the state of a pod as a change.
func ChangeOf(p client.Pod) progress.Change {
	return progress.Change{Event: events.Type(p.Event), Reason: events.Reason(p.Reason), Message: p.Message, At: p.UpdatedAt}
}

// Wait returns when the pod has reached its goal, or never will. It returns the
// cause of ctx when that ends before, and an error of the client when the service
// refuses to answer. The result is then what was known last. Wait is called once.
func (t *Tracker) Wait(ctx context.Context) (Result, error) {
	stream := client.Stream{User: t.Pod.User, Pod: t.Pod.Name, After: t.Pod.Position}
	t.past = []progress.Change{ChangeOf(t.Pod)}
	// A generation is the place of the pod's claim: all that happened since is told.
	if created, _, ok := strings.Cut(t.Pod.Generation, "-"); ok && strings.HasPrefix(t.Pod.Position, created+"-") {
		stream.After = t.Pod.Generation
		t.past = []progress.Change{{Event: events.Claimed, At: t.Pod.CreatedAt}}
	}
	t.seen, t.result.Last = stream.After, ChangeOf(t.Pod)
	for e, err := range t.API.Events(ctx, stream) {
		switch {
		case client.NotFound(err):
			return t.ended(ctx)
		case err != nil:
			return t.result, err
		}
		if t.OnSign != nil {
			t.OnSign()
		}
		if t.take(e) {
			return t.result, nil
		}
	}
	return t.result, context.Cause(ctx)
}

// take takes one event in, and returns whether the waiting is over.
func (t *Tracker) take(e client.Event) (over bool) {
	switch e.Kind {
	case client.Reset:
		t.past, t.caughtUp = nil, false
		return false
	case client.Synced:
		if t.caughtUp {
			return false
		}
		t.caughtUp = true
		if len(t.past) == 0 {
			// After a reset, what is not told is not there.
			return t.tell(progress.Change{Event: events.Gone, Reason: t.result.Last.Reason, Message: t.result.Last.Message, At: t.result.Last.At})
		}
		past := t.past
		t.past = nil
		return t.tell(past...) || t.Goal == Gone && !t.result.Last.Event.Over()
	case client.PodChanged:
	}
	c := ChangeOf(e.Pod)
	if e.Pod.Generation != t.Pod.Generation {
		c = progress.Change{Event: events.Gone, Reason: t.result.Last.Reason, Message: t.result.Last.Message, At: e.Pod.CreatedAt}
	}
	t.seen = e.Position
	if !t.caughtUp {
		t.past = append(t.past, c)
		return false
	}
	return t.tell(c)
}

// tell tells changes, and returns whether the waiting is over with them.
func (t *Tracker) tell(changes ...progress.Change) (over bool) {
	if t.Goal == Ready {
		// What came after the failure says less about it.
		if i := slices.IndexFunc(changes, func(c progress.Change) bool { return c.Event == events.Failed }); i >= 0 {
			changes = changes[:i+1]
		}
	}
	t.OnChange(changes)
	t.result.Last = changes[len(changes)-1]
	over, t.result.Reached = t.judge(t.result.Last.Event)
	return over
}

// judge says whether an event ends the waiting, and whether well.
func (t *Tracker) judge(event events.Type) (over, reached bool) {
	if t.Goal == Gone {
		return event == events.Gone, event == events.Gone
	}
	switch event {
	case events.Ready:
		return true, true
	case events.Failed, events.Ended, events.Deleting, events.Gone:
		return true, false
	default:
		return false, false
	}
}

// ended finds out what became of a pod that is not there any more.
func (t *Tracker) ended(ctx context.Context) (Result, error) {
	timeline, err := t.API.Timeline(ctx, t.Pod.User, t.Pod.Name, t.Pod.Generation)
	if err != nil && !client.NotFound(err) {
		return t.result, err
	}
	changes := t.past
	for _, p := range timeline.Phases {
		if !after(p.Position, t.seen) {
			continue
		}
		changes = append(changes, progress.Change{Event: events.Type(p.Event), Reason: events.Reason(p.Reason), Message: p.Message, At: p.Started})
	}
	last := t.result.Last
	if len(changes) > 0 {
		last = changes[len(changes)-1]
	}
	if last.Event != events.Gone {
		changes = append(changes, progress.Change{Event: events.Gone, Reason: last.Reason, Message: last.Message, At: last.At})
	}
	t.tell(changes...)
	return t.result, nil
}

// after says whether a position in the log comes after another.
func after(position, other string) bool {
	_, a, _ := strings.Cut(position, "-")
	_, b, _ := strings.Cut(other, "-")
	return len(a) > len(b) || len(a) == len(b) && a > b
}
