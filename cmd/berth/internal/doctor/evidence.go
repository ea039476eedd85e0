// Package doctor says from what was seen of an installation of Berth what is
// wrong with it, and what to do.
//
// The package is pure: package probe gathers what it judges.
package doctor

import (
	"time"

	"berth/pkg/events"
)

// Evidence is what was seen of an installation. A part that could not be looked
// at says why in its Fault; what else it has is zero then. All durations are in
// seconds; a skew is how much a clock is ahead of this machine's.
type Evidence struct {
	// At is when the gathering was over.
	At time.Time `json:"at"`
	// Version is the command line's own.
	Version string `json:"version"`
	Cluster string `json:"cluster"`

	API        API        `json:"api"`
	NATS       NATS       `json:"nats"`
	Kubernetes Kubernetes `json:"kubernetes"`
}

// API is the service that silos ask.
type API struct {
	URL   string `json:"url"`
	Fault string `json:"fault,omitempty"`
	// Live is the answer's status at /livez, Ready at /readyz; 0 for none.
	Live  int `json:"livez_status,omitempty"`
	Ready int `json:"readyz_status,omitempty"`
	// Failing are the checks that keep it from being ready, with their reasons.
	Failing []string `json:"failing_checks,omitempty"`
	// Version and Instance are empty where its metrics cannot be read.
	Version  string  `json:"version,omitempty"`
	Instance string  `json:"instance,omitempty"`
	Took     float64 `json:"took_seconds"`
	// Skew is nil where the answer has no time.
	Skew *float64 `json:"clock_skew_seconds,omitempty"`
	// Licenses is the answer's status at /v1/licenses, which the database answers; 0 for none, or where there is no
	// token to ask with. LicensesFault says why it is none.
	Licenses      int    `json:"licenses_status,omitempty"`
	LicensesFault string `json:"licenses_fault,omitempty"`
	// Template is the answer's status to the preview of a project that nobody has, which the template of projects is needed for; 0
	// where that was not asked. TemplateReason is why a start of it would fail, and TemplateFault the same, or the lack of an answer, for people.
	Template       int           `json:"template_status,omitempty"`
	TemplateReason events.Reason `json:"template_reason,omitempty"`
	TemplateFault  string        `json:"template_fault,omitempty"`
}

// NATS is the server that keeps the log, with all that it knows.
type NATS struct {
	// Asked says that there is an address.
	Asked bool `json:"asked"`
	// Servers is the address, without a password.
	Servers string `json:"servers,omitempty"`
	Fault   string `json:"fault,omitempty"`
	Version string `json:"version,omitempty"`
	// RTT is the time to the server and back.
	RTT float64 `json:"rtt_seconds"`
	// Denied is what the server does not allow this user.
	Denied []string `json:"denied,omitempty"`
	// JetStream is why JetStream cannot be used; empty where it can.
	JetStream string `json:"jetstream_fault,omitempty"`
	// Skew is nil where no stream has told the time.
	Skew *float64 `json:"clock_skew_seconds,omitempty"`

	Streams     []Stream    `json:"streams,omitempty"`
	Mark        Mark        `json:"mark"`
	Stages      []Stage     `json:"stages,omitempty"`
	Commands    Commands    `json:"commands"`
	DeadLetters DeadLetters `json:"dead_letters"`
	Pods        Pods        `json:"pods"`
	Watcher     Watcher     `json:"watcher"`
}

// Stream is a stream of Berth.
type Stream struct {
	Name  string `json:"name"`
	Fault string `json:"fault,omitempty"`
	// Missing says that the server has no such stream.
	Missing  bool      `json:"missing,omitempty"`
	Created  time.Time `json:"created,omitzero"`
	Messages uint64    `json:"messages"`
	Bytes    uint64    `json:"bytes"`
	Replicas int       `json:"replicas"`
	// Faults is what is wrong with its configuration.
	Faults []string `json:"configuration_faults,omitempty"`
	// Clustered says that several servers keep it. Leader is empty where it has none.
	Clustered bool   `json:"clustered,omitempty"`
	Leader    string `json:"leader,omitempty"`
	Peers     []Peer `json:"peers,omitempty"`
	// Lost is how many messages the server knows to have lost.
	Lost int `json:"lost,omitempty"`
}

// Peer is a replica that is not the leader.
type Peer struct {
	Name    string `json:"name"`
	Current bool   `json:"current"`
	Offline bool   `json:"offline,omitempty"`
	// Lag is how many operations it is behind, Active when it was heard of last.
	Lag    uint64  `json:"lag,omitempty"`
	Active float64 `json:"active_seconds"`
}

// Mark is whether the log has been compared with the cluster.
type Mark struct {
	Fault string `json:"fault,omitempty"`
	// There says that there is a mark; Current, that it is this stream's.
	There   bool      `json:"there"`
	Current bool      `json:"current"`
	At      time.Time `json:"at,omitzero"`
	Pods    int       `json:"pods"`
}

// Stage is the queue of a stage, with its consumer.
type Stage struct {
	Stage events.Stage `json:"stage"`
	Fault string       `json:"fault,omitempty"`
	// Missing says that there is no consumer.
	Missing bool `json:"missing,omitempty"`
	// Queued is how many commands the stage has, whatever became of them yet.
	Queued int `json:"queued"`
	// Oldest is when the oldest of them was asked for; zero where that is unknown.
	Oldest time.Time `json:"oldest,omitzero"`
	// Pending are not yet handed out, Working are, Redelivered more than once.
	Pending     uint64 `json:"pending"`
	Working     int    `json:"ack_pending"`
	Redelivered int    `json:"redelivered"`
	// Pulling is how many requests for commands wait for one.
	Pulling    int       `json:"waiting_pulls"`
	Delivered  time.Time `json:"last_delivered,omitzero"`
	Leader     string    `json:"leader,omitempty"`
	Leaderless bool      `json:"leaderless,omitempty"`
	Paused     bool      `json:"paused,omitempty"`
}

// Commands is what else the queue has.
type Commands struct {
	Fault string `json:"fault,omitempty"`
	// Timers is how many of each kind are set.
	Timers map[events.Timer]int `json:"timers,omitempty"`
	// Foreign counts the commands of stages that this version does not know.
	Foreign map[string]int `json:"foreign,omitempty"`
}

// DeadLetters are the commands that could not be done.
type DeadLetters struct {
	Fault string `json:"fault,omitempty"`
	Count uint64 `json:"count"`
	// Newest are some of them, the newest first.
	Newest []Letter `json:"newest,omitempty"`
}

// Letter is a command that could not be done, without its content.
type Letter struct {
	At     time.Time     `json:"at"`
	Stage  events.Stage  `json:"stage,omitempty"`
	ID     string        `json:"command_id,omitempty"`
	Pod    string        `json:"pod_name,omitempty"`
	User   string        `json:"user_id,omitempty"`
	Reason events.Reason `json:"reason,omitempty"`
	Cause  string        `json:"cause,omitempty"`
}

// Pods is what the log says about the pods.
type Pods struct {
	Fault string `json:"fault,omitempty"`
	// Looked says that the log was read.
	Looked bool `json:"looked"`
	// States counts the pods by their newest event, but for those that are gone.
	States map[events.Type]int `json:"states,omitempty"`
	// Unreadable is how many pods have no record that this version can read.
	Unreadable int `json:"unreadable,omitempty"`

	// Records is the newest record of each pod.
	Records []Record `json:"-"`
	// Armed has the ids of the commands for which a timer of a kind is set; nil
	// where that is unknown.
	Armed map[events.Timer]map[string]bool `json:"-"`
}

// Record is the newest record of a pod, as far as it matters here.
type Record struct {
	Pod, User string
	Event     events.Type
	// At is when it was appended.
	At time.Time
	// Claimed and Deleting are when the pod was asked for and its delete was.
	Claimed, Deleting time.Time
	// Progress is when a pod that is not ready got further last.
	Progress time.Time
	// Launched says that its creator, or the watcher, has seen it in Kubernetes.
	Launched, WasReady bool
	// Timer is the id that its timers are set under.
	Timer  string
	Reason events.Reason
	// Unlicensed says that its licenses have not been looked at yet, Message what it waits for.
	Unlicensed bool
	Message    string
	// UID is the pod's in Kubernetes; empty where it is unknown.
	UID string
}

// Watcher is what the watchers say.
type Watcher struct {
	Fault string `json:"fault,omitempty"`
	// Listened is for how long heartbeats were listened to.
	Listened float64 `json:"listened_seconds"`
	Beats    []Beat  `json:"beats,omitempty"`
}

// Beat is the newest heartbeat of one watcher.
type Beat struct {
	events.Heartbeat

	// Skew is nil where the heartbeat has no time.
	Skew *float64 `json:"clock_skew_seconds,omitempty"`
}

// Kubernetes is the cluster, if it was looked at.
type Kubernetes struct {
	Asked     bool   `json:"asked"`
	Server    string `json:"server,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Fault     string `json:"fault,omitempty"`
	Version   string `json:"version,omitempty"`
	// Took is the time that the server took to say its version.
	Took float64  `json:"took_seconds"`
	Skew *float64 `json:"clock_skew_seconds,omitempty"`

	NamespaceFault   string `json:"namespace_fault,omitempty"`
	NamespaceMissing bool   `json:"namespace_missing,omitempty"`

	LeaseFault   string `json:"lease_fault,omitempty"`
	LeaseMissing bool   `json:"lease_missing,omitempty"`
	LeaseHolder  string `json:"lease_holder,omitempty"`
	// LeaseAge is how long ago it was renewed, by the clocks of the holder and of
	// this machine; LeaseLasts is for how long it holds without.
	LeaseAge   float64 `json:"lease_age_seconds,omitempty"`
	LeaseLasts float64 `json:"lease_lasts_seconds,omitempty"`

	PodsFault string `json:"pods_fault,omitempty"`
	// Count is how many pods of Berth there are.
	Count int `json:"pods"`
	// Pods are they. They were listed before the log was read.
	Pods []ClusterPod `json:"-"`
}

// ClusterPod is a pod of Berth in Kubernetes.
type ClusterPod struct {
	Name, UID string
	Created   time.Time
	// Terminating says that Kubernetes has been asked to delete it.
	Terminating bool
}
