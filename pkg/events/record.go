package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Record is everything that the log says about a pod after an event. It never
// holds a secret and never a variable of a container.
//
// The zero Record means that there is no record of the pod.
type Record struct {
	// Event is the newest thing that happened; empty where there is no record.
	Event   Type   `json:"event,omitempty"`
	Cluster string `json:"cluster"`
	Pod     string `json:"pod_name"`
	User    string `json:"user_id"`
	// Generation tells pods of one name apart: the position of the first record
	// of this life of the pod. That record cannot carry it; its readers add it.
	Generation string `json:"generation,omitempty"`
	// Command is the id of the create that the pod is for.
	Command string `json:"command_id,omitempty"`
	// Silo is the name of the server that asked.
	Silo string `json:"silo,omitempty"`
	// Manifest is the URL that the pod was made from, without its query.
	Manifest  string `json:"manifest_url,omitempty"`
	Container string `json:"container_name,omitempty"`
	Image     string `json:"image_name,omitempty"`
	// Reason and Message say why the pod waits, ended or failed.
	Reason   Reason   `json:"reason,omitempty"`
	Message  string   `json:"message,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	// Storage is the name of the claim of the user's storage; empty for a pod that
	// does not use it.
	Storage string `json:"storage_claim,omitempty"`
	// Objects are the services and the ingress that belong to the pod.
	Objects []Object `json:"objects,omitempty"`
	// HTTP says that the pod has an ingress, at <pod>.<ingressDomain>.
	HTTP bool `json:"http,omitempty"`
	// SSHPort is the node port of its ssh service, 0 for none; SSHUser is whom to
	// log in as.
	SSHPort int    `json:"ssh_port,omitempty"`
	SSHUser string `json:"ssh_user,omitempty"`
	// TokenKeys are the files that are copied out of the pod before it counts as
	// ready. What is in them is never here.
	TokenKeys []string `json:"token_keys,omitempty"`
	// Licenses is what the licenser decided: null before, empty for none.
	Licenses []License `json:"licenses,omitzero"`
	// Licensing says how; only the licensed event has it.
	Licensing *Licensing `json:"licensing,omitempty"`
	// LastStop is what the start of a project's pod knew of stops, as its [ProjectRequest] says; nil where it did not know of any. A
	// later stop has called the pod off, wherever in the log its claim is.
	LastStop *uint64 `json:"last_stop,omitempty"`
	// Restart is set while a project's pod is deleted so that another one is made.
	Restart *Restart `json:"restart,omitempty"`
	// IdleStopAt is when a project will be stopped unless somebody uses it; zero while that
	// is not near.
	IdleStopAt time.Time `json:"idle_stop_at,omitzero"`
	// Observed is what the cluster said last.
	Observed Observed `json:"observed,omitzero"`

	ClaimedAt   time.Time `json:"claimed_at,omitzero"`
	LaunchingAt time.Time `json:"launching_at,omitzero"`
	LaunchedAt  time.Time `json:"launched_at,omitzero"`
	// ProgressAt is when the pod last got further towards ready.
	ProgressAt time.Time `json:"progress_at,omitzero"`
	// ReadyAt is when the pod was ready for the first time; zero if never.
	ReadyAt    time.Time `json:"ready_at,omitzero"`
	DeletingAt time.Time `json:"deleting_at,omitzero"`
	// TokensAt is when the tokens were copied or given up.
	TokensAt time.Time `json:"tokens_at,omitzero"`

	// extra holds members that this version does not know. They are kept when
	// the record is written again, so that versions can be mixed.
	extra map[string]json.RawMessage
}

// Unlicensed says that the pod's licenses are still to be looked at: it has been claimed, and waits for that at the most.
func (r Record) Unlicensed() bool {
	return r.Event == Claimed || r.Event == Waiting && r.Licenses == nil && r.LaunchingAt.IsZero() && r.LaunchedAt.IsZero()
}

// Object is a Kubernetes object that belongs to a pod.
type Object struct {
	Kind string `json:"kind"` // Service or Ingress.
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// License is what became of one site license when a pod was made.
type License struct {
	ID string `json:"id"`
	// Title is what people call it.
	Title string `json:"title,omitempty"`
	// Status is active, ineffective, exhausted, expired or future; Reason says why it gives
	// nothing.
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
	// Patched says that operations of its patch are in the pod.
	Patched bool `json:"patched,omitempty"`
	// Machine says that its gpu or dedicated_vm has changed the pod.
	Machine bool `json:"machine,omitempty"`
}

// Licensing says what the licenser made of a pod, and from what. It never has the value of
// a variable.
type Licensing struct {
	// SettingsDigest and TemplateDigest are SHA-256 sums, in hex, of the project's
	// settings and of the template; PodDigest is that of the pod that was made of them.
	SettingsDigest string `json:"settings_digest,omitempty"`
	TemplateDigest string `json:"template_digest,omitempty"`
	PodDigest      string `json:"pod_digest,omitempty"`
	// Quota is what was computed, without patches.
	Quota json.RawMessage `json:"quota,omitempty"`
	// Explanation says for each field of the pod that differs from the template what set it.
	Explanation json.RawMessage `json:"explanation,omitempty"`
}

// Observed is what a cluster says about a pod.
type Observed struct {
	UID string `json:"uid,omitempty"`
	// ResourceVersion orders what is said about one UID.
	ResourceVersion string `json:"resource_version,omitempty"`
	// Phase is the pod's phase in Kubernetes: Pending, Running, …
	Phase string `json:"phase,omitempty"`
	// Ready is the pod's Ready condition.
	Ready bool `json:"ready,omitempty"`
	// Ended means that all containers have ended and none will be restarted.
	Ended bool `json:"ended,omitempty"`
	// Hopeless means that the pod can never start.
	Hopeless bool `json:"hopeless,omitempty"`
	// Terminating means that somebody has asked Kubernetes to delete the pod.
	Terminating bool `json:"terminating,omitempty"`
	// Reason and Message say what the pod waits for or why it ended.
	Reason  Reason `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// BackOff means that the node waits before it pulls an image again;
	// PullBackOffs counts how often it began to.
	BackOff      bool `json:"back_off,omitempty"`
	PullBackOffs int  `json:"pull_back_offs,omitempty"`
	// Progress grows as the pod gets further towards ready.
	Progress    int       `json:"progress,omitempty"`
	Restarts    int       `json:"restarts,omitempty"`
	Node        string    `json:"node,omitempty"`
	NodeIP      string    `json:"node_ip,omitempty"`
	IPs         []string  `json:"pod_ips,omitempty"`
	HostNetwork bool      `json:"host_network,omitempty"`
	StartTime   time.Time `json:"start_time,omitzero"`

	extra map[string]json.RawMessage
}

// IsZero says that the cluster has said nothing yet; encoding/json asks.
func (o Observed) IsZero() bool { return reflect.ValueOf(o).IsZero() }

// same says that two observations tell a reader of the log the same.
func (o Observed) same(p Observed) bool {
	o.ResourceVersion, p.ResourceVersion = "", ""
	ips := slices.Equal(o.IPs, p.IPs)
	times := o.StartTime.Equal(p.StartTime)
	o.IPs, p.IPs, o.StartTime, p.StartTime, o.extra, p.extra = nil, nil, time.Time{}, time.Time{}, nil, nil
	return ips && times && reflect.DeepEqual(o, p)
}

// maxMessage bounds the message of a record, in bytes: an API server's refusal
// quotes whole objects.
const maxMessage = 2048

// clip shortens a message to maxMessage, at a character's end, and makes it
// valid UTF-8, as JSON wants it, without U+0000, which databases do not take.
func clip(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
	if len(s) <= maxMessage {
		return s
	}
	cut := maxMessage - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

type (
	plainRecord   Record
	plainObserved Observed
)

// MarshalJSON writes the record with the members that it was read with.
func (r Record) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(plainRecord(r))
	return withExtra(b, r.extra), err
}

// UnmarshalJSON reads a record and keeps the members that it does not know.
func (r *Record) UnmarshalJSON(b []byte) error {
	p, extra, err := readObject[plainRecord](b, recordMembers)
	if err != nil {
		return err
	}
	p.extra = extra
	*r = Record(p)
	return nil
}

// MarshalJSON writes the observation with the members that it was read with.
func (o Observed) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(plainObserved(o))
	return withExtra(b, o.extra), err
}

// UnmarshalJSON reads an observation and keeps the members that it does not know.
func (o *Observed) UnmarshalJSON(b []byte) error {
	p, extra, err := readObject[plainObserved](b, observedMembers)
	if err != nil {
		return err
	}
	p.extra = extra
	*o = Observed(p)
	return nil
}

// withExtra adds members to a marshalled object, sorted by name.
func withExtra(object []byte, extra map[string]json.RawMessage) []byte {
	if len(extra) == 0 || len(object) < 2 {
		return object
	}
	out := bytes.NewBuffer(object[:len(object)-1])
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			continue // A string always marshals.
		}
		out.Write(quoted)
		out.WriteByte(':')
		out.Write(extra[name])
	}
	out.WriteByte('}')
	return out.Bytes()
}

// readObject reads an object, and what it has that T does not know. Most have
// nothing: so that is tried first.
func readObject[T any](object []byte, known func() []string) (T, map[string]json.RawMessage, error) {
	var strict, lenient T
	d := json.NewDecoder(bytes.NewReader(object))
	d.DisallowUnknownFields()
	if d.Decode(&strict) == nil {
		return strict, nil, nil
	}
	if err := json.Unmarshal(object, &lenient); err != nil {
		return lenient, nil, err
	}
	extra, err := unknown(object, known())
	return lenient, extra, err
}

// unknown returns the members of an object that are not in known.
func unknown(object []byte, known []string) (map[string]json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(object, &all); err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	for _, name := range known {
		delete(all, name)
	}
	// encoding/json matches names without regard to case; so must this, or the
	// member would be written twice.
	maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool {
		return slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) })
	})
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

// NeedsTokens says that a pod is not ready, whatever the cluster says, because
// its tokens are still to be copied.
func (r Record) NeedsTokens() bool { return len(r.TokenKeys) > 0 && r.TokensAt.IsZero() }
