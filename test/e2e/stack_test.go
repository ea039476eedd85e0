package e2e

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/cmd/devstack/stack"
	"berth/pkg/events/eventstest"
)

// TestExistingCluster: a stack on a cluster that exists does the same job there,
// and leaves nothing but what the user made.
func TestExistingCluster(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		exists bool // The namespace does, before the stack starts.
		keeps  bool // The user leaves a pod behind.
		ownLog bool // The stack uses a NATS server that exists, too.
	}{
		"nothing is left":                 {},
		"the user's pod is left":          {keeps: true, ownLog: true},
		"somebody's namespace is his own": {exists: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const user = "kim@existing.org"
			settings := settings()
			settings.Cluster = "other"
			namespaces := shared.kube.CoreV1().Namespaces()
			namespace, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			settings.Namespace = namespace.Name
			if !tc.exists {
				// Only its name is wanted.
				settings.Namespace += "-made"
			}
			opts := stack.Options{
				Listen: "127.0.0.1:0", Data: filepath.Join(t.TempDir(), "data"), Kubeconfig: shared.stack.Kubeconfig, Manifests: shared.manifests,
				Config: settings, Log: zerolog.New(t.Output()),
			}
			if tc.ownLog {
				opts.NATSURL = eventstest.NewListeningServer(t).URL()
			}
			running, err := stack.Start(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			s := siteOf(running, settings, shared.kube)
			pod := s.create(t, user, "notebook")
			if !s.ready(t, user, pod) {
				t.Error("not ready")
			}
			if !tc.keeps {
				s.remove(t, user, pod)
				s.gone(t, user, pod)
				s.lives(t, pod)
			}
			if err := running.Stop(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
			_, err = s.kube.CoordinationV1().Leases(s.namespace).Get(t.Context(), "berth-watcher-other", metav1.GetOptions{})
			if !apierrors.IsNotFound(err) {
				t.Errorf("the watchers' lease is left: %v", err)
			}
			found, err := namespaces.Get(t.Context(), s.namespace, metav1.GetOptions{})
			left := err == nil && found.DeletionTimestamp == nil
			if left != (tc.exists || tc.keeps) {
				t.Errorf("the namespace is left: %t (%v)", left, err)
			}
			if tc.keeps {
				if _, err := s.pod(t, pod); err != nil {
					t.Errorf("the user's pod: %v", err)
				}
			}
		})
	}
}
