package cluster_test

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"berth/pkg/kube"
	"berth/services/deleter/internal/cluster"
)

const namespace, name, uid = "berth", "notebook-alice", "uid-1"

func newClient() *fake.Clientset {
	return fake.NewClientset(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: namespace, UID: uid, Annotations: map[string]string{kube.AnnotationGeneration: "1-7"},
	}})
}

// answers makes the API server answer a verb with an error.
func answers(client *fake.Clientset, verb string, err error) {
	client.PrependReactor(verb, "pods", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, err })
}

func TestFind(t *testing.T) {
	t.Parallel()
	c := cluster.New(newClient(), namespace)
	for _, tt := range []struct{ name, generation, want string }{
		{name, "1-7", uid}, {name, "1-3", ""}, {"other", "1-7", ""},
	} {
		if got, err := c.Find(t.Context(), tt.name, tt.generation); got != tt.want || err != nil {
			t.Errorf("Find(%s, %s) = %q, %v, want %q", tt.name, tt.generation, got, err, tt.want)
		}
	}
	client, down := newClient(), errors.New("connection refused")
	answers(client, "get", down)
	if got, err := cluster.New(client, namespace).Find(t.Context(), name, "1-7"); got != "" || !errors.Is(err, down) {
		t.Errorf("Find = %q, %v; want %v: nobody knows if it is there", got, err, down)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	pods := schema.GroupResource{Resource: "pods"}
	down := errors.New("connection refused")
	for title, tt := range map[string]struct {
		answer error
		want   bool
		err    error
	}{
		"is terminated":       {nil, false, nil},
		"is not there":        {apierrors.NewNotFound(pods, name), true, nil},
		"is another by now":   {apierrors.NewConflict(pods, name, errors.New("the UID in the precondition does not match")), true, nil},
		"cannot be asked for": {down, false, down},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			client := newClient()
			if tt.answer != nil {
				answers(client, "delete", tt.answer)
			}
			got, err := cluster.New(client, namespace).Delete(t.Context(), name, uid)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("Delete = %t, %v, want %t, %v", got, err, tt.want, tt.err)
			}
			options := client.Actions()[0].(clienttesting.DeleteAction).GetDeleteOptions()
			if options.Preconditions == nil || options.Preconditions.UID == nil || *options.Preconditions.UID != uid {
				t.Errorf("asked to delete with %+v, want this UID and no other", options)
			}
		})
	}
}
