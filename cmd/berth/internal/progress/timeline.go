// Package progress says how a pod gets on, as text for people: the phases that
// it goes through, with their durations and what it waits for.
//
// The package is pure: it knows no clock, no terminal and no log.
package progress

import (
	"slices"
	"time"

	"berth/pkg/events"
)

// Requested is the phase before the log says anything: the service has been
// asked. It is never in the log.
const Requested events.Type = "requested"

// Change is what became known about a pod.
type Change struct {
	Event   events.Type
	Reason  events.Reason
	Message string
	// At is when it happened, by the clock of whoever said so.
	At time.Time
}

// Span is a phase with its duration.
type Span struct {
	Change

	Took time.Duration
}

// Timeline is what a pod has gone through so far, a phase for each event and
// reason. Its zero value is empty. It is a value: With returns another one.
type Timeline struct {
	phases []Change
}

// With returns the timeline after a change, and whether the change says
// anything new. Where event and reason stay the same the phase goes on, with
// the new message. Time never runs backwards, also where clocks differ.
func (t Timeline) With(c Change) (Timeline, bool) {
	if len(t.phases) == 0 {
		return Timeline{phases: []Change{c}}, true
	}
	last := t.Last()
	if last.Event == c.Event && last.Reason == c.Reason {
		if last.Message == c.Message {
			return t, false
		}
		c.At = last.At
		phases := slices.Clone(t.phases)
		phases[len(phases)-1] = c
		return Timeline{phases: phases}, true
	}
	if c.At.Before(last.At) {
		c.At = last.At
	}
	return Timeline{phases: append(slices.Clip(t.phases), c)}, true
}

// Last is the present phase, the zero Change before the first.
func (t Timeline) Last() Change {
	if len(t.phases) == 0 {
		return Change{}
	}
	return t.phases[len(t.phases)-1]
}

// Began is when the first phase began, the zero time before it.
func (t Timeline) Began() time.Time {
	if len(t.phases) == 0 {
		return time.Time{}
	}
	return t.phases[0].At
}

// Done returns the phases that are over, the oldest first.
func (t Timeline) Done() []Span {
	var spans []Span
	for i := 1; i < len(t.phases); i++ {
		before := t.phases[i-1]
		spans = append(spans, Span{Change: before, Took: t.phases[i].At.Sub(before.At)})
	}
	return spans
}

// Spans returns all phases, the oldest first; the present one has lasted until
// now.
func (t Timeline) Spans(now time.Time) []Span {
	if len(t.phases) == 0 {
		return nil
	}
	last := t.Last()
	return append(t.Done(), Span{Change: last, Took: max(now.Sub(last.At), 0)})
}
