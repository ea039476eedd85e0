package cluster_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"berth/pkg/kube"
	"berth/services/creator/internal/cluster"
)

const namespace, name, user = "berth", "notebook-alice", "alice@example.org"

// pod is one of a life of the name.
func pod(user, command, generation string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: namespace, UID: types.UID("uid-" + command), Annotations: map[string]string{
			kube.AnnotationUser: user, kube.AnnotationCommand: command, kube.AnnotationGeneration: generation,
		},
	}}
}

// refuses makes the API server refuse every create.
func refuses(client *fake.Clientset, err error) {
	client.PrependReactor("create", "pods", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, err })
}

func TestLaunch(t *testing.T) {
	t.Parallel()
	pods := schema.GroupResource{Resource: "pods"}
	down := errors.New("connection refused")
	invalid := apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, name, nil)
	quota := apierrors.NewForbidden(pods, name, errors.New("exceeded quota: none, requested: pods=1"))
	foreign := pod("mallory@example.org", "c9", "1-9")
	nobodys := pod("", "", "")
	nobodys.Annotations = nil
	tests := map[string]struct {
		there    *corev1.Pod
		refusal  error
		uid      string
		rejected string // The reason.
		is       error
		says     string
	}{
		"made":                           {uid: "uid-c1"},
		"made by an earlier attempt":     {there: pod(user, "c1", "1-7"), uid: "uid-c1"},
		"an earlier life is there":       {there: pod(user, "c1", "1-3"), is: cluster.ErrOccupied, says: user},
		"another's pod is there":         {there: foreign, is: cluster.ErrOccupied, says: "somebody else"},
		"nobody's pod is there":          {there: nobodys, is: cluster.ErrOccupied, says: "nobody known"},
		"it went between create and get": {refusal: apierrors.NewAlreadyExists(pods, name), is: cluster.ErrOccupied, says: "went away"},
		"refused":                        {refusal: invalid, rejected: kube.ReasonPodRejected, says: "is invalid"},
		"over the quota":                 {refusal: quota, rejected: kube.ReasonQuotaExceeded, says: "exceeded quota"},
		"no API server":                  {refusal: down, is: down},
		"too many requests":              {refusal: apierrors.NewTooManyRequests("later", 1), says: "later"},
		"an internal error": {
			refusal: apierrors.NewGenericServerResponse(http.StatusInternalServerError, "create", pods, name, "etcd", 0, true), says: "create pod",
		},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			client := fake.NewClientset()
			if tt.there != nil {
				client = fake.NewClientset(tt.there)
			}
			if tt.refusal != nil {
				refuses(client, tt.refusal)
			}
			uid, err := cluster.New(client, namespace).Launch(t.Context(), pod(user, "c1", "1-7"))
			if uid != tt.uid || (err == nil) != (tt.uid != "") {
				t.Fatalf("Launch = %q, %v; want %q", uid, err, tt.uid)
			}
			var rejected *cluster.RejectedError
			if errors.As(err, &rejected) != (tt.rejected != "") || rejected != nil && rejected.Reason != tt.rejected {
				t.Errorf("Launch = %#v, want a rejection for %q", err, tt.rejected)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("Launch = %v, want %v", err, tt.is)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "mallory")) {
				t.Errorf("Launch = %v, want …%s… and nobody else's id", err, tt.says)
			}
		})
	}
}
