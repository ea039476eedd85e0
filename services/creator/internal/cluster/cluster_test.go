package cluster_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"berth/pkg/events"
	"berth/pkg/kube"
	"berth/services/creator/internal/cluster"
	"berth/services/creator/internal/render"
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

// belongings are those of the pod of a life, whose UID is known.
func belongings(command, generation, uid string) render.Belongings {
	made := pod(user, command, generation)
	made.Annotations["sciencedata.dk/ingress-port"] = "8888"
	made.Spec.Containers = []corev1.Container{{Name: "main", Ports: []corev1.ContainerPort{{ContainerPort: 22}}}}
	b := render.BelongingsOf(made, user, render.Site{IngressDomain: "pods.example.org"})
	b.Own(made, uid)
	return b
}

// given has an API server that gives UIDs and node ports to what is made.
func given(t *testing.T, objects ...runtime.Object) *fake.Clientset {
	t.Helper()
	client := fake.NewClientset(objects...)
	client.PrependReactor("create", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		create, ok := action.(clienttesting.CreateAction)
		if !ok {
			return false, nil, nil
		}
		object, ok := create.GetObject().(metav1.Object)
		if !ok {
			return false, nil, nil
		}
		object.SetUID(types.UID("uid-" + object.GetName()))
		if service, ok := create.GetObject().(*corev1.Service); ok && service.Spec.Type == corev1.ServiceTypeNodePort {
			service.Spec.Ports[0].NodePort = 30022
		}
		return false, nil, nil
	})
	return client
}

func TestBelong(t *testing.T) {
	t.Parallel()
	all := []events.Object{
		{Kind: "Service", Name: name + "-ssh", UID: "uid-" + name + "-ssh"},
		{Kind: "Service", Name: name + "-http", UID: "uid-" + name + "-http"},
		{Kind: "Ingress", Name: name + "-ingress", UID: "uid-" + name + "-ingress"},
	}
	quota := apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, name, errors.New("exceeded quota: nodeports"))
	denied := apierrors.NewForbidden(schema.GroupResource{Group: "networking.k8s.io", Resource: "ingresses"}, name, errors.New("RBAC"))
	down := errors.New("connection refused")
	tests := map[string]struct {
		there    *render.Belongings // Of which the services are in the cluster.
		refused  string             // The resource.
		refusal  error
		rejected string // The reason.
		is       error
		says     string
	}{
		"made":                           {},
		"made by an earlier attempt":     {there: new(belongings("c1", "1-7", "uid-pod"))},
		"an earlier life's":              {there: new(belongings("c0", "1-3", "uid-pod")), is: cluster.ErrOccupied, says: "service " + name},
		"of a pod that is no more":       {there: new(belongings("c1", "1-7", "uid-before")), is: cluster.ErrOccupied, says: "service " + name},
		"over the quota":                 {refused: "services", refusal: quota, rejected: kube.ReasonQuotaExceeded, says: "service " + name},
		"an ingress that is not allowed": {refused: "ingresses", refusal: denied, rejected: kube.ReasonPodRejected, says: "ingress " + name + "-ingress: "},
		"no API server":                  {refused: "ingresses", refusal: down, is: down, says: "create ingress " + name},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			client := given(t)
			if tt.there != nil {
				for _, service := range tt.there.Services {
					if _, err := client.CoreV1().Services(namespace).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
						t.Fatal(err)
					}
				}
			}
			if tt.refusal != nil {
				client.PrependReactor("create", tt.refused, func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, tt.refusal })
			}
			objects, port, err := cluster.New(client, namespace).Belong(t.Context(), belongings("c1", "1-7", "uid-pod"))
			if tt.says == "" {
				if d := cmp.Diff(all, objects); err != nil || d != "" || port != 30022 {
					t.Errorf("port %d, %v; objects (-want +got):\n%s", port, err, d)
				}
				return
			}
			var rejected *cluster.RejectedError
			if errors.As(err, &rejected) != (tt.rejected != "") || rejected != nil && rejected.Reason != tt.rejected {
				t.Errorf("Belong = %#v, want a rejection for %q", err, tt.rejected)
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) || tt.is != nil && !errors.Is(err, tt.is) || objects != nil {
				t.Errorf("Belong = %v, %v; want %v, …%s…", objects, err, tt.is, tt.says)
			}
		})
	}
}

func TestBelongNothing(t *testing.T) {
	t.Parallel()
	objects, port, err := cluster.New(fake.NewClientset(), namespace).Belong(t.Context(), render.Belongings{})
	if len(objects) > 0 || port != 0 || err != nil {
		t.Errorf("Belong = %v, %d, %v", objects, port, err)
	}
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
