package kube

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// verdict is what one container contributes to the answer why its pod is not
// ready. The highest weight wins; among equals, the container that starts first.
type verdict struct {
	weight   int
	cause    Cause
	backOff  bool
	hopeless bool
}

// Weights: what cannot heal comes before what may, and what a user can mend
// before what only needs time.
const (
	weightNone = iota
	weightNotReady
	weightStarting
	weightPull
	weightConfig
	weightCrashed
	weightHopeless
)

// waiting says what keeps a pod from being ready that has not ended.
func waiting(pod *corev1.Pod, signal *Signal) verdict {
	if pod.Spec.NodeName == "" {
		return verdict{cause: unscheduled(&pod.Status, signal)}
	}

	var worst verdict

	for _, c := range containers(pod) {
		if found := c.verdict(pod); found.weight > worst.weight {
			worst = found
		}
	}

	switch worst.weight {
	case weightNone:
		worst.cause = Cause{Reason: ReasonNotReady, Message: notReady(&pod.Status)}
	case weightStarting:
		worst.cause = refine(worst.cause, signal)
	}

	return worst
}

// unscheduled describes a pod that has no node.
func unscheduled(status *corev1.PodStatus, signal *Signal) Cause {
	scheduled := condition(status, corev1.PodScheduled)
	if scheduled != nil && scheduled.Status == corev1.ConditionFalse {
		return Cause{Reason: ReasonUnschedulable, Message: either(scheduled.Message, scheduled.Reason)}
	}

	if signal != nil && signal.Reason == eventFailedScheduling {
		return Cause{Reason: ReasonUnschedulable, Message: signal.Message}
	}

	return Cause{Reason: ReasonStarting, Message: "waiting for the scheduler"}
}

// notReady describes a pod all of whose containers are ready, which is not ready
// itself: a readiness gate, or a node that no longer reports.
func notReady(status *corev1.PodStatus) string {
	if ready := condition(status, corev1.PodReady); ready != nil {
		if message := either(ready.Message, ready.Reason); message != "" {
			return message
		}
	}

	return "the pod is not ready"
}

// refine says more about a pod that is starting: kubelet leaves the status as it
// is while it mounts volumes and pulls images, and tells only by events.
func refine(cause Cause, signal *Signal) Cause {
	if signal == nil {
		return cause
	}

	switch signal.Reason {
	case eventPulling:
		cause.Reason = ReasonPulling
	case eventFailedMount, eventFailedAttach, eventFailedMap:
		cause.Reason = ReasonStoragePending
	case eventFailed:
		if !strings.HasPrefix(signal.Message, "Failed to pull image") {
			return cause
		}

		cause.Reason = ReasonImagePull
	case eventFailedSandbox:
	default:
		return cause
	}

	cause.Message, cause.Container = signal.Message, signal.Container

	return cause
}

// verdict judges one container of a pod that is scheduled and has not ended.
func (c container) verdict(pod *corev1.Pod) verdict {
	state := &c.status.State

	switch {
	case c.done():
		return verdict{}
	case state.Terminated != nil:
		return c.terminated(pod, state.Terminated)
	case state.Running != nil && c.before():
		return c.says(weightStarting, ReasonStarting, "is running before the others start")
	case state.Running != nil:
		return c.says(weightNotReady, ReasonNotReady, "is running but not ready")
	case state.Waiting != nil:
		return c.waiting(state.Waiting)
	default:
		return c.says(weightStarting, ReasonStarting, "has not started")
	}
}

// before says whether the containers behind this running one wait for it: kubelet
// starts them when an initial one has ended and a sidecar has started.
func (c container) before() bool {
	started := c.status.Started != nil && *c.status.Started

	return c.kind == initial || (c.kind == sidecar && !started)
}

// terminated judges a container that has ended while its pod has not: kubelet
// starts it again, or it stays and the pod can never be ready.
func (c container) terminated(pod *corev1.Pod, ended *corev1.ContainerStateTerminated) verdict {
	found := verdict{weight: weightCrashed, cause: c.exit(ended)}

	if c.final(pod, ended.ExitCode) {
		found.weight, found.hopeless = weightHopeless, true
		found.cause.Message += "; it is not started again, so the pod cannot become ready"

		return found
	}

	return restarted(found)
}

// restarted says of an exit without an error, where the container is started
// again and again, that it is a crash.
func restarted(found verdict) verdict {
	if found.cause.Reason == ReasonCompleted {
		found.cause.Reason = ReasonCrashed
	}

	found.cause.Message += "; it is started again"

	return found
}

// waiting judges a container by the reason with which kubelet lets it wait.
func (c container) waiting(why *corev1.ContainerStateWaiting) verdict {
	switch why.Reason {
	case "", "ContainerCreating", "PodInitializing":
		return c.says(weightStarting, ReasonStarting, "has not started")
	case "CrashLoopBackOff":
		if last := c.status.LastTerminationState.Terminated; last != nil {
			return restarted(verdict{weight: weightCrashed, cause: c.exit(last)})
		}

		return c.quotes(weightCrashed, ReasonCrashed, why)
	case "ErrImagePull", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed":
		return c.quotes(weightPull, ReasonImagePull, why)
	case "ImagePullBackOff":
		found := c.quotes(weightPull, ReasonImagePull, why)
		found.backOff = true

		return found
	case "InvalidImageName", "ErrImageNeverPull":
		found := c.quotes(weightHopeless, ReasonImagePull, why)
		found.hopeless = true

		return found
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError",
		"PreCreateHookError", "PreStartHookError", "PostStartHookError":
		return c.quotes(weightConfig, ReasonContainerConfig, why)
	default:
		return c.quotes(weightStarting, ReasonStarting, why)
	}
}

func (c container) says(weight int, reason, what string) verdict {
	message := fmt.Sprintf("container %q %s", c.spec.Name, what)

	return verdict{weight: weight, cause: Cause{Reason: reason, Message: message, Container: c.spec.Name}}
}

func (c container) quotes(weight int, reason string, why *corev1.ContainerStateWaiting) verdict {
	message := fmt.Sprintf("container %q: %s", c.spec.Name, why.Reason)
	if why.Message != "" {
		message += ": " + why.Message
	}

	return verdict{weight: weight, cause: Cause{Reason: reason, Message: message, Container: c.spec.Name}}
}

func either(first, second string) string {
	if first != "" {
		return first
	}

	return second
}
