package silo

import (
	"cmp"
	"strings"
	"time"

	"berth/cmd/berth/internal/progress"
	"berth/pkg/events"
)

// Pod is what the service says about a pod, as far as people look at it.
type Pod struct {
	Name  string `json:"pod_name"`
	Image string `json:"image_name"`
	IP    string `json:"pod_ip"`
	// Age is h:m:s since the pod's start time.
	Age string `json:"age"`
	// Status is <phase>:<start time>, or Creating or Deleting.
	Status string `json:"status"`
	// Event is the newest thing that happened; Reason and Message say why.
	Event   events.Type   `json:"event"`
	Reason  events.Reason `json:"reason"`
	Message string        `json:"message"`
}

// State is the pod's newest event, or, where the service names none, the phase
// of its status.
func (p Pod) State() events.Type {
	phase, _, _ := strings.Cut(p.Status, ":")
	return cmp.Or(p.Event, events.Type(strings.ToLower(phase)))
}

// Change is the pod's state as seen at a time.
func (p Pod) Change(now time.Time) progress.Change {
	return progress.Change{Event: p.State(), Reason: p.Reason, Message: p.Message, At: now}
}
