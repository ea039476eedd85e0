package kube_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/kube"
)

func TestObserveEnding(t *testing.T) {
	t.Parallel()

	failed := func(reason, message string, conditions ...corev1.PodCondition) *corev1.Pod {
		pod := withConditions(aPod(regular("web")), conditions...)
		pod.Status.Phase, pod.Status.Reason, pod.Status.Message = corev1.PodFailed, reason, message

		return pod
	}
	phase := func(pod *corev1.Pod, phase corev1.PodPhase) *corev1.Pod {
		pod.Status.Phase = phase

		return pod
	}
	target := func(reason, message string) corev1.PodCondition {
		return corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: message}
	}
	at := func(second int) func(*corev1.ContainerStatus) {
		return func(s *corev1.ContainerStatus) {
			s.State.Terminated.FinishedAt = metav1.NewTime(time.Unix(int64(second), 0))
		}
	}
	onFailure := policy(aPod(regular("web")), corev1.RestartPolicyOnFailure)

	tests := map[string]struct {
		pod         *corev1.Pod
		want        kube.Cause
		wantRunning bool
	}{
		"completed": {
			pod:  phase(withStatus(onFailure, ended("web", 0, "Completed")), corev1.PodSucceeded),
			want: kube.Cause{Reason: kube.ReasonCompleted, Message: "all containers ended with exit code 0", Container: "web"},
		},
		"crashed": {
			pod: phase(withStatus(aPod(regular("web")), ended("web", 1, "Error", saying("boom"))), corev1.PodFailed),
			want: kube.Cause{
				Reason: kube.ReasonCrashed, Message: `container "web" ended with exit code 1: boom`, Container: "web", ExitCode: 1,
			},
		},
		"program missing": {
			pod: phase(withStatus(aPod(regular("web")), ended("web", 128, "StartError", saying("no such file"))), corev1.PodFailed),
			want: kube.Cause{
				Reason: kube.ReasonCrashed, Container: "web", ExitCode: 128,
				Message: `container "web" ended with exit code 128 (StartError): no such file`,
			},
		},
		"out of memory": {
			pod: phase(withStatus(aPod(regular("web")), ended("web", 137, "OOMKilled")), corev1.PodFailed),
			want: kube.Cause{
				Reason: kube.ReasonOOMKilled, Message: `container "web" ended with exit code 137 (OOMKilled)`, Container: "web", ExitCode: 137,
			},
		},
		"out of memory comes before a crash": {
			pod: phase(withStatus(aPod(regular("a"), regular("b")),
				ended("a", 1, "Error", at(1)), ended("b", 137, "OOMKilled", at(2))), corev1.PodFailed),
			want: kube.Cause{
				Reason: kube.ReasonOOMKilled, Message: `container "b" ended with exit code 137 (OOMKilled)`, Container: "b", ExitCode: 137,
			},
		},
		"the first to crash": {
			pod: phase(withStatus(aPod(regular("a"), regular("b"), regular("c")),
				ended("a", 143, "Error", at(9)), ended("b", 2, "Error", at(3)), ended("c", 0, "Completed", at(1))), corev1.PodFailed),
			want: kube.Cause{
				Reason: kube.ReasonCrashed, Message: `container "b" ended with exit code 2`, Container: "b", ExitCode: 2,
			},
		},
		"init container crashed": {
			pod: phase(withStatus(aPod(initial("setup"), regular("web")),
				ended("setup", 4, "Error"), waits("web", "PodInitializing", "")), corev1.PodFailed),
			want: kube.Cause{
				Reason: kube.ReasonCrashed, Message: `container "setup" ended with exit code 4`, Container: "setup", ExitCode: 4,
			},
		},
		"a killed sidecar is not to blame": {
			pod: phase(withStatus(aPod(sidecar("proxy"), regular("web")),
				ended("proxy", 137, "Error", at(1)), ended("web", 5, "Error", at(2))), corev1.PodFailed),
			want: kube.Cause{
				Reason: kube.ReasonCrashed, Message: `container "web" ended with exit code 5`, Container: "web", ExitCode: 5,
			},
		},
		"no container statuses": {
			pod:  failed("", ""),
			want: kube.Cause{Reason: kube.ReasonCrashed, Message: "the pod failed; Kubernetes does not say why"},
		},
		"evicted for want of memory": {
			pod:  failed("Evicted", "The node was low on resource: memory."),
			want: kube.Cause{Reason: kube.ReasonEvicted, Message: "Evicted: The node was low on resource: memory."},
		},
		"evicted, as new kubelets say it": {
			pod: failed("Evicted", "The node was low on resource: memory.",
				target("TerminationByKubelet", "The node was low on resource: memory.")),
			want: kube.Cause{Reason: kube.ReasonEvicted, Message: "The node was low on resource: memory."},
		},
		"evicted by the API": {
			pod: failed("", "", target("EvictionByEvictionAPI", "Eviction API: evicting")),
			want: kube.Cause{
				Reason: kube.ReasonEvicted, Message: "EvictionByEvictionAPI: Eviction API: evicting",
			},
		},
		"refused by the node": {
			pod:  failed("OutOfcpu", "Node didn't have enough resource: cpu"),
			want: kube.Cause{Reason: kube.ReasonEvicted, Message: "OutOfcpu: Node didn't have enough resource: cpu"},
		},
		"node shuts down": {
			pod:  failed("Terminated", "Pod was terminated in response to imminent node shutdown."),
			want: kube.Cause{Reason: kube.ReasonEvicted, Message: "Terminated: Pod was terminated in response to imminent node shutdown."},
		},
		"own deadline": {
			pod:  failed("DeadlineExceeded", ""),
			want: kube.Cause{Reason: kube.ReasonEvicted, Message: "DeadlineExceeded"},
		},
		"node deleted": {
			pod:  failed("", "", target("DeletionByPodGC", "PodGC: node no longer exists")),
			want: kube.Cause{Reason: kube.ReasonNodeLost, Message: "DeletionByPodGC: PodGC: node no longer exists"},
		},
		"preempted, still running": {
			pod: withConditions(withStatus(aPod(regular("web")), running("web", true)),
				target("PreemptionByScheduler", "preempting to accommodate a higher priority pod")),
			want: kube.Cause{
				Reason: kube.ReasonEvicted, Message: "PreemptionByScheduler: preempting to accommodate a higher priority pod",
			},
			wantRunning: true,
		},
		"node unreachable, being deleted by its taint": {
			pod: withConditions(withStatus(aPod(regular("web")), running("web", true)), target("DeletionByTaintManager", "")),
			want: kube.Cause{
				Reason: kube.ReasonNodeLost, Message: "DeletionByTaintManager",
			},
			wantRunning: true,
		},
		"a disruption that was called off": {
			pod: withConditions(withStatus(aPod(regular("web")), running("web", true)), corev1.PodCondition{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse, Reason: "EvictionByEvictionAPI",
			}),
			wantRunning: true,
		},
		"node lost": {
			pod: func() *corev1.Pod {
				pod := phase(aPod(regular("web")), corev1.PodRunning)
				pod.Status.Reason = "NodeLost"

				return pod
			}(),
			want: kube.Cause{Reason: kube.ReasonNodeLost, Message: "the pod's node does not answer"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			got := kube.Observe(tc.pod, nil)
			if diff := cmp.Diff(tc.want, got.End); diff != "" {
				t.Errorf("End (-want +got):\n%s", diff)
			}

			if got.Ended == tc.wantRunning {
				t.Errorf("Ended = %v", got.Ended)
			}

			if got.Ended && (got.Ready || got.Waiting != kube.Cause{}) {
				t.Errorf("ended, but ready %v, waiting for %+v", got.Ready, got.Waiting)
			}
		})
	}
}
