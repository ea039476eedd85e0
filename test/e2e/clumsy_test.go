package e2e

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/events"
	"berth/pkg/kube"
)

// TestWipedLogKeepsPods: pods that are not ready at the moment, or have ended, are no
// creates in flight: they stay when the log is lost.
func TestWipedLogKeepsPods(t *testing.T) {
	t.Parallel()
	const user = "keeps@wiped.org"
	p, _ := whole(t, hasty)
	unready, ended := p.create(t, user, "notebook"), p.create(t, user, "sites/ssh")
	if !p.ready(t, user, unready) || !p.ready(t, user, ended) {
		t.Fatal("not ready")
	}
	p.status(t, unready, func(status *corev1.PodStatus) {
		for i := range status.Conditions {
			if status.Conditions[i].Type == corev1.PodReady {
				status.Conditions[i].Status = corev1.ConditionFalse
			}
		}
	})
	p.endPod(t, ended)
	eventually(t, "the log says so", func() bool {
		return p.info(t, user, unready).Event == string(events.Unready) && p.info(t, user, ended).Event == string(events.Ended)
	})
	p.nats.Wipe()
	p.compared(t)
	eventually(t, "they are known again for what they are", func() bool {
		return p.info(t, user, unready).Event == string(events.Unready) && p.info(t, user, ended).Event == string(events.Ended)
	})
	// A pod that is made now outlives the time that a create has, which is when they would go.
	late := p.create(t, user, "never-ready")
	p.fails(t, late, events.Timeout, "NOT_READY")
	for _, name := range []string{unready, ended} {
		if _, err := p.pod(t, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		p.remove(t, user, name)
		p.gone(t, user, name)
	}
	p.nothing(t, user)
}

// TestReleasedVolume: a volume that was kept when its claim went does not lock its user
// out.
func TestReleasedVolume(t *testing.T) {
	t.Parallel()
	const user = "released@example.org"
	name := kube.StorageName(user, false)
	volumes := shared.kube.CoreV1().PersistentVolumes()
	shared.putStorage(t, name, user)
	if err := shared.kube.CoreV1().PersistentVolumeClaims(shared.namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the volume is released", func() bool {
		volume, err := volumes.Get(t.Context(), name, metav1.GetOptions{})
		return err == nil && volume.Status.Phase == corev1.VolumeReleased
	})
	pod := shared.create(t, user, "sites/storage")
	if !shared.ready(t, user, pod) {
		t.Fatalf("not ready: %+v", shared.info(t, user, pod))
	}
	shared.remove(t, user, pod)
	shared.gone(t, user, pod)
	shared.nothing(t, user)
}

// TestTwoClaims: everything of a user is everything, also what has another name.
func TestTwoClaims(t *testing.T) {
	t.Parallel()
	const user = "twoclaims@example.org"
	for _, name := range []string{kube.StorageName(user, false), kube.StorageName(user, false) + "-zzz"} {
		shared.putStorage(t, name, user)
	}
	if a := shared.ask(t, "delete_all_user", map[string]any{"user_id": user}); !a.Deleted {
		t.Fatalf("%d %s", a.Status, a.Text)
	}
	shared.nothing(t, user)
}

// TestClumsyAnnotations: objects whose annotations name nobody that there can be are
// nobody's, and keep no one waiting.
func TestClumsyAnnotations(t *testing.T) {
	t.Parallel()
	const user = "fine@example.org"
	p := newParts(t)
	p.namespaceReady(t)
	clumsy := func(name, key, value string) {
		p.put(t, oldPod(name, "x", "y", func(pod *corev1.Pod) {
			pod.Annotations = map[string]string{key: value}
		}))
	}
	clumsy("long-user", kube.AnnotationUser, strings.Repeat("x", 2000))
	clumsy("wild-user", kube.AnnotationUser, "a.>")
	clumsy("huge-life", kube.AnnotationGeneration, strings.Repeat("7", 200_000))
	p.start(t, all()...)
	p.compared(t)
	pod := p.create(t, user, "notebook")
	if !p.ready(t, user, pod) {
		t.Fatal("not ready")
	}
	p.remove(t, user, pod)
	p.gone(t, user, pod)
	for _, name := range []string{"long-user", "wild-user"} {
		if _, err := p.pod(t, name); apierrors.IsNotFound(err) {
			t.Errorf("%s is nobody's, and was removed", name)
		}
	}
}
