package events

import (
	"errors"
	"time"
)

// Verdict is what became of a command.
type Verdict string

// The verdicts.
const (
	// Accepted means that a pod of the given name is being claimed.
	Accepted Verdict = "accepted"
	// Refused means that no pod is made, and why.
	Refused Verdict = "refused"
	// Expiry means that the deadline passed before anybody took the command;
	// nothing is made.
	Expiry Verdict = "expired"
	// Done means that a command that makes no pod has been carried out.
	Done Verdict = "done"
	// Stopped means that a project was stopped; see [StopCommand].
	Stopped Verdict = "stopped"
)

func (v Verdict) known() bool {
	return v == Accepted || v == Refused || v == Expiry || v == Done || v == Stopped
}

// StopCommand is the command id under which the stops of a project are among the outcomes.
// The place in the log of the newest one tells the starts that are still to be carried out
// from those that it has called off: whoever asks for a start says which stop was the last
// that it knew of ([ProjectRequest.LastStop]). Like every outcome it is kept for longer than
// any start may wait.
func StopCommand(project string) string { return "stop-" + project }

// OutcomeTTL is how long an outcome is kept in the log.
const OutcomeTTL = time.Hour

// Outcome is what became of a command. The zero Outcome means undecided.
type Outcome struct {
	Verdict Verdict `json:"verdict"`
	Cluster string  `json:"cluster"`
	Command string  `json:"command_id"`
	User    string  `json:"user_id,omitempty"`
	Pod     string  `json:"pod_name,omitempty"`
	Reason  Reason  `json:"reason,omitempty"`
	Message string  `json:"message,omitempty"`
	// Report is what a sweep has found, nil for other commands.
	Report *Report `json:"report,omitempty"`
}

// Report is what a sweep has found: objects that no pod needs any more.
type Report struct {
	DryRun bool `json:"dry_run"`
	// Found are the first [MaxLeftovers] of all; Total counts them.
	Found []Leftover `json:"found"`
	Total int        `json:"total"`
	// Removed is how many of them are removed or are being removed.
	Removed int `json:"removed"`
}

// MaxLeftovers is how many of what a sweep has found its report names.
const MaxLeftovers = 200

// Leftover is something that outlived its pod.
type Leftover struct {
	// Kind is Service, Ingress, PersistentVolumeClaim, PersistentVolume, Token or
	// StorageUse.
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Why says what it belonged to, in words.
	Why string `json:"why"`
}

// ErrDecided is returned for an outcome that comes too late: whoever appended
// the first one has decided, and the loser obeys.
var ErrDecided = errors.New("the command's outcome is decided")

// NextOutcome says whether proposed may follow current. The first outcome
// decides; after it the creator may correct the name of an accepted command, or
// refuse it, when its claim lost a race. Repeating the current outcome changes
// nothing, but for a stop: each is one more. It returns the outcome that holds
// afterwards.
func NextOutcome(current, proposed Outcome) (Outcome, bool, error) {
	proposed.Message = clip(proposed.Message)
	switch {
	case current.Verdict == "":
		return proposed, true, nil
	case current.Verdict == Stopped && proposed.Verdict == Stopped:
		return proposed, true, nil
	case current == proposed:
		return current, false, nil
	case current.Verdict == Accepted && (proposed.Verdict == Accepted || proposed.Verdict == Refused):
		return proposed, true, nil
	default:
		return current, false, ErrDecided
	}
}

// Mark says that the log of a cluster is complete: it has been compared with
// the cluster since the stream was made. Until then a missing record means
// unknown, not absent.
type Mark struct {
	Cluster string `json:"cluster"`
	// Created is when the stream was made, in Unix nanoseconds; a mark with
	// another value than the stream's own does not count.
	Created int64 `json:"created"`
	// Pods is how many pods the comparison found in the cluster.
	Pods int `json:"pods"`
}
