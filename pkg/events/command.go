package events

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Stage is a step of work on a pod; each has one durable consumer a cluster.
type Stage string

// The stages.
const (
	// StageCreate renders a pod and claims its name; the creator's.
	StageCreate Stage = "create"
	// StageLicense checks and applies licenses; the licenser's.
	StageLicense Stage = "license"
	// StageLaunch makes the objects in Kubernetes; the creator's.
	StageLaunch Stage = "launch"
	// StageFinish copies the tokens out of a pod; the creator's.
	StageFinish Stage = "finish"
	// StageDelete removes them; the deleter's.
	StageDelete Stage = "delete"
	// StageDeleteUser removes everything of a user; the deleter's.
	StageDeleteUser Stage = "delete_user"
	// StageSweep looks for what no pod needs any more, and removes it; the deleter's.
	StageSweep Stage = "sweep"
	// StageRestart deletes a project's pod and has another one made; the creator's.
	StageRestart Stage = "restart"
	// StageProject does what has to be done about a project or a license when no pod is
	// being made: start, compute again, stop for idleness; the licenser's.
	StageProject Stage = "project"
)

// Stages lists all stages in the order of a pod's life.
func Stages() []Stage {
	return []Stage{StageCreate, StageLicense, StageLaunch, StageFinish, StageDelete, StageDeleteUser, StageSweep, StageRestart, StageProject}
}

// ofPod says whether the commands of a stage are about one pod that has a name.
func (s Stage) ofPod() bool {
	return s == StageLicense || s == StageLaunch || s == StageFinish || s == StageDelete || s == StageRestart
}

// Timer is the kind of a durable timer.
type Timer string

// The timers of a pod fire into [StageDelete].
const (
	// TimerCreate ends a create that is not ready in time.
	TimerCreate Timer = "create"
	// TimerDelete drives a delete again that has not come to its end.
	TimerDelete Timer = "delete"
)

// The timers of projects and licenses fire into [StageProject].
const (
	// TimerActivates and TimerExpires are when a license begins and ends to be valid.
	TimerActivates Timer = "activates"
	TimerExpires   Timer = "expires"
	// TimerRecompute spreads over time what a change of a license does to many projects.
	TimerRecompute Timer = "recompute"
	// TimerStart is when a project that has died is started again.
	TimerStart Timer = "start"
	// TimerIdle is when a project may have been idle for long enough to be warned or stopped.
	TimerIdle Timer = "idle"
)

// The limits of a command, far under a NATS server's default max_payload of 1 MiB.
const (
	// MaxCommand is the size of a command, in bytes, at the most.
	MaxCommand = 896 << 10
	// MaxManifest is the size of a manifest, in bytes, at the most.
	MaxManifest = 256 << 10
)

// Command asks a stage to do something. Which members are set depends on the
// stage; [Command.Check] says.
type Command struct {
	Stage   Stage  `json:"stage"`
	ID      string `json:"command_id"`
	Cluster string `json:"cluster"`
	User    string `json:"user_id"`
	// Pod and Generation say which pod is meant; a create has none yet.
	Pod        string `json:"pod_name,omitempty"`
	Generation string `json:"generation,omitempty"`
	// Traceparent carries the W3C trace context; empty for none.
	Traceparent string `json:"traceparent,omitempty"`

	// After is what the sender knew as the newest record of the pod. It may be
	// stale, and nothing is denied because of it; it saves the stage a read.
	After *Known `json:"after,omitempty"`

	Create *CreateRequest `json:"create,omitempty"`
	// Rendered is the pod as it goes to Kubernetes, with its variables: for
	// license and launch. For the license stage of a project it is the template as the
	// site keeps it.
	Rendered json.RawMessage `json:"rendered,omitempty"`
	// Project is what a start of a project asks for: for the license stage of a project.
	Project *ProjectRequest `json:"project,omitempty"`
	// Labels and Annotations are those by which Berth knows the pod of a project, which its
	// template does not have: for the license stage of a project.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Delete      *DeleteRequest    `json:"delete,omitempty"`
	Sweep       *SweepRequest     `json:"sweep,omitempty"`
	Restart     *Restart          `json:"restart,omitempty"`
	Task        *ProjectTask      `json:"task,omitempty"`
}

// SweepRequest says how to look for what is left over.
type SweepRequest struct {
	// DryRun means to report what there is and to remove nothing.
	DryRun bool `json:"dry_run,omitempty"`
	// Spare is the age, in seconds, below which something is left alone. For what Berth
	// makes the log is enough to go by; it is for whoever makes objects without it.
	Spare int `json:"spare_seconds,omitempty"`
}

// Known is a record with its place in the log.
type Known struct {
	Sequence uint64 `json:"sequence"`
	Record   Record `json:"record"`
}

// CreateRequest is what a silo asks for: a pod of a manifest, or of a project.
type CreateRequest struct {
	ManifestURL string          `json:"manifest_url,omitempty"`
	Project     *ProjectRequest `json:"project,omitempty"`
	// Settings are variables by container and name.
	Settings map[string]map[string]string `json:"settings,omitempty"`
	Silo     Silo                         `json:"silo"`
	// Deadline is when the api stops waiting for an outcome. After it nothing is
	// made any more, unless the command was accepted before.
	Deadline time.Time `json:"deadline"`
}

// Manifest is the manifest's URL as people may see it: without its query, which may
// hold a token.
func (r CreateRequest) Manifest() string {
	address, _, _ := strings.Cut(r.ManifestURL, "?")
	return address
}

// Silo says who asks, as far as a pod's variables need it.
type Silo struct {
	Name string `json:"name"`
	// DataAddress is the silo's address in the data network.
	DataAddress string `json:"data_address,omitempty"`
	HostName    string `json:"host_name,omitempty"`
}

// DeleteRequest says why a delete is asked for. All members may be empty: a
// user asks.
type DeleteRequest struct {
	// Timer is set when a timer fired.
	Timer Timer `json:"timer,omitempty"`
	// Vanished is the UID of an object of the pod that is no more.
	Vanished string `json:"vanished,omitempty"`
	// Found is the UID of an object in the cluster whose pod the log knows as
	// failed, deleting or gone.
	Found string `json:"found,omitempty"`
	// LaunchOver says that no launch of this generation is under way any more,
	// so that an object that is not there will not appear.
	LaunchOver bool `json:"launch_over,omitempty"`
	// Stop means that no other pod is to follow, whatever was asked before. StopAt is the stop's
	// place in the log, 0 if it has none: what is asked for by somebody who knew of it comes after it, and holds.
	Stop   bool   `json:"stop,omitempty"`
	StopAt uint64 `json:"stop_at,omitempty"`
	// Reason and Message go into the record; a user who asks gives none.
	Reason  Reason `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// EndOf says that the request is the news that the very object is gone which the
// record says is being deleted. After that record nothing comes but gone: it
// cannot be out of date in a way that matters, as it can for any other news, when
// it may be of an earlier life of the name.
func (r DeleteRequest) EndOf(record Record) bool {
	return record.Event == Deleting && r.Found == "" && r.Vanished != "" && r.Vanished == record.Observed.UID
}

// ErrStage is returned for a command of a stage that this version does not know.
var ErrStage = errors.New("unknown stage")

// MsgID is the id by which JetStream swallows a command published twice. cause
// is the log sequence or the resource version that led to the command.
func (c Command) MsgID(cause string) string { return c.ID + "." + string(c.Stage) + "." + cause }

// Subject is where the command waits for its stage.
func (c Command) Subject() string { return CommandSubject(c.Cluster, c.Stage, c.ID) }

// Marshal returns the command's wire form. It returns what [Command.Check]
// does, and [ErrTooLarge] over [MaxCommand] bytes.
func (c Command) Marshal() ([]byte, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("marshal command: %w: %w", ErrMalformed, err)
	}
	if len(b) > MaxCommand {
		return nil, fmt.Errorf("command of %d bytes, limit %d: %w", len(b), MaxCommand, ErrTooLarge)
	}
	return b, nil
}

// ParseCommand reads what [Command.Marshal] wrote, and the same from later
// versions. It returns [ErrMalformed], [ErrStage] or [ErrTooLarge].
func ParseCommand(b []byte) (Command, error) {
	if len(b) > MaxCommand {
		return Command{}, fmt.Errorf("command of %d bytes, limit %d: %w", len(b), MaxCommand, ErrTooLarge)
	}
	var c Command
	if err := json.Unmarshal(b, &c); err != nil {
		return Command{}, fmt.Errorf("read command: %w: %w", ErrMalformed, err)
	}
	if err := c.Check(); err != nil {
		return Command{}, err
	}
	return c, nil
}

// Check returns [ErrStage] for an unknown stage, [ErrMalformed], naming the
// member, for a command that its stage cannot carry out, and [ErrTooLarge] for
// one whose pod's subjects would be over [MaxSubject] bytes.
func (c Command) Check() error {
	if !slices.Contains(Stages(), c.Stage) {
		return fmt.Errorf("stage %q: %w", c.Stage, ErrStage)
	}
	missing := ""
	switch {
	case c.ID == "":
		missing = "command_id"
	case c.Cluster == "":
		missing = "cluster"
	case c.User == "" && c.Stage != StageSweep && c.Stage != StageProject:
		missing = "user_id"
	case c.Stage.ofPod() && c.Pod == "":
		missing = "pod_name"
	case c.Stage.ofPod() && c.Generation == "":
		missing = "generation"
	case c.Stage == StageCreate && c.Create == nil:
		missing = "create"
	case c.Stage == StageCreate && c.Create.ManifestURL == "" && c.Create.Project == nil:
		missing = "create.manifest_url"
	case c.Stage == StageCreate && c.Create.Deadline.IsZero():
		missing = "create.deadline"
	case (c.Stage == StageLicense || c.Stage == StageLaunch) && (len(c.Rendered) == 0 || string(c.Rendered) == "null"):
		missing = "rendered"
	case c.Stage == StageDelete && c.Delete == nil:
		missing = "delete"
	case c.Stage == StageSweep && c.Sweep == nil:
		missing = "sweep"
	case c.Stage == StageRestart && (c.Restart == nil || c.Restart.Command == ""):
		missing = "restart.command_id"
	case c.Stage == StageProject && c.Task == nil:
		missing = "task"
	}
	if missing != "" {
		return fmt.Errorf("%s command without %s: %w", c.Stage, missing, ErrMalformed)
	}
	if !utf8.ValidString(c.ID) {
		return fmt.Errorf("command_id is not UTF-8: %w", ErrMalformed)
	}
	if n := len(TimerSubject(c.Cluster, c.ID, TimerCreate)); n > MaxSubject {
		return fmt.Errorf("subject of %d bytes, limit %d: %w", n, MaxSubject, ErrTooLarge)
	}
	// A create gets its pod's name later; it must fit then.
	if err := checkName(c.Cluster, cmp.Or(c.Pod, strings.Repeat("x", maxPodName)), c.User); err != nil {
		return err
	}
	return c.checkProjects()
}

// maxPodName is the length of a pod's name, in bytes, at the most: a DNS label,
// since it is the host name too (RFC 1123).
const maxPodName = 63
