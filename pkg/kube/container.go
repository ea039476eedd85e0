package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// container is a container of a pod, in the order in which it starts, with its
// status. A container that the status does not mention has an empty one.
type container struct {
	spec   *corev1.Container
	status *corev1.ContainerStatus
	kind   containerKind
}

type containerKind int

const (
	regular containerKind = iota
	// initial containers run one after another before the regular ones start.
	initial
	// sidecars are started among the initial ones and run as long as the pod.
	sidecar
)

// containers lists init containers and sidecars first, then the regular ones,
// each in the order of the spec, whatever the order of the statuses.
func containers(pod *corev1.Pod) []container {
	list := make([]container, 0, len(pod.Spec.InitContainers)+len(pod.Spec.Containers))

	for i := range pod.Spec.InitContainers {
		spec := &pod.Spec.InitContainers[i]
		kind := initial

		if spec.RestartPolicy != nil && *spec.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			kind = sidecar
		}

		list = append(list, container{spec, statusOf(pod.Status.InitContainerStatuses, spec.Name), kind})
	}

	for i := range pod.Spec.Containers {
		spec := &pod.Spec.Containers[i]
		list = append(list, container{spec, statusOf(pod.Status.ContainerStatuses, spec.Name), regular})
	}

	return list
}

func statusOf(list []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}

	return &corev1.ContainerStatus{Name: name}
}

// started says whether the container has run at least once.
func (c container) started() bool {
	state, last := &c.status.State, &c.status.LastTerminationState

	return state.Running != nil || state.Terminated != nil || last.Terminated != nil || c.status.RestartCount > 0
}

// done says whether the container is where its pod needs it: an initial one has
// done its work, another one is ready. A sidecar's readiness counts too.
func (c container) done() bool {
	if c.kind == initial {
		return c.status.State.Terminated != nil && c.status.State.Terminated.ExitCode == 0
	}

	return c.status.Ready
}

// final says whether kubelet leaves the ended container as it is. Rules by exit
// code are not evaluated: a container that has some counts as restarted.
func (c container) final(pod *corev1.Pod, exitCode int32) bool {
	if c.kind == sidecar || len(c.spec.RestartPolicyRules) > 0 {
		return false
	}

	policy := pod.Spec.RestartPolicy
	if c.spec.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*c.spec.RestartPolicy)
	}

	return policy == corev1.RestartPolicyNever || (policy == corev1.RestartPolicyOnFailure && exitCode == 0)
}

// exit describes how a container ended.
func (c container) exit(ended *corev1.ContainerStateTerminated) Cause {
	cause := Cause{Reason: ReasonCrashed, Container: c.spec.Name, ExitCode: ended.ExitCode}

	switch {
	case ended.Reason == "OOMKilled":
		cause.Reason = ReasonOOMKilled
	case ended.ExitCode == 0:
		cause.Reason = ReasonCompleted
	}

	cause.Message = fmt.Sprintf("container %q ended with exit code %d", c.spec.Name, ended.ExitCode)
	if ended.Reason != "" && ended.Reason != "Error" && ended.Reason != "Completed" {
		cause.Message += " (" + ended.Reason + ")"
	}

	if ended.Message != "" {
		cause.Message += ": " + ended.Message
	}

	return cause
}

// Stages of a container, for progress.
const (
	stagePulling = 1
	stagePulled  = 2
	stageStarted = 3
	stageDone    = 4
)

func progress(pod *corev1.Pod, signal *Signal) int {
	sum := 0

	if pod.Spec.NodeName != "" {
		sum++
	}

	if conditionTrue(&pod.Status, corev1.PodReadyToStartContainers) {
		sum++
	}

	for _, c := range containers(pod) {
		sum += c.stage(signal)
	}

	return sum
}

func (c container) stage(signal *Signal) int {
	signalled := signal != nil && signal.Container == c.spec.Name

	switch {
	case c.done():
		return stageDone
	case c.started():
		return stageStarted
	case c.status.ImageID != "", signalled && signal.Reason == eventPulled:
		return stagePulled
	case signalled && signal.Reason == eventPulling:
		return stagePulling
	default:
		return 0
	}
}
