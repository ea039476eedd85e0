package app

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth/pkg/kube"
)

// news is a cluster that notes which names it said something about.
type news struct {
	*cluster
	names []string
}

func newNews() *news {
	n := &news{}
	n.cluster = newCluster(func(name string) { n.names = append(n.names, name) })
	return n
}

// take returns what was said since the last call, each name once.
func (n *news) take() []string {
	names := slices.Compact(slices.Sorted(slices.Values(n.names)))
	n.names = nil
	return names
}

// podOf is a scheduled pod of alice's that is being started.
func podOf(name, uid string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID(uid), ResourceVersion: "7", Labels: kube.Labels(name, "alice@example.org"),
			Annotations: map[string]string{
				kube.AnnotationUser: "alice@example.org", kube.AnnotationCommand: "cmd-1",
				kube.AnnotationGeneration: "1-7", kube.AnnotationSilo: "silo1",
			},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "berth"}},
		},
		Spec: corev1.PodSpec{
			NodeName:       "node-1",
			InitContainers: []corev1.Container{{Name: "first", Env: []corev1.EnvVar{{Name: "TOKEN", Value: "secret"}}}},
			Containers: []corev1.Container{{
				Name: "main", Image: "example.org/notebook:1", Env: []corev1.EnvVar{{Name: "TOKEN", Value: "secret"}},
				EnvFrom: []corev1.EnvFromSource{{Prefix: "X"}},
			}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	for _, f := range change {
		f(pod)
	}
	return pod
}

func ready(pod *corev1.Pod) {
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
}

func pulling(at time.Time) kube.Signal {
	return kube.Signal{Reason: "Pulling", Message: "Pulling image", Type: "Normal", Container: "main", Time: at}
}

func TestClusterKeepsWhatDecides(t *testing.T) {
	t.Parallel()
	n := newNews()
	n.Seen(podOf("a", "uid-a"))
	pod, vanished := n.Look("a")
	if pod.UID != "uid-a" || pod.User != "alice@example.org" || pod.Command != "cmd-1" || pod.Generation != "1-7" || pod.Silo != "silo1" || !pod.Ours {
		t.Errorf("Look = %+v; it lacks who the pod is for", pod)
	}
	if vanished != "" {
		t.Errorf("vanished = %q before anything went", vanished)
	}
	object := n.pods["a"].object
	for _, c := range slices.Concat(object.Spec.InitContainers, object.Spec.Containers) {
		if c.Env != nil || c.EnvFrom != nil {
			t.Errorf("variables of container %s are kept: %+v", c.Name, c)
		}
	}
	if object.ManagedFields != nil {
		t.Error("managed fields are kept")
	}
	n.Seen(podOf("a", "uid-a", ready))
	if n.pods["a"].object != nil {
		t.Error("the object of a ready pod is kept")
	}
	if d := cmp.Diff([]string{"a"}, n.take()); d != "" {
		t.Errorf("news (-want +got):\n%s", d)
	}
}

func TestClusterListed(t *testing.T) {
	t.Parallel()
	n := newNews()
	for _, name := range []string{"stays", "went", "replaced"} {
		n.Seen(podOf(name, "uid-"+name))
	}
	n.take()
	n.Listed([]corev1.Pod{*podOf("stays", "uid-stays"), *podOf("replaced", "uid-later"), *podOf("new", "uid-new")})
	if d := cmp.Diff([]string{"new", "replaced", "stays", "went"}, n.take()); d != "" {
		t.Errorf("news (-want +got):\n%s", d)
	}
	for name, want := range map[string][2]string{
		"stays": {"uid-stays", ""}, "went": {"", "uid-went"}, "replaced": {"uid-later", "uid-replaced"}, "new": {"uid-new", ""}, "never": {"", ""},
	} {
		pod, vanished := n.Look(name)
		if got := [2]string{pod.UID, vanished}; got != want {
			t.Errorf("Look(%s) = %v, want %v", name, got, want)
		}
	}
}

func TestClusterOffered(t *testing.T) {
	t.Parallel()
	n := newNews()
	n.Seen(podOf("watched", "uid-1", ready))
	n.Removed(podOf("removed", "uid-2"))
	n.take()
	n.Offered(podOf("watched", "uid-1"))
	n.Offered(podOf("removed", "uid-2"))
	n.Offered(podOf("listed", "uid-3"))
	if pod, _ := n.Look("watched"); !pod.Ready {
		t.Error("a list took the place of what the watch said later")
	}
	if pod, vanished := n.Look("removed"); pod.UID != "" || vanished != "uid-2" {
		t.Errorf("Look = %q and %q; a list brought a pod back that the watch saw go", pod.UID, vanished)
	}
	if pod, _ := n.Look("listed"); pod.UID != "uid-3" {
		t.Error("a pod that only the list shows is not known")
	}
	if names := n.take(); len(names) > 0 {
		t.Errorf("news about %v; whoever offers looks by himself", names)
	}
}

func TestClusterRemovedOfAnEarlierPod(t *testing.T) {
	t.Parallel()
	n := newNews()
	n.Seen(podOf("a", "uid-2"))
	n.Removed(podOf("a", "uid-1"))
	if pod, vanished := n.Look("a"); pod.UID != "uid-2" || vanished != "uid-1" {
		t.Errorf("Look = %q and %q, want uid-2 and uid-1", pod.UID, vanished)
	}
}

func TestClusterSignals(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	reason := func(n *news) string {
		pod, _ := n.Look("a")
		return pod.Waiting.Reason
	}
	tests := map[string]struct {
		happens  func(n *news)
		want     string
		wantNews bool
	}{
		"none":           {func(n *news) { n.Seen(podOf("a", "uid-a")) }, kube.ReasonStarting, true},
		"after its pod":  {func(n *news) { n.Seen(podOf("a", "uid-a")); n.take(); n.Signalled("a", "uid-a", pulling(at)) }, kube.ReasonPulling, true},
		"before its pod": {func(n *news) { n.Signalled("a", "uid-a", pulling(at)); n.Seen(podOf("a", "uid-a")) }, kube.ReasonPulling, true},
		"of another pod": {func(n *news) { n.Seen(podOf("a", "uid-a")); n.take(); n.Signalled("a", "uid-b", pulling(at)) }, kube.ReasonStarting, false},
		"before a removal": {func(n *news) {
			n.Signalled("a", "uid-a", pulling(at))
			n.Removed(podOf("a", "uid-a"))
			n.Seen(podOf("a", "uid-a"))
		}, kube.ReasonStarting, true},
		"an older one comes late": {
			func(n *news) {
				n.Seen(podOf("a", "uid-a"))
				n.Signalled("a", "uid-a", pulling(at))
				n.Signalled("a", "uid-a", kube.Signal{Reason: "FailedMount", Message: "x", Time: at.Add(-time.Second)})
			}, kube.ReasonPulling, true,
		},
		"a newer one": {
			func(n *news) {
				n.Seen(podOf("a", "uid-a"))
				n.Signalled("a", "uid-a", pulling(at))
				n.Signalled("a", "uid-a", kube.Signal{Reason: "FailedMount", Message: "x", Time: at})
			}, kube.ReasonStoragePending, true,
		},
		"of a ready pod": {
			func(n *news) { n.Seen(podOf("a", "uid-a", ready)); n.take(); n.Signalled("a", "uid-a", pulling(at)) }, "", false,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNews()
			tt.happens(n)
			if got := reason(n); got != tt.want {
				t.Errorf("the pod waits for %q, want %q", got, tt.want)
			}
			if got := len(n.take()) > 0; got != tt.wantNews {
				t.Errorf("there is news: %t, want %t", got, tt.wantNews)
			}
		})
	}
}

func TestClusterForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNews()
		n.Seen(podOf("waits", "uid-waits"))
		n.Signalled("waits", "uid-waits", pulling(time.Now()))
		n.Signalled("never-came", "uid-never", pulling(time.Now()))
		n.Removed(podOf("went", "uid-went"))
		n.Tidy(time.Now().Add(vanishedKept))
		if _, vanished := n.Look("went"); vanished == "" || len(n.signals) != 2 {
			t.Error("forgotten too early")
		}
		n.Tidy(time.Now().Add(vanishedKept + 1))
		if _, vanished := n.Look("went"); vanished != "" {
			t.Error("what went long ago is remembered")
		}
		if _, kept := n.signals["uid-waits"]; !kept || len(n.signals) != 1 {
			t.Errorf("signals of %v are kept, want those of pods that are there", n.signals)
		}
		n.Removed(podOf("waits", "uid-waits"))
		if len(n.signals) != 0 {
			t.Error("the event about a pod outlives it")
		}
	})
}
