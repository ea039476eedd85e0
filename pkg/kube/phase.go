package kube

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// State is what one look at a pod tells.
type State struct {
	UID             string
	ResourceVersion string
	// Phase is the pod's phase as Kubernetes writes it.
	Phase string

	// Ready is the pod's Ready condition. It may still be true while Deleting.
	Ready bool
	// WasReady says that the pod is not Ready and has been, as far as its status
	// tells: the condition changed after the start, or all containers are ready.
	WasReady bool
	// Deleting says that somebody has asked for the pod's deletion.
	Deleting bool
	// Ended says that the pod's containers have ended for good, or that its node
	// is lost and the pod with it.
	Ended bool

	// End says why the pod has ended. It is also set while the pod still runs, as
	// soon as the cluster has announced that it puts the pod out.
	End Cause
	// Waiting says what keeps the pod from being ready: the one worst thing, by
	// the same choice every time. It is empty when the pod is Ready or has Ended.
	Waiting Cause
	// BackOff says that the node waits before it tries to pull an image again.
	// Each change from false to true is one more failed round.
	BackOff bool
	// Hopeless says that the pod can never become ready, however long one waits.
	Hopeless bool
	// Progress grows while the pod gets further: scheduled, its sandbox made; then
	// for each container the pull begun and done, started, ready. It can fall back
	// (a crash, a restarted node), so compare it with the highest seen.
	Progress int
	// Restarts counts the restarts of all containers.
	Restarts int

	// IPs are the pod's addresses as Kubernetes writes them.
	IPs []string
	// HostNetwork says that IPs are the node's and not the pod's own.
	HostNetwork bool
	NodeName    string
	HostIP      string
	// StartTime is zero until a node has accepted the pod.
	StartTime time.Time
	// ContainerName and ContainerImage are the first container's.
	ContainerName  string
	ContainerImage string
}

// Cause is a reason with what is known about it. The zero Cause is no reason.
type Cause struct {
	// Reason is one of the Reason constants.
	Reason string
	// Message is for people; it names the container where there is one.
	Message string
	// Container is the name of the container that is to blame, or empty.
	Container string
	// ExitCode is that container's, for CRASHED, OOM_KILLED and COMPLETED.
	ExitCode int32
}

// Observe classifies a pod. signal is the newest Kubernetes event about this pod
// (see SignalOf), or nil; it only says more about a pod that is on its way, the
// status decides. Observe is a function of its arguments alone, takes every
// status that the API server can return, and never modifies pod.
func Observe(pod *corev1.Pod, signal *Signal) State {
	status := &pod.Status
	state := State{
		UID:             string(pod.UID),
		ResourceVersion: pod.ResourceVersion,
		Phase:           string(status.Phase),
		Ready:           conditionTrue(status, corev1.PodReady),
		Deleting:        pod.DeletionTimestamp != nil,
		Progress:        progress(pod, signal),
		Restarts:        restarts(status),
		IPs:             addresses(status),
		HostNetwork:     pod.Spec.HostNetwork,
		NodeName:        pod.Spec.NodeName,
		HostIP:          status.HostIP,
	}

	if status.StartTime != nil {
		state.StartTime = status.StartTime.Time
	}

	if len(pod.Spec.Containers) > 0 {
		state.ContainerName = pod.Spec.Containers[0].Name
		state.ContainerImage = pod.Spec.Containers[0].Image
	}

	state.End, state.Ended = ending(pod)
	state.WasReady = !state.Ready && wasReady(pod)

	switch {
	case state.Ended:
		state.Ready = false
	case !state.Ready:
		worst := waiting(pod, signal)
		state.Waiting, state.BackOff, state.Hopeless = worst.cause, worst.backOff, worst.hopeless
	}

	state.End.Message = bound(state.End.Message)
	state.Waiting.Message = bound(state.Waiting.Message)

	return state
}

// readyAtStart is within what time of a pod's start its Ready condition, false at
// first, is written.
const readyAtStart = 2 * time.Second

func wasReady(pod *corev1.Pod) bool {
	status := &pod.Status
	if status.StartTime == nil {
		return false
	}

	if ready := condition(status, corev1.PodReady); ready != nil && ready.LastTransitionTime.Sub(status.StartTime.Time) > readyAtStart {
		return true
	}

	for i := range status.ContainerStatuses {
		if !status.ContainerStatuses[i].Ready {
			return false
		}
	}

	return len(status.ContainerStatuses) > 0
}

func condition(status *corev1.PodStatus, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range status.Conditions {
		if status.Conditions[i].Type == kind {
			return &status.Conditions[i]
		}
	}

	return nil
}

func conditionTrue(status *corev1.PodStatus, kind corev1.PodConditionType) bool {
	found := condition(status, kind)

	return found != nil && found.Status == corev1.ConditionTrue
}

func restarts(status *corev1.PodStatus) int {
	sum := 0

	for _, list := range [][]corev1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses} {
		for i := range list {
			sum += int(list[i].RestartCount)
		}
	}

	return sum
}

// addresses reads podIPs; podIP alone is what nodes without dual stack write.
func addresses(status *corev1.PodStatus) []string {
	var ips []string

	for _, ip := range status.PodIPs {
		if ip.IP != "" {
			ips = append(ips, ip.IP)
		}
	}

	if len(ips) == 0 && status.PodIP != "" {
		ips = []string{status.PodIP}
	}

	return ips
}

// bound makes a message valid UTF-8 of at most maxMessage bytes, without U+0000, which databases do not take.
func bound(message string) string {
	const mark = "…"

	message = strings.ReplaceAll(strings.ToValidUTF8(message, "?"), "\x00", "")
	if len(message) <= maxMessage {
		return message
	}

	return strings.ToValidUTF8(message[:maxMessage-len(mark)], "") + mark
}
