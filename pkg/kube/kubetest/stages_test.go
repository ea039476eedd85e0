package kubetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
)

// testTimeout bounds what a test waits for, also where it starts a cluster of its own on a machine that is busy.
const testTimeout = 4 * time.Minute

func TestStages(t *testing.T) {
	t.Parallel()
	const (
		pending  = "Pending"
		creating = "Pending waiting ContainerCreating"
		ready    = "Running running ready"
		unready  = "Running running"
	)
	tests := map[string]struct {
		want   []string // The states that the pod goes through; more may follow.
		events []string
	}{
		"":                {want: []string{pending, ready}},
		StageSlowPull:     {want: []string{pending, creating, ready}, events: []string{"Pulling", "Pulled", "Created", "Started"}},
		StageNeverReady:   {want: []string{pending, unready}, events: []string{"Unhealthy"}},
		StageUnready:      {want: []string{pending, unready, ready}, events: []string{"Unhealthy"}},
		StageFlaps:        {want: []string{pending, ready, unready, ready}, events: []string{"Unhealthy"}},
		StageFails:        {want: []string{pending, creating, "Failed terminated Error exit 1"}},
		StageCompletes:    {want: []string{pending, ready, "Succeeded terminated Completed exit 0"}},
		StageCrashesLater: {want: []string{pending, ready, "Failed terminated Error exit 1"}},
		StageOOM:          {want: []string{pending, ready, "Failed terminated OOMKilled exit 137"}},
		StageEvict:        {want: []string{pending, ready, "Failed(Evicted) terminated Error exit 137"}, events: []string{"Evicted"}},
		StageInvalidImage: {want: []string{pending, "Pending waiting InvalidImageName"}, events: []string{"InspectFailed", "Failed"}},
		StagePullFails: {
			want: []string{
				pending, creating, "Pending waiting ErrImagePull", "Pending waiting ImagePullBackOff", "Pending waiting ErrImagePull",
				"Pending waiting ImagePullBackOff",
			},
			events: []string{"Pulling", "Failed", "BackOff"},
		},
		StageCrash: {
			want: []string{
				pending, unready, "Running terminated Error exit 1", "Running waiting CrashLoopBackOff", "Running running restarts 1",
				"Running terminated Error exit 1 restarts 1", "Running waiting CrashLoopBackOff restarts 1", "Running running restarts 2",
			},
			events: []string{"Started", "BackOff"},
		},
		StageStuckTerminating: {want: []string{pending, ready}},
		"no-such-stage":       {want: []string{pending, "Pending waiting CreateContainerConfigError"}},
	}
	c := shared.Cluster(t)
	namespace := c.Namespace(t)
	for stage, tt := range tests {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
			defer cancel()
			client := newClient(t, c)
			pod := createPod(ctx, t, client, namespace, stage)
			updates := watchPod(ctx, t, client, pod)
			var got []string
			for len(got) < len(tt.want) {
				_, pod = next(ctx, t, updates)
				if s := look(pod); len(got) == 0 || got[len(got)-1] != s {
					got = append(got, s)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
			wantEvents(ctx, t, client, pod, tt.events)
			wantGone(ctx, t, client, pod, updates)
		})
	}
}

// TestStuckTerminating shows that a deletion takes the delay, and is a deletion with a grace period to everybody who watches.
func TestStuckTerminating(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	c := shared.Cluster(t)
	client := newClient(t, c)
	pod := createPod(ctx, t, client, c.Namespace(t), StageStuckTerminating)
	updates := watchPod(ctx, t, client, pod)
	for look(pod) != "Running running ready" {
		_, pod = next(ctx, t, updates)
	}
	begin := time.Now()
	if err := client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	kind, pod := next(ctx, t, updates)
	for kind == watch.Modified && pod.DeletionTimestamp == nil { // Something that was said before.
		kind, pod = next(ctx, t, updates)
	}
	if kind != watch.Modified || pod.DeletionTimestamp == nil || look(pod) != "Running running ready" {
		t.Errorf("after the deletion: %s, deletion timestamp %v, %s; want a ready pod that is being deleted", kind, pod.DeletionTimestamp, look(pod))
	}
	for kind != watch.Deleted {
		kind, _ = next(ctx, t, updates)
	}
	if took := time.Since(begin); took < testDelay {
		t.Errorf("gone after %s, want at least the delay of %s", took, testDelay)
	}
}

// TestFinalizer shows that a pod with a finalizer stays, terminating, until the finalizer is removed.
func TestFinalizer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	c := shared.Cluster(t)
	client := newClient(t, c)
	pods := client.CoreV1().Pods(c.Namespace(t))
	template := podTemplate("")
	template.Finalizers = []string{"berth.test/hold"}
	pod, err := pods.Create(ctx, template, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	updates := watchPod(ctx, t, client, pod)
	for look(pod) != "Running running ready" {
		_, pod = next(ctx, t, updates)
	}
	if err := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for pod.DeletionGracePeriodSeconds == nil || *pod.DeletionGracePeriodSeconds > 0 {
		kind, update := next(ctx, t, updates)
		if kind == watch.Deleted {
			t.Fatal("the pod is gone in spite of its finalizer")
		}
		pod = update
	}
	pod.Finalizers = nil
	if _, err := pods.Update(ctx, pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for kind := watch.Modified; kind != watch.Deleted; {
		kind, _ = next(ctx, t, updates)
	}
}

// TestKubeletStatus compares the status of a plain pod with what a kubelet writes.
func TestKubeletStatus(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	c := shared.Cluster(t)
	client := newClient(t, c)
	template := podTemplate("")
	template.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: "setup:1"}}
	pod, err := client.CoreV1().Pods(c.Namespace(t)).Create(ctx, template, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	updates := watchPod(ctx, t, client, pod)
	for look(pod) != "Running running ready" {
		_, pod = next(ctx, t, updates)
	}
	got := pod.Status
	conditions := map[corev1.PodConditionType]corev1.ConditionStatus{}
	for _, c := range got.Conditions {
		conditions[c.Type] = c.Status
		if c.LastTransitionTime.IsZero() {
			t.Errorf("condition %s has no time", c.Type)
		}
	}
	wantConditions := map[corev1.PodConditionType]corev1.ConditionStatus{
		"PodReadyToStartContainers": "True", "Initialized": "True", "Ready": "True", "ContainersReady": "True", "PodScheduled": "True",
	}
	if diff := cmp.Diff(wantConditions, conditions); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	main, setup := got.ContainerStatuses[0], got.InitContainerStatuses[0]
	for name, ok := range map[string]bool{
		"container id":       strings.HasPrefix(main.ContainerID, "containerd://"),
		"image id":           strings.HasPrefix(main.ImageID, "sha256:"),
		"image":              main.Image == "registry.test/main:1" && main.Name == "main",
		"started":            main.Started != nil && *main.Started && !main.State.Running.StartedAt.IsZero(),
		"init container":     setup.Ready && setup.State.Terminated != nil && setup.State.Terminated.Reason == "Completed",
		"start time":         got.StartTime != nil,
		"pod address":        strings.HasPrefix(got.PodIP, "10.") && len(got.PodIPs) == 1 && got.PodIPs[0].IP == got.PodIP,
		"host address":       got.HostIP == nodeIP && len(got.HostIPs) == 1,
		"observedGeneration": got.ObservedGeneration == pod.Generation,
	} {
		if !ok {
			t.Errorf("%s is not as a kubelet writes it", name)
		}
	}
	if t.Failed() {
		t.Logf("status: %+v", got)
	}
}

const testDelay = 500 * time.Millisecond

func newClient(t *testing.T, c *Cluster) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func podTemplate(stage string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-" + stage + "-"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.test/main:1"}}},
	}
	if stage != "" {
		pod.Annotations = map[string]string{StageAnnotation: stage, DelayAnnotation: testDelay.String()}
	}
	return pod
}

func createPod(ctx context.Context, t *testing.T, client kubernetes.Interface, namespace, stage string) *corev1.Pod {
	t.Helper()
	pod, err := client.CoreV1().Pods(namespace).Create(ctx, podTemplate(stage), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// watchPod follows one pod. The watch goes on where it was when the API server closes it, as it does to slow readers.
func watchPod(ctx context.Context, t *testing.T, client kubernetes.Interface, pod *corev1.Pod) <-chan watch.Event {
	t.Helper()
	selector := fields.OneTermEqualSelector("metadata.name", pod.Name)
	source := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "pods", pod.Namespace, selector)
	w, err := toolswatch.NewRetryWatcherWithContext(ctx, pod.ResourceVersion, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Stop()
		<-w.Done()
	})
	return w.ResultChan()
}

func next(ctx context.Context, t *testing.T, updates <-chan watch.Event) (watch.EventType, *corev1.Pod) {
	t.Helper()
	select {
	case event := <-updates:
		pod, ok := event.Object.(*corev1.Pod)
		if !ok {
			t.Fatalf("watch: %v", event)
		}
		return event.Type, pod
	case <-ctx.Done():
		t.Fatal("the pod does not change any more")
	}
	return "", nil
}

// look is what a pod shows, in short.
func look(pod *corev1.Pod) string {
	words := []string{string(pod.Status.Phase)}
	if pod.Status.Reason != "" {
		words[0] += "(" + pod.Status.Reason + ")"
	}
	if len(pod.Status.ContainerStatuses) == 0 {
		return words[0]
	}
	c := pod.Status.ContainerStatuses[0]
	switch {
	case c.State.Waiting != nil:
		words = append(words, "waiting", c.State.Waiting.Reason)
	case c.State.Terminated != nil:
		words = append(words, "terminated", c.State.Terminated.Reason, fmt.Sprintf("exit %d", c.State.Terminated.ExitCode))
	case c.State.Running != nil:
		words = append(words, "running")
	}
	ready := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue })
	if ready != c.Ready {
		words = append(words, "and the condition says otherwise")
	}
	if ready {
		words = append(words, "ready")
	}
	if c.RestartCount > 0 {
		words = append(words, fmt.Sprintf("restarts %d", c.RestartCount))
	}
	return strings.Join(words, " ")
}

// wantEvents waits until the pod has all the events.
func wantEvents(ctx context.Context, t *testing.T, client kubernetes.Interface, pod *corev1.Pod, want []string) {
	t.Helper()
	err := poll(ctx, func(ctx context.Context) error {
		list, err := client.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{
			FieldSelector: fields.OneTermEqualSelector("involvedObject.uid", string(pod.UID)).String(),
		})
		if err != nil {
			return err
		}
		for _, reason := range want {
			if !slices.ContainsFunc(list.Items, func(e corev1.Event) bool { return e.Reason == reason && e.Source.Component == "kubelet" }) {
				return fmt.Errorf("no event %s among %d", reason, len(list.Items))
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// wantGone deletes the pod and waits until it is gone.
func wantGone(ctx context.Context, t *testing.T, client kubernetes.Interface, pod *corev1.Pod, updates <-chan watch.Event) {
	t.Helper()
	if err := client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for kind := watch.Modified; kind != watch.Deleted; {
		kind, _ = next(ctx, t, updates)
	}
}
