// Package verdict judges a chaos run: it holds what was seen in the log, in
// Kubernetes and in the answers to clients against the promises of Berth. It is
// pure, so that it can be shown to fail.
package verdict

import (
	"time"

	"berth/pkg/events"
)

// Evidence is everything that was seen of a run. All times are of one clock.
type Evidence struct {
	// Log is every message that was ever in the log, in its order.
	Log []Entry
	// Lost are the sequences of messages that were in the log once and are not
	// any more, though nobody had a right to remove them.
	Lost []uint64
	// Pods is every change of a pod that a watch of Kubernetes showed.
	Pods []PodEvent
	// Probes are looks into Kubernetes right after a pod was said to be gone.
	Probes []Probe
	// Exchanges is every request of a client with its answer.
	Exchanges []Exchange
	// Faults is what was done to the system.
	Faults []Fault
	// Holders are changes of how many pods have a seat of a limited license.
	Holders []Holders
	// Books are looks at all that is said of projects, at moments at which nothing moved.
	Books []Books
	// Left is what there was at the end, when everything should be gone.
	Left Left
	// Quiet is what was asked of the API server while nothing happened; nil if
	// nobody looked.
	Quiet *Quiet
	// Settling is how long it took after the last fault until nothing moved any
	// more; Settled says whether that ever was.
	Settling time.Duration
	Settled  bool
	// Moves says, for each time that the books were to be looked at, what moved all the time that this may take; empty for nothing.
	Moves  []string
	Limits Limits
}

// Limits are how long things may take, and when a create fails early.
type Limits struct {
	// Request bounds what does not wait for a pod.
	Request time.Duration
	// WatchCreate and WatchDelete bound the long polls.
	WatchCreate, WatchDelete time.Duration
	// TimeoutDelete is after what a watch of a delete may say that it is not done.
	TimeoutDelete time.Duration
	// Stale is how old a list of pods may be, where a replica has not heard of the
	// changes yet.
	Stale time.Duration
	// Settling bounds the time until nothing moves any more after the last fault.
	Settling time.Duration
	// Hub bounds the time until a request in a project's row is taken.
	Hub time.Duration
	// PullBackOffs is the how-manieth back-off of an image pull fails a create.
	PullBackOffs int
}

// Entry is a message of the log. One of Record, Outcome, Mark and Unreadable is set.
type Entry struct {
	Sequence uint64    `json:"sequence"`
	At       time.Time `json:"at"`
	// Trace is the trace id of the request that led to it, where it is known.
	Trace   string          `json:"trace,omitempty"`
	Source  string          `json:"source,omitempty"`
	Record  *events.Record  `json:"record,omitempty"` // With its generation.
	Outcome *events.Outcome `json:"outcome,omitempty"`
	Mark    *events.Mark    `json:"mark,omitempty"`
	// Unreadable says why the message could not be read.
	Unreadable string `json:"unreadable,omitempty"`
}

// PodEvent is a change of a pod in Kubernetes.
type PodEvent struct {
	At   time.Time `json:"at"`
	Kind string    `json:"kind"` // added, changed, deleted
	Pod  string    `json:"pod"`
	UID  string    `json:"uid"`
	// Command, Generation and User are from its annotations.
	Command    string    `json:"command"`
	Generation string    `json:"generation"`
	User       string    `json:"user"`
	Created    time.Time `json:"created"` // To the second.
	State      string    `json:"state"`   // For people.
}

// Probe is a look for a pod in Kubernetes after its `gone`.
type Probe struct {
	At         time.Time `json:"at"`
	Pod        string    `json:"pod"`
	Generation string    `json:"generation"` // Of the `gone`.
	// Found is the generation of the pod that was there, empty for none.
	Found string `json:"found,omitempty"`
}

// The endpoints that clients ask.
const (
	Create      = "create_pod"
	WatchCreate = "watch_create_pod"
	GetPods     = "get_pods"
	Delete      = "delete_pod"
	WatchDelete = "watch_delete_pod"

	StartProject   = "start project"
	StopProject    = "stop project"
	RestartProject = "restart project"
	UseProject     = "activity of project"
	PutLicense     = "put license"
	AttachLicense  = "attach license"
	DetachLicense  = "detach license"
)

// What a hub writes into the database, and what it does to the cluster. The status of what was done is 200; a request to
// start or to stop has been taken by then.
const (
	HubStart   = "hub starts project"
	HubStop    = "hub stops project"
	HubRestart = "hub restarts project"
	HubLicense = "hub edits license"
	HubAttach  = "hub attaches license"
	HubDetach  = "hub detaches license"
	// KillProject is the death of a project's pod: its node says that it has failed.
	KillProject = "node fails project"
)

// Exchange is a request and what came of it.
type Exchange struct {
	Endpoint string    `json:"endpoint"`
	Replica  string    `json:"replica"`
	User     string    `json:"user"`
	Pod      string    `json:"pod,omitempty"` // In a create: the name that was answered.
	Manifest string    `json:"manifest,omitempty"`
	Trace    string    `json:"trace,omitempty"`
	Begun    time.Time `json:"begun"`
	Ended    time.Time `json:"ended"`
	// Abandoned means that the client went away by itself.
	Abandoned bool `json:"abandoned,omitempty"`
	// Left means that the client gave up: it had waited longer than anything may take.
	Left bool `json:"left,omitempty"`
	// Status is 0 where the connection was lost.
	Status int `json:"status"`
	// Yes is ready, requested or deleted; it is of silos' requests alone.
	Yes     bool   `json:"yes,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// Pods is what get_pods listed.
	Pods []Listed `json:"pods,omitempty"`
	// Generation is that of the pod that a start of a project has led to.
	Generation string `json:"generation,omitempty"`
	// Ready means that the start was to be answered when the pod is ready.
	Ready bool `json:"ready,omitempty"`
	// License is the one that it is about.
	License string `json:"license,omitempty"`
}

// Listed is a pod in an answer of get_pods.
type Listed struct {
	Pod        string `json:"pod_name"`
	Owner      string `json:"owner"`
	Generation string `json:"generation"`
}

// Fault is what was done to the system, and when it was over.
type Fault struct {
	Number int       `json:"number"`
	Kind   string    `json:"kind"`
	Target string    `json:"target"`
	Begun  time.Time `json:"begun"`
	Ended  time.Time `json:"ended"`
}

// Left is what there was at the end.
type Left struct {
	Pods        []string `json:"pods,omitempty"`         // In Kubernetes.
	Belongings  []string `json:"belongings,omitempty"`   // Services, ingresses, claims, volumes, tokens.
	Commands    []string `json:"commands,omitempty"`     // Subjects, timers too.
	DeadLetters []string `json:"dead_letters,omitempty"` // Subjects and causes.
}

// Quiet is a time in which nothing was asked of Berth and no pod changed.
type Quiet struct {
	For time.Duration `json:"for"`
	// Requests of Berth to the API server, by verb and resource: "LIST pods".
	Requests map[string]int `json:"requests"`
}

// Breach is a promise that was not kept.
type Breach struct {
	// Statement is its number in the list of what must always hold.
	Statement int       `json:"statement"`
	Text      string    `json:"text"`
	Pod       string    `json:"pod,omitempty"`
	At        time.Time `json:"at,omitzero"`
}
