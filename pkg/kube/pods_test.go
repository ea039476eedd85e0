package kube_test

import (
	corev1 "k8s.io/api/core/v1"
)

// aPod builds a pod on a node from its containers.
func aPod(parts ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "node-1"}}
	for _, part := range parts {
		part(pod)
	}

	return pod
}

func unscheduled(conditions ...corev1.PodCondition) *corev1.Pod {
	pod := withConditions(aPod(regular("web")), conditions...)
	pod.Spec.NodeName = ""

	return pod
}

func regular(name string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name})
	}
}

func initial(name string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: name})
	}
}

func sidecar(name string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		always := corev1.ContainerRestartPolicyAlways
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: name, RestartPolicy: &always})
	}
}

func policy(pod *corev1.Pod, policy corev1.RestartPolicy) *corev1.Pod {
	pod.Spec.RestartPolicy = policy

	return pod
}

func withConditions(pod *corev1.Pod, conditions ...corev1.PodCondition) *corev1.Pod {
	pod.Status.Conditions = append(pod.Status.Conditions, conditions...)

	return pod
}

// withStatus puts each status into the list that its container belongs to.
func withStatus(pod *corev1.Pod, list ...corev1.ContainerStatus) *corev1.Pod {
	initial := map[string]bool{}
	for _, container := range pod.Spec.InitContainers {
		initial[container.Name] = true
	}

	for _, status := range list {
		if initial[status.Name] {
			pod.Status.InitContainerStatuses = append(pod.Status.InitContainerStatuses, status)
		} else {
			pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, status)
		}
	}

	return pod
}

type change func(*corev1.ContainerStatus)

func status(name string, state corev1.ContainerState, changes []change) corev1.ContainerStatus {
	made := corev1.ContainerStatus{Name: name, State: state}
	for _, change := range changes {
		change(&made)
	}

	return made
}

func running(name string, ready bool, changes ...change) corev1.ContainerStatus {
	made := status(name, corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, changes)
	made.Ready = ready

	return made
}

func waits(name, reason, message string, changes ...change) corev1.ContainerStatus {
	state := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}

	return status(name, state, changes)
}

func ended(name string, exitCode int32, reason string, changes ...change) corev1.ContainerStatus {
	state := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: exitCode, Reason: reason}}

	return status(name, state, changes)
}

func hasStarted(s *corev1.ContainerStatus) {
	started := true
	s.Started = &started
}

func saying(message string) change {
	return func(s *corev1.ContainerStatus) { s.State.Terminated.Message = message }
}

func lastEnded(exitCode int32, reason, message string) change {
	return func(s *corev1.ContainerStatus) {
		s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: exitCode, Reason: reason, Message: message}
	}
}
