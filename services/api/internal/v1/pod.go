package v1

import (
	"cmp"
	"net"
	"strconv"
	"time"

	"berth/pkg/events"
)

// Entry is a record of the log with its place in it.
type Entry struct {
	events.Record
	Position events.Position
	// Time is when the record was appended.
	Time time.Time
}

// Step is an entry with the service and instance that appended it.
type Step struct {
	Entry
	Source string
}

// Pod is a pod as people and programs see it: what the newest record of the log
// says. It holds no secret.
type Pod struct {
	Name       string       `json:"name" jsonschema:"the name of the pod, also its host name"`
	User       string       `json:"user_id" jsonschema:"whose pod it is"`
	Generation string       `json:"generation" jsonschema:"tells pods of one name apart: a name is used again"`
	Event      string       `json:"event" jsonschema:"the newest thing that happened, which is the state of the pod"`
	Reason     string       `json:"reason,omitempty" jsonschema:"why the pod waits, failed or ended; one of the list in the documentation, which may grow"`
	Message    string       `json:"message,omitempty" jsonschema:"the reason in words"`
	Warnings   []string     `json:"warnings,omitempty" jsonschema:"what was left out or changed when the pod was made"`
	Silo       string       `json:"silo,omitempty" jsonschema:"the server that asked for the pod"`
	Manifest   string       `json:"manifest_url,omitempty" jsonschema:"what the pod was made from, without the query of the URL"`
	Container  string       `json:"container,omitempty" jsonschema:"the name of the first container"`
	Image      string       `json:"image,omitempty" jsonschema:"the image of the first container"`
	Licenses   []PodLicense `json:"licenses,omitempty" jsonschema:"what became of each site license"`
	Phase      string       `json:"phase,omitempty" jsonschema:"the phase in Kubernetes: Pending, Running, and so on"`
	Node       string       `json:"node,omitempty" jsonschema:"the name of the node that the pod runs on"`
	NodeIP     string       `json:"node_address,omitempty" jsonschema:"the address of that node"`
	Addresses  []string     `json:"addresses,omitempty" jsonschema:"the addresses of the pod, one a family"`
	Restarts   int          `json:"restarts,omitempty" jsonschema:"how often containers were started again"`
	URL        string       `json:"url,omitempty" jsonschema:"where the pod is reached with a browser"`
	SSH        string       `json:"ssh_url,omitempty" jsonschema:"where the pod is reached with ssh"`
	Created    time.Time    `json:"created_at" jsonschema:"when the name was claimed"`
	Launched   *time.Time   `json:"launched_at,omitempty" jsonschema:"when the pod and what belongs to it existed in Kubernetes"`
	Started    *time.Time   `json:"started_at,omitempty" jsonschema:"when the node took the pod"`
	Ready      *time.Time   `json:"ready_at,omitempty" jsonschema:"when the pod was ready for the first time"`
	Deleting   *time.Time   `json:"deleting_at,omitempty" jsonschema:"when the delete began"`
	Restarting bool         `json:"restarting,omitempty" jsonschema:"whether another pod of the project follows this one, which is deleted for it"`
	IdleStop   *time.Time   `json:"idle_stop_at,omitempty" jsonschema:"when the project will be stopped unless somebody uses it"`
	Updated    time.Time    `json:"updated_at" jsonschema:"when the newest thing happened"`
	Position   string       `json:"position" jsonschema:"where in the log that is; an event stream resumes after it"`
}

// PodLicense is what became of one site license when a pod was made.
type PodLicense struct {
	ID      string `json:"id" jsonschema:"the id of the license"`
	Title   string `json:"title,omitempty" jsonschema:"what people call it"`
	Status  string `json:"status" jsonschema:"what became of it"`
	Reason  string `json:"reason,omitempty" jsonschema:"why"`
	Patched bool   `json:"patched,omitempty" jsonschema:"whether operations of its patch are in the pod"`
	Machine bool   `json:"machine,omitempty" jsonschema:"whether its gpu or dedicated_vm has changed the pod"`
}

// podOf returns what is shown of an entry. domain is the one below which pods have
// their host names, empty for none.
func podOf(e Entry, domain string) Pod {
	p := Pod{
		Name: e.Pod, User: e.User, Generation: e.Generation, Event: string(e.Event), Reason: string(e.Reason), Message: e.Message,
		Warnings: e.Warnings, Silo: e.Silo, Manifest: e.Manifest, Container: e.Container, Image: e.Image,
		Phase: e.Observed.Phase, Node: e.Observed.Node, NodeIP: e.Observed.NodeIP, Addresses: e.Observed.IPs, Restarts: e.Observed.Restarts,
		Created: firstTime(e.ClaimedAt, e.LaunchedAt, e.Time), Launched: timeOf(e.LaunchedAt), Started: timeOf(e.Observed.StartTime),
		Ready: timeOf(e.ReadyAt), Deleting: timeOf(e.DeletingAt), Restarting: e.Restart != nil, IdleStop: timeOf(e.IdleStopAt),
		Updated: e.Time.UTC(), Position: e.Position.String(),
	}
	for _, l := range e.Licenses {
		p.Licenses = append(p.Licenses, PodLicense(l))
	}
	if domain != "" && e.HTTP {
		p.URL = "https://" + e.Pod + "." + domain
	}
	if domain != "" && e.SSHPort > 0 {
		p.SSH = "ssh://" + cmp.Or(e.SSHUser, "root") + "@" + net.JoinHostPort(domain, strconv.Itoa(e.SSHPort))
	}
	return p
}

// timeOf leaves out a time that has not come.
func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// firstTime is the first of the times that is known: a pod that was found has no claim.
func firstTime(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t.UTC()
		}
	}
	return time.Time{}
}
