package upkeep

import (
	"time"

	"berth/pkg/events"
)

// State is the state of a project as hubs know it.
type State string

// The states.
const (
	Opened   State = "opened" // It has no pod.
	Starting State = "starting"
	Running  State = "running"
	Stopping State = "stopping"
)

// StateOf is what a record of a project's pod means. A pod that is gone so that another one follows is
// starting.
func StateOf(r events.Record) State {
	switch r.Event {
	case events.Ready, events.Unready:
		return Running
	case events.Ended, events.Failed, events.Deleting:
		return Stopping
	case events.Gone:
		if r.Restart != nil {
			return Starting
		}
		return Opened
	case "":
		return Opened
	default:
		return Starting
	}
}

// End is how the life of a pod ended, or ends.
type End int

// The ends.
const (
	// NoEnd means that the pod lives, or that another one follows.
	NoEnd End = iota
	// Stopped means that somebody wanted it so, or that it was idle.
	Stopped
	// Died means anything else.
	Died
)

// EndOf says how a record of a project's pod ends. Who asks for a stop gives no reason.
func EndOf(r events.Record) End {
	switch {
	case r.Event == events.Failed, r.Event == events.Ended:
		return Died
	case r.Event != events.Deleting && r.Event != events.Gone, r.Restart != nil:
		return NoEnd
	case r.Reason == "", r.Reason == events.Idle:
		return Stopped
	}
	return Died
}

// EndedAt is when a life that came to its end did so; told is when the record was appended.
func EndedAt(r events.Record, told time.Time) time.Time {
	if !r.DeletingAt.IsZero() {
		return r.DeletingAt
	}
	return told
}

// Fault is why a pod died, for people; empty for one that was stopped or lives.
func Fault(r events.Record) string {
	if EndOf(r) != Died {
		return ""
	}
	if r.Message == "" {
		return string(r.Reason)
	}
	return string(r.Reason) + ": " + r.Message
}
