package e2e

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/events"
	"berth/pkg/kube"
	"berth/pkg/kube/kubetest"
)

// oldPod is a pod as the backend made it that was here before: three labels, and
// no annotation of Berth's.
func oldPod(name, user, domain string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"user": user, "domain": domain, "podName": name}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "docker.io/library/debian:12"}}},
	}
	for _, f := range change {
		f(pod)
	}
	return pod
}

func (s *site) put(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	made, err := s.kube.CoreV1().Pods(s.namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestAdoptsAtTheStart: pods of the old backend are taken in, and nothing else.
func TestAdoptsAtTheStart(t *testing.T) {
	t.Parallel()
	const user = "carol@old.org"
	p := newParts(t, hasty)
	p.namespaceReady(t)
	made := p.put(t, oldPod("desk-carol-old-org", "carol", "old.org"))
	p.put(t, oldPod("stuck-carol-old-org", "carol", "old.org", func(pod *corev1.Pod) {
		pod.Annotations = map[string]string{kubetest.StageAnnotation: kubetest.StageNeverReady}
	}))
	p.put(t, oldPod("copy-carol-old-org", "carol", "old.org", func(pod *corev1.Pod) { pod.Labels["podName"] = "desk-carol-old-org" }))
	p.put(t, oldPod("other", "x", "y", func(pod *corev1.Pod) { pod.Labels = nil }))
	p.start(t, all()...)
	p.compared(t)

	var names []string
	for _, info := range p.list(t, user) {
		names = append(names, info.Name)
	}
	if d := cmp.Diff([]string{"desk-carol-old-org", "stuck-carol-old-org"}, names); d != "" {
		t.Errorf("get_pods (-want +got):\n%s", d)
	}
	if !p.ready(t, user, made.Name) {
		t.Error("an adopted pod is not ready")
	}
	if info := p.info(t, user, made.Name); info.Owner != user || info.Container != "main" || info.Image != "docker.io/library/debian:12" {
		t.Errorf("adopted as %+v", info)
	}
	// A pod that is not ready has its time, as if it had been made now.
	if p.ready(t, user, "stuck-carol-old-org") {
		t.Error("a pod that is never ready is said to be ready")
	}
	p.history(t, "stuck-carol-old-org", events.Gone)
	p.remove(t, user, made.Name)
	p.gone(t, user, made.Name)
	if d := cmp.Diff([]string{"copy-carol-old-org", "other"}, p.objects(t)); d != "" {
		t.Errorf("left in the cluster (-want +got):\n%s", d)
	}
	for _, name := range p.objects(t) {
		if entries := p.past(t, name); len(entries) > 0 {
			t.Errorf("the log has %v of %s; it is nobody's", types(entries), name)
		}
	}
}

// TestAdoptsLater: a pod of the old kind that appears while Berth runs.
func TestAdoptsLater(t *testing.T) {
	t.Parallel()
	const user = "dave@old.org"
	pod := shared.put(t, oldPod("desk-dave-old-org", "dave", "old.org"))
	eventually(t, "it is listed", func() bool { return shared.info(t, user, pod.Name).Event == "ready" })
	// A create under its name takes the next one.
	a := shared.tryCreate(t, user, "notebook", nil)
	if a.Status != http.StatusOK {
		t.Fatalf("create: %d %s", a.Status, a.Text)
	}
	shared.remove(t, user, pod.Name)
	shared.gone(t, user, pod.Name)
	shared.remove(t, user, a.Pod)
	shared.gone(t, user, a.Pod)
}

// TestOccupied: an object of the name that is not ours is never adopted. The
// create waits, says so, and goes on when the name is free.
func TestOccupied(t *testing.T) {
	t.Parallel()
	const user = "occupied@example.org"
	name := kube.Name("notebook", user, 0)
	theirs := shared.put(t, oldPod(name, "", "", func(pod *corev1.Pod) { pod.Labels = nil }))
	if got := shared.create(t, user, "notebook"); got != name {
		t.Fatalf("name = %q, want %q", got, name)
	}
	eventually(t, "the occupied name shows", func() bool {
		return shared.info(t, user, name).Reason == string(events.NameOccupied)
	})
	if now, err := shared.pod(t, name); err != nil || now.UID != theirs.UID {
		t.Fatalf("somebody's pod is not what it was: %v", err)
	}
	zero := int64(0)
	if err := shared.kube.CoreV1().Pods(shared.namespace).Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	if !shared.ready(t, user, name) {
		t.Fatal("not ready after the name became free")
	}
	shared.remove(t, user, name)
	shared.gone(t, user, name)
}

// TestOccupiedForTooLong ends with the time for a create. The object stays.
func TestOccupiedForTooLong(t *testing.T) {
	t.Parallel()
	const user = "occupied@long.org"
	name := kube.Name("notebook", user, 0)
	s, _ := whole(t, hasty)
	s.namespaceReady(t)
	theirs := s.put(t, oldPod(name, "", "", func(pod *corev1.Pod) { pod.Labels = nil }))
	s.create(t, user, "notebook")
	if s.ready(t, user, name) {
		t.Error("ready")
	}
	s.fails(t, name, events.Timeout, "NAME_OCCUPIED")
	if now, err := s.pod(t, name); err != nil || now.UID != theirs.UID {
		t.Errorf("somebody's pod is not what it was: %v", err)
	}
}
