package kube_test

import (
	"encoding/json"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"berth/pkg/kube"
)

// TestObserveIgnoresOrder draws statuses from the words that kubelet uses, in
// combinations that it does not, and checks what holds for every State.
func TestObserveIgnoresOrder(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		pod := drawPod(t)
		signal := rapid.SampledFrom([]*kube.Signal{
			nil,
			{Reason: "Pulling", Message: "pulling", Container: "a"},
			{Reason: "FailedMount", Message: "mounting"},
			{Reason: "Failed", Message: "Failed to pull image"},
			{Reason: "BackOff", Message: "Back-off restarting failed container"},
		}).Draw(t, "signal")

		state := kube.Observe(pod, signal)
		checkState(t, state)

		slices.Reverse(pod.Status.ContainerStatuses)
		slices.Reverse(pod.Status.InitContainerStatuses)
		slices.Reverse(pod.Status.Conditions)

		if diff := cmp.Diff(state, kube.Observe(pod, signal)); diff != "" {
			t.Fatalf("order matters:\n%s", diff)
		}
	})
}

// FuzzObserve decodes a pod out of whatever the API server might send.
func FuzzObserve(f *testing.F) {
	f.Add([]byte(`{"spec":{"nodeName":"n","containers":[{"name":"a"}]},"status":{"phase":"Running","containerStatuses":[{"name":"a","state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}}`), "Pulling")
	f.Add([]byte(`{"status":{"phase":"Failed","reason":"Evicted"}}`), "")
	f.Fuzz(func(t *testing.T, data []byte, reason string) {
		var pod corev1.Pod
		if json.Unmarshal(data, &pod) != nil {
			return
		}

		checkState(t, kube.Observe(&pod, nil))
		checkState(t, kube.Observe(&pod, &kube.Signal{Reason: reason, Message: reason}))
	})
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func checkState(t fataler, state kube.State) {
	if state.Ended && state.End.Reason == "" {
		t.Fatalf("ended without a reason: %+v", state)
	}

	if waits := state.Waiting.Reason != ""; waits != (!state.Ready && !state.Ended) {
		t.Fatalf("a pod waits if it is neither ready nor ended: %+v", state)
	}

	if state.Ready && state.Ended || state.Hopeless && (state.Ready || state.Ended) {
		t.Fatalf("contradiction: %+v", state)
	}

	for _, message := range []string{state.End.Message, state.Waiting.Message} {
		if len(message) > 1024 || !utf8.ValidString(message) {
			t.Fatalf("message of %d bytes: %q", len(message), message)
		}
	}
}

func drawPod(t *rapid.T) *corev1.Pod {
	pod := aPod(initial("i"), sidecar("s"), regular("a"), regular("b"))
	pod.Spec.NodeName = rapid.SampledFrom([]string{"", "node"}).Draw(t, "node")
	pod.Spec.RestartPolicy = rapid.SampledFrom([]corev1.RestartPolicy{"", "Always", "OnFailure", "Never"}).Draw(t, "policy")
	pod.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{"", "Pending", "Running", "Succeeded", "Failed", "Unknown"}).Draw(t, "phase")
	pod.Status.Reason = rapid.SampledFrom([]string{"", "", "", "Evicted", "NodeLost", "OutOfcpu"}).Draw(t, "status reason")

	for _, kind := range []corev1.PodConditionType{corev1.PodReady, corev1.PodScheduled, corev1.DisruptionTarget} {
		value := rapid.SampledFrom([]corev1.ConditionStatus{"True", "False", "Unknown"}).Draw(t, string(kind))
		pod = withConditions(pod, corev1.PodCondition{Type: kind, Status: value, Reason: "Because"})
	}

	for _, name := range []string{"i", "s", "a", "b"} {
		if rapid.Bool().Draw(t, name+" has a status") {
			pod = withStatus(pod, drawStatus(t, name))
		}
	}

	return pod
}

func drawStatus(t *rapid.T, name string) corev1.ContainerStatus {
	reasons := []string{
		"", "ContainerCreating", "PodInitializing", "CrashLoopBackOff", "ErrImagePull", "ImagePullBackOff",
		"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "RunContainerError", "Odd",
	}
	exit := rapid.SampledFrom([]int32{0, 1, 137}).Draw(t, name+" exit code")
	ends := rapid.SampledFrom([]string{"", "Error", "Completed", "OOMKilled"}).Draw(t, name+" ended")
	made := []corev1.ContainerStatus{
		{Name: name},
		running(name, rapid.Bool().Draw(t, name+" ready")),
		waits(name, rapid.SampledFrom(reasons).Draw(t, name+" waits"), "m"),
		waits(name, rapid.SampledFrom(reasons).Draw(t, name+" waits again"), "m", lastEnded(exit, ends, "")),
		ended(name, exit, ends),
	}

	return rapid.SampledFrom(made).Draw(t, name+" status")
}
