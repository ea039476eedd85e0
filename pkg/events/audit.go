package events

import "time"

// AuditRecord says who asked what for whom, and what came of it. It never holds a
// secret, a variable, or the query of a URL.
type AuditRecord struct {
	// Request is the id of the request, as it is in the log of the api.
	Request string    `json:"request_id"`
	Time    time.Time `json:"time"`
	Cluster string    `json:"cluster"`
	// Silo is who asked, empty for one that is not known; Address is where from, without a port.
	Silo    string `json:"silo,omitempty"`
	Admin   bool   `json:"admin,omitempty"`
	Address string `json:"address,omitempty"`
	// Denied says that the caller was not let in. Silo is then whose credentials it had, all the same.
	Denied bool `json:"denied,omitempty"`
	// Action is what was asked: create_pod, delete_pod, …
	Action string `json:"action"`
	// Object is what was asked about besides a user and a pod: the URL of a manifest, or an address.
	Object string `json:"object,omitempty"`
	User   string `json:"user_id,omitempty"`
	Pod    string `json:"pod_name,omitempty"`
	// Command is the id of the command that the request led to.
	Command string `json:"command_id,omitempty"`
	// DryRun and Removed are of a clean-up: that it was only to look, and how much it has removed.
	DryRun  bool `json:"dry_run,omitempty"`
	Removed int  `json:"removed,omitempty"`
	// Status is the HTTP status of the answer, 0 in the record of a wait or a stream that begins
	// (<action>_begun), Reason why it was refused.
	Status int    `json:"status"`
	Reason Reason `json:"reason,omitempty"`
	// Took is how long it took until the answer, in seconds.
	Took float64 `json:"took_seconds"`
}

// Subject is where the record is kept.
func (a AuditRecord) Subject() string { return AuditSubject(a.Cluster, a.Silo, a.User, a.Action) }
