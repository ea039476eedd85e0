package kube

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// reasonNodeLost is the status reason of a pod that is being deleted while its
// node does not answer: nobody will ever report it ended.
const reasonNodeLost = "NodeLost"

// ending says whether a pod has ended and why. What the cluster did to it comes
// before how its containers ended, since they end because of that.
func ending(pod *corev1.Pod) (Cause, bool) {
	status := &pod.Status

	if status.Reason == reasonNodeLost {
		return Cause{Reason: ReasonNodeLost, Message: either(status.Message, "the pod's node does not answer")}, true
	}

	ended := status.Phase == corev1.PodSucceeded || status.Phase == corev1.PodFailed

	if cause, disrupted := disruption(status); disrupted {
		return cause, ended
	}

	switch status.Phase {
	case corev1.PodSucceeded:
		return succeeded(pod), true
	case corev1.PodFailed:
		return failed(pod), true
	default:
		return Cause{}, false
	}
}

// disruption reads the condition that says that the cluster puts the pod out.
func disruption(status *corev1.PodStatus) (Cause, bool) {
	target := condition(status, corev1.DisruptionTarget)
	if target == nil || target.Status != corev1.ConditionTrue {
		return Cause{}, false
	}

	cause := Cause{Reason: ReasonEvicted, Message: target.Reason}
	if target.Message != "" {
		cause.Message += ": " + target.Message
	}

	switch target.Reason {
	case "DeletionByPodGC", "DeletionByTaintManager":
		cause.Reason = ReasonNodeLost
	case corev1.PodReasonTerminationByKubelet:
		// Kubelet writes its own reason and message (memory pressure, a shutdown) as
		// the status's, and they say more.
		cause.Message = either(status.Message, cause.Message)
	}

	return cause, true
}

func succeeded(pod *corev1.Pod) Cause {
	cause := Cause{Reason: ReasonCompleted, Message: "all containers ended with exit code 0"}
	if len(pod.Spec.Containers) > 0 {
		cause.Container = pod.Spec.Containers[0].Name
	}

	return cause
}

// failed finds out why a pod's phase is Failed. A reason in the status is a word
// of kubelet's about the whole pod: Evicted, Preempting, Terminated (the node
// shuts down), DeadlineExceeded, or why the node did not admit it (OutOfcpu,
// NodeAffinity, UnexpectedAdmissionError, …). In all of them the node put it out.
func failed(pod *corev1.Pod) Cause {
	status := &pod.Status

	if status.Reason != "" {
		cause := Cause{Reason: ReasonEvicted, Message: status.Reason}
		if status.Message != "" {
			cause.Message += ": " + status.Message
		}

		return cause
	}

	if cause, found := culprit(pod); found {
		return cause
	}

	return Cause{Reason: ReasonCrashed, Message: either(status.Message, "the pod failed; Kubernetes does not say why")}
}

// culprit picks the container that a pod failed of: one that ran out of memory
// before others, then the one that ended first. Sidecars count only if no other
// ended with an error: they are killed when the others have ended.
func culprit(pod *corev1.Pod) (Cause, bool) {
	var (
		worst  Cause
		rank   int
		ended  time.Time
		exists bool
	)

	for _, c := range containers(pod) {
		last := c.status.State.Terminated
		if last == nil {
			last = c.status.LastTerminationState.Terminated
		}

		if last == nil || last.ExitCode == 0 {
			continue
		}

		cause := c.exit(last)
		weight := 1

		switch {
		case c.kind == sidecar:
			weight = 0
		case cause.Reason == ReasonOOMKilled:
			weight = 2
		}

		if !exists || weight > rank || (weight == rank && last.FinishedAt.Time.Before(ended)) {
			worst, rank, ended, exists = cause, weight, last.FinishedAt.Time, true
		}
	}

	return worst, exists
}
