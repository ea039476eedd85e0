package kube_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"berth/pkg/kube"
)

// What the watcher does with each event of its watch.
func BenchmarkObserve(b *testing.B) {
	isReady := aPod(regular("web"), regular("db"))
	isReady.Status.Phase = corev1.PodRunning
	isReady.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	isReady.Status.ContainerStatuses = []corev1.ContainerStatus{running("web", true), running("db", true)}

	for name, tc := range map[string]struct {
		pod    *corev1.Pod
		signal *kube.Signal
	}{
		"ready":   {pod: isReady},
		"pulling": {pod: aPod(regular("web")), signal: &kube.Signal{Reason: "Pulling", Message: `Pulling image "big"`, Container: "web"}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()

			for b.Loop() {
				kube.Observe(tc.pod, tc.signal)
			}
		})
	}
}
