package watch_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"berth/pkg/kube"
	"berth/services/watcher/internal/watch"
)

// told notes what a watch of claims or volumes says.
type told[T any] struct {
	what []string
	name func(*T) string
}

func (s *told[T]) Listed(all []T) {
	what := []string{"listed"}
	for i := range all {
		what = append(what, s.name(&all[i]))
	}
	s.what = append(s.what, strings.Join(what, " "))
}
func (s *told[T]) Seen(o *T)    { s.what = append(s.what, "seen "+s.name(o)) }
func (s *told[T]) Removed(o *T) { s.what = append(s.what, "removed "+s.name(o)) }

func volumeSink() *told[corev1.PersistentVolume] {
	return &told[corev1.PersistentVolume]{name: func(v *corev1.PersistentVolume) string { return v.Name }}
}

func volume(name, version string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{
		Name: name, ResourceVersion: version, Labels: kube.StorageLabels(name, "alice@example.org", "10.2.0.1"),
	}}
}

func TestClaimsFollows(t *testing.T) {
	t.Parallel()
	s := newServer()
	synctest.Test(t, func(t *testing.T) {
		sink := &told[corev1.PersistentVolumeClaim]{name: func(c *corev1.PersistentVolumeClaim) string { return c.Name }}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- watch.New(s, namespace, zerolog.Nop()).Claims(ctx, "5", sink) }()
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "a", ResourceVersion: "6"}}
		s.send(apiwatch.Added, claim)
		s.send(apiwatch.Error, status(expired()))
		s.send(apiwatch.Deleted, claim)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Claims = %v", err)
		}
		if d := cmp.Diff([]string{"seen a", "listed", "removed a"}, sink.what); d != "" {
			t.Errorf("told (-want +got):\n%s", d)
		}
		if got := s.opened[0].LabelSelector; got != kube.StorageSelector {
			t.Errorf("watched %q, want the users' storage alone", got)
		}
	})
}

// TestVolumesThatAreForbidden: it is said and tried again, and the leader goes on.
func TestVolumesThatAreForbidden(t *testing.T) {
	t.Parallel()
	no := apierrors.NewForbidden(corev1.Resource("persistentvolumes"), "", errors.New("no role"))
	s := newServer()
	lists := 0
	s.PrependReactor("list", "persistentvolumes", func(clienttesting.Action) (bool, runtime.Object, error) {
		if lists++; lists == 2 {
			return true, nil, no
		}
		return true, &corev1.PersistentVolumeList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(10 * lists)}, Items: []corev1.PersistentVolume{*volume("v", "1")}}, nil
	})
	synctest.Test(t, func(t *testing.T) {
		s.refuse = func(n int) error { // The role is taken away, and given back.
			if n == 1 {
				return no
			}
			return nil
		}
		sink := volumeSink()
		w := watch.New(s, namespace, zerolog.Nop())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Volumes(ctx, "", sink) }()
		synctest.Wait()
		if !w.Blind() {
			t.Error("it does not say that it cannot see volumes")
		}
		pass(31 * time.Second)
		synctest.Wait()
		if !w.Blind() {
			t.Error("it does not say that it cannot list volumes")
		}
		pass(31 * time.Second)
		s.send(apiwatch.Modified, volume("v", "40"))
		synctest.Wait()
		if w.Blind() {
			t.Error("it says that it cannot see volumes, and does")
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Volumes = %v", err)
		}
		if d := cmp.Diff([]string{"listed v", "listed v", "seen v"}, sink.what); d != "" {
			t.Errorf("told (-want +got):\n%s", d)
		}
		if d := cmp.Diff([]string{"10", "30"}, s.versions()); d != "" {
			t.Errorf("watches began at (-want +got):\n%s", d)
		}
	})
}

// TestVolumesThatAreAway: everything else than a missing role is a fault as any.
func TestVolumesThatAreAway(t *testing.T) {
	t.Parallel()
	s, down := newServer(), errors.New("connection refused")
	synctest.Test(t, func(t *testing.T) {
		s.refuse = func(int) error { return down }
		if err := watch.New(s, namespace, zerolog.Nop()).Volumes(t.Context(), "7", volumeSink()); !errors.Is(err, down) {
			t.Errorf("Volumes = %v, want %v", err, down)
		}
	})
	s.PrependReactor("list", "persistentvolumes", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, down })
	if err := watch.New(s, namespace, zerolog.Nop()).Volumes(t.Context(), "", volumeSink()); !errors.Is(err, down) {
		t.Errorf("Volumes = %v, want %v", err, down)
	}
}

// TestAskedFor: what is asked for by name or in a list, and that a fault is no absence.
func TestAskedFor(t *testing.T) {
	t.Parallel()
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{kube.LabelCreatedForPod: "p"}}
	}
	objects := []runtime.Object{
		pod("p", "1"), &corev1.Service{ObjectMeta: meta("p-ssh")}, &corev1.Service{ObjectMeta: meta("p-http")}, &networkingv1.Ingress{ObjectMeta: meta("p-ingress")},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "unrelated", Namespace: namespace}},
	}
	objects[0].(*corev1.Pod).Namespace = namespace
	client := fake.NewClientset(objects...)
	w := watch.New(client, namespace, zerolog.Nop())
	for name, ask := range map[string]func() ([]corev1.Service, []networkingv1.Ingress, error){
		"list":    func() ([]corev1.Service, []networkingv1.Ingress, error) { return w.ListBelongings(t.Context()) },
		"by name": func() ([]corev1.Service, []networkingv1.Ingress, error) { return w.Belongings(t.Context(), "p") },
	} {
		if services, ingresses, err := ask(); len(services) != 2 || len(ingresses) != 1 || err != nil {
			t.Errorf("%s: %d services, %d ingresses, error %v", name, len(services), len(ingresses), err)
		}
	}
	if services, ingresses, err := w.Belongings(t.Context(), "q"); len(services)+len(ingresses) > 0 || err != nil {
		t.Errorf("of a pod that has none: %v, %v, %v", services, ingresses, err)
	}
	for name, want := range map[string]bool{"p": true, "q": false} {
		if got, err := w.Pod(t.Context(), name); (got != nil) != want || err != nil {
			t.Errorf("Pod(%s) = %v, %v", name, got, err)
		}
	}
	down := errors.New("connection refused")
	for _, resource := range []string{"pods", "services", "ingresses", "persistentvolumeclaims"} {
		client := fake.NewClientset()
		client.PrependReactor("*", resource, func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, down })
		w := watch.New(client, namespace, zerolog.Nop())
		_, podErr := w.Pod(t.Context(), "p")
		_, _, listErr := w.ListBelongings(t.Context())
		_, _, getErr := w.Belongings(t.Context(), "p")
		_, claimErr := w.ListClaims(t.Context())
		if err := errors.Join(podErr, listErr, getErr, claimErr); !errors.Is(err, down) {
			t.Errorf("%s: %v, want %v", resource, err, down)
		}
	}
}
