package events

import "time"

// AuditRecord says who asked what for whom, and what came of it. It never holds a
// secret, a variable, or the query of a URL.
type AuditRecord struct {
	// Request is the id of the request, as it is in the log of the api.
	Request string    `json:"request_id"`
	Time    time.Time `json:"time"`
	Cluster string    `json:"cluster"`
	// Silo is who asked, empty for one that is not known; Address is where from.
	Silo    string `json:"silo,omitempty"`
	Admin   bool   `json:"admin,omitempty"`
	Address string `json:"address,omitempty"`
	// Action is what was asked: create_pod, delete_pod, …
	Action string `json:"action"`
	User   string `json:"user_id,omitempty"`
	Pod    string `json:"pod_name,omitempty"`
	// Command is the id of the command that the request led to.
	Command string `json:"command_id,omitempty"`
	// Status is the HTTP status of the answer, Reason why it was refused.
	Status int    `json:"status"`
	Reason Reason `json:"reason,omitempty"`
	// Took is how long it took until the answer, in seconds.
	Took float64 `json:"took_seconds"`
}

// Subject is where the record is kept.
func (a AuditRecord) Subject() string { return AuditSubject(a.Cluster, a.Silo, a.User, a.Action) }
