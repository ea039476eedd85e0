package kwok

import (
	"strings"
	"time"
)

// beat is the time between two states that follow each other by themselves. A kubelet takes longer; tests should not.
const beat = 300 * time.Millisecond

// state is what a pod reports at one time. All its containers are in the same state.
type state struct {
	Phase      string      `json:"phase"`
	Container  string      `json:"container"` // waiting, running or terminated.
	Reason     string      `json:"reason"`    // Of the container's state; $image, $container and $pod are replaced in the message.
	Message    string      `json:"message"`
	ExitCode   int         `json:"exitCode"`
	Restarts   int         `json:"restarts"` // Added to the container's count.
	Ready      bool        `json:"ready"`
	Sandbox    bool        `json:"sandbox"` // The pod has an address.
	PodReason  string      `json:"podReason"`
	PodMessage string      `json:"podMessage"`
	Conditions []condition `json:"conditions"`
}

type condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// event is recorded about a pod; the message is as in state.
type event struct {
	Type    string `json:"type"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// step leads a pod into a state.
type step struct {
	after  time.Duration
	delay  bool // After the pod's delay instead.
	to     state
	events []event
}

// scripts are what the pods of each stage play. A step starts where the one before it ended, the first at a pod that was just scheduled;
// a step back to an earlier state makes a loop.
func scripts() map[string][]step {
	return map[string][]step{
		"":           {{to: ready()}},
		SlowPull:     {{to: waiting("ContainerCreating", ""), events: []event{pulling()}}, {delay: true, to: ready(), events: pulled()}},
		PullFails:    pullFails(),
		Crash:        crash(),
		NeverReady:   {{to: unready(), events: []event{unhealthy()}}},
		Unready:      {{to: unready(), events: []event{unhealthy()}}, {delay: true, to: ready()}},
		Flaps:        {{to: ready()}, {delay: true, to: unready(), events: []event{unhealthy()}}, {delay: true, to: recovered()}},
		Fails:        {{to: waiting("ContainerCreating", "")}, {after: beat, to: ended("Failed", "Error", 1)}},
		Completes:    {{to: ready()}, {delay: true, to: ended("Succeeded", "Completed", 0)}},
		CrashesLater: {{to: ready()}, {delay: true, to: ended("Failed", "Error", 1)}},
		OOM:          {{to: ready()}, {delay: true, to: ended("Failed", "OOMKilled", 137)}},
		Evict:        {{to: ready()}, {delay: true, to: evicted(), events: []event{{"Warning", "Evicted", lowMemory}}}},
		Stuck:        {{to: ready()}},
		InvalidImage: {{
			to:     waiting("InvalidImageName", badName),
			events: []event{{"Warning", "InspectFailed", badName}, {"Warning", "Failed", "Error: InvalidImageName"}},
		}},
	}
}

const badName = `Failed to apply default image tag "$image": couldn't parse image name "$image": invalid reference format`

func pullFails() []step {
	const cause = `failed to pull and unpack image "$image": failed to resolve reference "$image": not found`
	err := step{
		after: beat, to: waiting("ErrImagePull", cause),
		events: []event{{"Warning", "Failed", `Failed to pull image "$image": ` + cause}, {"Warning", "Failed", "Error: ErrImagePull"}},
	}
	backOff := step{
		after: beat, to: waiting("ImagePullBackOff", `Back-off pulling image "$image": ErrImagePull: `+cause),
		events: []event{{"Normal", "BackOff", `Back-off pulling image "$image"`}, {"Warning", "Failed", "Error: ImagePullBackOff"}},
	}
	return []step{{to: waiting("ContainerCreating", ""), events: []event{pulling()}}, err, backOff, err}
}

func crash() []step {
	terminated := unready()
	terminated.Container, terminated.Reason, terminated.ExitCode = "terminated", "Error", 1
	const message = "back-off 5m0s restarting failed container=$container pod=$pod"
	backOff := waiting("CrashLoopBackOff", message)
	backOff.Phase = "Running"
	restarted := unready()
	restarted.Restarts = 1
	return []step{
		{to: unready(), events: pulled()},
		{after: beat, to: terminated},
		{after: beat, to: backOff, events: []event{{"Warning", "BackOff", "Back-off restarting failed container $container in pod $pod"}}},
		{after: beat, to: restarted},
	}
}

func pulling() event { return event{"Normal", "Pulling", `Pulling image "$image"`} }

func pulled() []event {
	return []event{
		{"Normal", "Pulled", `Successfully pulled image "$image" in 3s (3s including waiting). Image size: 29150479 bytes.`},
		{"Normal", "Created", "Container created"},
		{"Normal", "Started", "Container started"},
	}
}

func unhealthy() event {
	return event{"Warning", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"}
}

func ready() state {
	return state{Phase: "Running", Container: "running", Ready: true, Sandbox: true, Conditions: conditions("True", "True", "", "")}
}

// recovered is ready with a mark, so that it is not where ready was.
func recovered() state {
	s := ready()
	s.Conditions = conditions("True", "True", "ProbeSucceeded", "")
	return s
}

func unready() state {
	return state{Phase: "Running", Container: "running", Sandbox: true, Conditions: notReady("True")}
}

func waiting(reason, message string) state {
	// A kubelet reports the address only after the first image has been pulled or not.
	sandbox, status := reason != "ContainerCreating", "False"
	if sandbox {
		status = "True"
	}
	return state{Phase: "Pending", Container: "waiting", Reason: reason, Message: message, Sandbox: sandbox, Conditions: notReady(status)}
}

func ended(phase, reason string, exitCode int) state {
	cause := "PodFailed"
	if phase == "Succeeded" {
		cause = "PodCompleted"
	}
	return state{
		Phase: phase, Container: "terminated", Reason: reason, ExitCode: exitCode, Sandbox: true,
		Conditions: conditions("False", "False", cause, ""),
	}
}

const lowMemory = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 81920Ki. "

func evicted() state {
	s := ended("Failed", "Error", 137)
	s.PodReason, s.PodMessage = "Evicted", lowMemory
	s.Conditions = append(s.Conditions, condition{Type: "DisruptionTarget", Status: "True", Reason: "TerminationByKubelet", Message: lowMemory})
	return s
}

func notReady(sandbox string) []condition {
	return conditions(sandbox, "False", "ContainersNotReady", "containers with unready statuses: [$containers]")
}

func conditions(sandbox, ready, reason, message string) []condition {
	return []condition{
		{Type: "PodReadyToStartContainers", Status: sandbox},
		{Type: "Initialized", Status: "True"},
		{Type: "Ready", Status: ready, Reason: reason, Message: message},
		{Type: "ContainersReady", Status: ready, Reason: reason, Message: message},
	}
}

// fresh is the position of a pod that was just scheduled.
const fresh = "Pending////"

// positionQuery is the jq expression that computes position from a pod.
const positionQuery = `.status as $s | ($s.containerStatuses[0].state // {}) as $c | ` +
	`($s.conditions // [] | map(select(.type == "Ready"))[0] // {}) as $r | ` +
	`[$s.phase, ($c | keys[0]), ([$c[]][0].reason), $r.status, $r.reason] | map(. // "") | join("/")`

// position identifies the state by what it shows, so that KWOK needs to remember nothing and finds its place again after a restart.
func (s state) position() string {
	for _, c := range s.Conditions {
		if c.Type == "Ready" {
			return strings.Join([]string{s.Phase, s.Container, s.Reason, c.Status, c.Reason}, "/")
		}
	}
	return strings.Join([]string{s.Phase, s.Container, s.Reason, "", ""}, "/")
}
