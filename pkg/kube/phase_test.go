package kube_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/kube"
)

func TestObserveFacts(t *testing.T) {
	t.Parallel()

	started := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	deleted := metav1.NewTime(started.Add(time.Minute))
	pod := aPod(regular("web"), regular("db"))
	pod.UID, pod.ResourceVersion, pod.DeletionTimestamp = "u-1", "42", &deleted
	pod.Spec.Containers[0].Image = "example.org/web:1"
	pod.Spec.HostNetwork = true
	pod.Status.Phase = corev1.PodRunning
	pod.Status.StartTime = &metav1.Time{Time: started}
	pod.Status.HostIP = "10.0.0.1"
	pod.Status.PodIP = "10.2.0.1"
	pod.Status.PodIPs = []corev1.PodIP{{IP: "10.2.0.1"}, {IP: "fd00::1"}}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{
		running("web", true, func(s *corev1.ContainerStatus) { s.RestartCount = 2 }),
		running("db", true, func(s *corev1.ContainerStatus) { s.RestartCount = 1 }),
	}

	want := kube.State{
		UID: "u-1", ResourceVersion: "42", Phase: "Running", Ready: true, Deleting: true,
		Progress: 9, Restarts: 3, IPs: []string{"10.2.0.1", "fd00::1"}, HostNetwork: true,
		NodeName: "node-1", HostIP: "10.0.0.1", StartTime: started,
		ContainerName: "web", ContainerImage: "example.org/web:1",
	}
	if diff := cmp.Diff(want, kube.Observe(pod, nil)); diff != "" {
		t.Errorf("Observe (-want +got):\n%s", diff)
	}

	pod.Status.PodIPs = nil
	if diff := cmp.Diff([]string{"10.2.0.1"}, kube.Observe(pod, nil).IPs); diff != "" {
		t.Errorf("addresses of a node without dual stack (-want +got):\n%s", diff)
	}
}

func TestObserveWaiting(t *testing.T) {
	t.Parallel()

	pulling := &kube.Signal{Reason: "Pulling", Message: `Pulling image "big"`, Container: "web"}

	tests := map[string]struct {
		pod          *corev1.Pod
		signal       *kube.Signal
		want         kube.Cause
		wantBackOff  bool
		wantHopeless bool
	}{
		"not seen by the scheduler": {
			pod:  unscheduled(),
			want: kube.Cause{Reason: kube.ReasonStarting, Message: "waiting for the scheduler"},
		},
		"no node takes it": {
			pod: unscheduled(corev1.PodCondition{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available",
			}),
			want: kube.Cause{Reason: kube.ReasonUnschedulable, Message: "0/3 nodes are available"},
		},
		"scheduling gate": {
			pod: unscheduled(corev1.PodCondition{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "SchedulingGated",
			}),
			want: kube.Cause{Reason: kube.ReasonUnschedulable, Message: "SchedulingGated"},
		},
		"the event comes before the condition": {
			pod:    unscheduled(),
			signal: &kube.Signal{Reason: "FailedScheduling", Message: "no room"},
			want:   kube.Cause{Reason: kube.ReasonUnschedulable, Message: "no room"},
		},
		"scheduled, no status yet": {
			pod:  aPod(regular("web")),
			want: kube.Cause{Reason: kube.ReasonStarting, Message: `container "web" has not started`, Container: "web"},
		},
		"being pulled": {
			pod:    withStatus(aPod(regular("web")), waits("web", "ContainerCreating", "")),
			signal: pulling,
			want:   kube.Cause{Reason: kube.ReasonPulling, Message: `Pulling image "big"`, Container: "web"},
		},
		"pulled": {
			pod:    withStatus(aPod(regular("web")), waits("web", "ContainerCreating", "")),
			signal: &kube.Signal{Reason: "Pulled", Message: "Successfully pulled", Container: "web"},
			want:   kube.Cause{Reason: kube.ReasonStarting, Message: `container "web" has not started`, Container: "web"},
		},
		"a volume that does not mount": {
			pod:    withStatus(aPod(regular("web")), waits("web", "ContainerCreating", "")),
			signal: &kube.Signal{Reason: "FailedMount", Message: "MountVolume.SetUp failed"},
			want:   kube.Cause{Reason: kube.ReasonStoragePending, Message: "MountVolume.SetUp failed"},
		},
		"a volume that is not attached": {
			pod:    aPod(regular("web")),
			signal: &kube.Signal{Reason: "FailedAttachVolume", Message: "Multi-Attach error"},
			want:   kube.Cause{Reason: kube.ReasonStoragePending, Message: "Multi-Attach error"},
		},
		"no network": {
			pod:    withStatus(aPod(regular("web")), waits("web", "ContainerCreating", "")),
			signal: &kube.Signal{Reason: "FailedCreatePodSandBox", Message: "no addresses left"},
			want:   kube.Cause{Reason: kube.ReasonStarting, Message: "no addresses left"},
		},
		"the failed pull's event comes before the status": {
			pod:    withStatus(aPod(regular("web")), waits("web", "ContainerCreating", "")),
			signal: &kube.Signal{Reason: "Failed", Message: `Failed to pull image "nope": not found`, Container: "web"},
			want:   kube.Cause{Reason: kube.ReasonImagePull, Message: `Failed to pull image "nope": not found`, Container: "web"},
		},
		"an event says nothing about a pod that runs": {
			pod:    withStatus(aPod(regular("web")), running("web", false)),
			signal: pulling,
			want:   kube.Cause{Reason: kube.ReasonNotReady, Message: `container "web" is running but not ready`, Container: "web"},
		},
		"pull failed": {
			pod:  withStatus(aPod(regular("web")), waits("web", "ErrImagePull", "not found")),
			want: kube.Cause{Reason: kube.ReasonImagePull, Message: `container "web": ErrImagePull: not found`, Container: "web"},
		},
		"pull backs off": {
			pod:         withStatus(aPod(regular("web")), waits("web", "ImagePullBackOff", "Back-off pulling")),
			want:        kube.Cause{Reason: kube.ReasonImagePull, Message: `container "web": ImagePullBackOff: Back-off pulling`, Container: "web"},
			wantBackOff: true,
		},
		"registry down": {
			pod:  withStatus(aPod(regular("web")), waits("web", "RegistryUnavailable", "503")),
			want: kube.Cause{Reason: kube.ReasonImagePull, Message: `container "web": RegistryUnavailable: 503`, Container: "web"},
		},
		"invalid image name": {
			pod:          withStatus(aPod(regular("web")), waits("web", "InvalidImageName", "bad")),
			want:         kube.Cause{Reason: kube.ReasonImagePull, Message: `container "web": InvalidImageName: bad`, Container: "web"},
			wantHopeless: true,
		},
		"image never pulled": {
			pod:          withStatus(aPod(regular("web")), waits("web", "ErrImageNeverPull", "")),
			want:         kube.Cause{Reason: kube.ReasonImagePull, Message: `container "web": ErrImageNeverPull`, Container: "web"},
			wantHopeless: true,
		},
		"configuration missing": {
			pod:  withStatus(aPod(regular("web")), waits("web", "CreateContainerConfigError", `secret "s" not found`)),
			want: kube.Cause{Reason: kube.ReasonContainerConfig, Message: `container "web": CreateContainerConfigError: secret "s" not found`, Container: "web"},
		},
		"crash loop": {
			pod: withStatus(aPod(regular("web")), waits("web", "CrashLoopBackOff", "back-off 10s", lastEnded(3, "Error", "boom"))),
			want: kube.Cause{
				Reason: kube.ReasonCrashed, Container: "web", ExitCode: 3,
				Message: `container "web" ended with exit code 3: boom; it is started again`,
			},
		},
		"crash loop for want of memory": {
			pod: withStatus(aPod(regular("web")), waits("web", "CrashLoopBackOff", "", lastEnded(137, "OOMKilled", ""))),
			want: kube.Cause{
				Reason: kube.ReasonOOMKilled, Container: "web", ExitCode: 137,
				Message: `container "web" ended with exit code 137 (OOMKilled); it is started again`,
			},
		},
		"crash loop without an error": {
			pod: withStatus(aPod(regular("web")), waits("web", "CrashLoopBackOff", "", lastEnded(0, "Completed", ""))),
			want: kube.Cause{
				Reason: kube.ReasonCrashed, Container: "web",
				Message: `container "web" ended with exit code 0; it is started again`,
			},
		},
		"crash loop whose last end is lost": {
			pod:  withStatus(aPod(regular("web")), waits("web", "CrashLoopBackOff", "back-off 10s")),
			want: kube.Cause{Reason: kube.ReasonCrashed, Message: `container "web": CrashLoopBackOff: back-off 10s`, Container: "web"},
		},
		"ended and about to be started again": {
			pod: withStatus(aPod(regular("web")), ended("web", 1, "Error")),
			want: kube.Cause{
				Reason: kube.ReasonCrashed, Container: "web", ExitCode: 1,
				Message: `container "web" ended with exit code 1; it is started again`,
			},
		},
		"one of two has ended for good": {
			pod: withStatus(policy(aPod(regular("web"), regular("once")), corev1.RestartPolicyNever),
				running("web", true), ended("once", 0, "Completed")),
			want: kube.Cause{
				Reason: kube.ReasonCompleted, Container: "once",
				Message: `container "once" ended with exit code 0; it is not started again, so the pod cannot become ready`,
			},
			wantHopeless: true,
		},
		"rules by exit code are left to the node": {
			pod: withStatus(policy(aPod(func(pod *corev1.Pod) {
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
					Name: "web", RestartPolicyRules: []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart}},
				})
			}), corev1.RestartPolicyNever), ended("web", 42, "Error")),
			want: kube.Cause{
				Reason: kube.ReasonCrashed, Container: "web", ExitCode: 42,
				Message: `container "web" ended with exit code 42; it is started again`,
			},
		},
		"a reason of a future kubelet": {
			pod:  withStatus(aPod(regular("web")), waits("web", "Thawing", "soon")),
			want: kube.Cause{Reason: kube.ReasonStarting, Message: `container "web": Thawing: soon`, Container: "web"},
		},
		"the worst of several, whatever their order": {
			pod: withStatus(aPod(regular("a"), regular("b"), regular("c")),
				waits("c", "CrashLoopBackOff", "", lastEnded(1, "", "")), waits("b", "ImagePullBackOff", ""), running("a", false)),
			want: kube.Cause{
				Reason: kube.ReasonCrashed, Container: "c", ExitCode: 1,
				Message: `container "c" ended with exit code 1; it is started again`,
			},
		},
		"the first of equals": {
			pod: withStatus(aPod(regular("a"), regular("b")),
				waits("b", "ErrImagePull", "b"), waits("a", "ErrImagePull", "a")),
			want: kube.Cause{Reason: kube.ReasonImagePull, Message: `container "a": ErrImagePull: a`, Container: "a"},
		},
		"init container runs": {
			pod: withStatus(aPod(initial("setup"), regular("web")),
				running("setup", false), waits("web", "PodInitializing", "")),
			want: kube.Cause{Reason: kube.ReasonStarting, Message: `container "setup" is running before the others start`, Container: "setup"},
		},
		"init container crashes": {
			pod: withStatus(aPod(initial("setup"), regular("web")),
				waits("setup", "CrashLoopBackOff", "", lastEnded(2, "Error", "")), waits("web", "PodInitializing", "")),
			want: kube.Cause{
				Reason: kube.ReasonCrashed, Container: "setup", ExitCode: 2,
				Message: `container "setup" ended with exit code 2; it is started again`,
			},
		},
		"init container done, next one not": {
			pod: withStatus(aPod(initial("one"), initial("two"), regular("web")),
				ended("one", 0, "Completed"), waits("two", "PodInitializing", ""), waits("web", "PodInitializing", "")),
			want: kube.Cause{Reason: kube.ReasonStarting, Message: `container "two" has not started`, Container: "two"},
		},
		"sidecar starts": {
			pod: withStatus(aPod(sidecar("proxy"), regular("web")),
				running("proxy", false), waits("web", "PodInitializing", "")),
			want: kube.Cause{Reason: kube.ReasonStarting, Message: `container "proxy" is running before the others start`, Container: "proxy"},
		},
		"sidecar not ready": {
			pod: withStatus(aPod(sidecar("proxy"), regular("web")),
				running("proxy", false, hasStarted), running("web", true)),
			want: kube.Cause{Reason: kube.ReasonNotReady, Message: `container "proxy" is running but not ready`, Container: "proxy"},
		},
		"sidecar crashes under a pod that never restarts": {
			pod: withStatus(policy(aPod(sidecar("proxy"), regular("web")), corev1.RestartPolicyNever),
				ended("proxy", 1, "Error"), running("web", true)),
			want: kube.Cause{
				Reason: kube.ReasonCrashed, Container: "proxy", ExitCode: 1,
				Message: `container "proxy" ended with exit code 1; it is started again`,
			},
		},
		"readiness gate": {
			pod: withStatus(withConditions(aPod(regular("web")), corev1.PodCondition{
				Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ReadinessGatesNotReady", Message: `gate "x" is not True`,
			}), running("web", true)),
			want: kube.Cause{Reason: kube.ReasonNotReady, Message: `gate "x" is not True`},
		},
		"everything ready but the pod": {
			pod:  withStatus(aPod(regular("web")), running("web", true)),
			want: kube.Cause{Reason: kube.ReasonNotReady, Message: "the pod is not ready"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			before := tc.pod.DeepCopy()
			got := kube.Observe(tc.pod, tc.signal)

			if diff := cmp.Diff(tc.want, got.Waiting); diff != "" {
				t.Errorf("Waiting (-want +got):\n%s", diff)
			}

			if got.BackOff != tc.wantBackOff || got.Hopeless != tc.wantHopeless || got.Ended || got.Ready {
				t.Errorf("back-off %v, hopeless %v, ended %v, ready %v", got.BackOff, got.Hopeless, got.Ended, got.Ready)
			}

			if diff := cmp.Diff(before, tc.pod); diff != "" {
				t.Errorf("the pod was changed:\n%s", diff)
			}
		})
	}
}

func TestObserveBoundsMessages(t *testing.T) {
	t.Parallel()

	pod := withStatus(aPod(regular("web")), waits("web", "ErrImagePull", strings.Repeat("x", 5000)))
	if got := kube.Observe(pod, nil).Waiting.Message; len(got) > 1024 || !strings.HasSuffix(got, "x…") {
		t.Errorf("message of %d bytes", len(got))
	}

	pod = withStatus(aPod(regular("web")), waits("web", "ErrImagePull", "no\x00 image\x00"))
	if got := kube.Observe(pod, nil).Waiting.Message; strings.ContainsRune(got, 0) || !strings.HasSuffix(got, "no image") {
		t.Errorf("message %q, want no U+0000", got)
	}
}

// TestProgress walks a pod through its life as kubelet reports it; each step must
// count for more than the one before.
func TestProgress(t *testing.T) {
	t.Parallel()

	build := func() *corev1.Pod { return aPod(initial("setup"), sidecar("proxy"), regular("web")) }
	sandbox := corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue}
	steps := []struct {
		name   string
		pod    *corev1.Pod
		signal *kube.Signal
	}{
		{"created", unscheduled(), nil},
		{"scheduled", build(), nil},
		{"sandbox", withConditions(build(), sandbox), nil},
		{"setup pulling", withConditions(build(), sandbox), &kube.Signal{Reason: "Pulling", Container: "setup"}},
		{"setup pulled", withConditions(build(), sandbox), &kube.Signal{Reason: "Pulled", Container: "setup"}},
		{"setup runs", withStatus(withConditions(build(), sandbox), running("setup", false)), nil},
		{"setup done", withStatus(withConditions(build(), sandbox), ended("setup", 0, "Completed")), nil},
		{
			"proxy ready", withStatus(withConditions(build(), sandbox),
				ended("setup", 0, "Completed"), running("proxy", true, hasStarted)),
			nil,
		},
		{
			"web pulling", withStatus(withConditions(build(), sandbox),
				ended("setup", 0, "Completed"), running("proxy", true, hasStarted), waits("web", "PodInitializing", "")),
			&kube.Signal{Reason: "Pulling", Container: "web"},
		},
		{
			"web runs", withStatus(withConditions(build(), sandbox),
				ended("setup", 0, "Completed"), running("proxy", true, hasStarted), running("web", false)),
			nil,
		},
		{
			"web ready", withStatus(withConditions(build(), sandbox),
				ended("setup", 0, "Completed"), running("proxy", true, hasStarted), running("web", true)),
			nil,
		},
	}
	last := -1

	for _, step := range steps {
		got := kube.Observe(step.pod, step.signal).Progress
		if got <= last {
			t.Errorf("%s: progress %d after %d", step.name, got, last)
		}

		last = got
	}
}
