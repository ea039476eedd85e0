package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"

	"berth/pkg/kube"
	"berth/services/deleter/internal/cluster"
	"berth/services/deleter/internal/reap"
)

const (
	owner = "alice@example.org"
	claim = "user-storage-alice-example-org"
)

func created() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func belongs(suffix string, change ...func(*metav1.ObjectMeta)) metav1.ObjectMeta {
	m := metav1.ObjectMeta{
		Name: name + suffix, Namespace: namespace, UID: "uid" + "-of" + "-belonging", CreationTimestamp: metav1.NewTime(created()),
		Labels: kube.BelongingLabels(name, owner), Annotations: map[string]string{kube.AnnotationUser: owner, kube.AnnotationGeneration: "1-7"},
	}
	for _, f := range change {
		f(&m)
	}
	return m
}

// ofTheOldBackend takes away what the old backend does not write.
func ofTheOldBackend(m *metav1.ObjectMeta) {
	m.Annotations, m.Labels = nil, map[string]string{kube.LabelCreatedForPod: name}
}

func stored(namespace string, change ...func(*metav1.ObjectMeta)) metav1.ObjectMeta {
	m := metav1.ObjectMeta{
		Name: claim, Namespace: namespace, UID: "uid-stored", CreationTimestamp: metav1.NewTime(created()),
		Labels: kube.StorageLabels(claim, owner, "10.2.0.1"), Annotations: map[string]string{kube.AnnotationUser: owner},
	}
	for _, f := range change {
		f(&m)
	}
	return m
}

func volume(inNamespace string, change ...func(*metav1.ObjectMeta)) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: stored("", change...),
		Spec:       corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: inNamespace, Name: claim}},
	}
}

func anothers(m *metav1.ObjectMeta) { m.Annotations[kube.AnnotationUser] = "alice.example@org" }

func found(kind, name, uid string, change ...func(*reap.Object)) reap.Object {
	o := reap.Object{Kind: kind, Name: name, UID: uid, User: owner, Created: created()}
	for _, f := range change {
		f(&o)
	}
	return o
}

func ofPod(o *reap.Object)    { o.Pod, o.Generation = name, "1-7" }
func ofOldPod(o *reap.Object) { o.Pod, o.Generation, o.User = name, "", "" }

func TestBelonging(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(
		&corev1.Service{ObjectMeta: belongs(kube.SuffixHTTP)},
		&corev1.Service{ObjectMeta: belongs(kube.SuffixSSH, func(m *metav1.ObjectMeta) { m.Labels[kube.LabelCreatedForPod] = "another" })},
		&networkingv1.Ingress{ObjectMeta: belongs(kube.SuffixIngress, ofTheOldBackend)},
	)
	got, err := cluster.New(client, namespace).Belonging(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	want := []reap.Object{
		found("Service", name+"-http", "uid-of-belonging", ofPod), found("Ingress", name+"-ingress", "uid-of-belonging", ofOldPod),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Belonging (-want +got):\n%s", d)
	}
}

func TestStorage(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		objects []runtime.Object
		want    []reap.Object
	}{
		"nothing": {nil, nil},
		"both": {
			[]runtime.Object{&corev1.PersistentVolumeClaim{ObjectMeta: stored(namespace)}, volume(namespace)},
			[]reap.Object{found(reap.KindClaim, claim, "uid-stored"), found(reap.KindVolume, claim, "uid-stored")},
		},
		"of the old backend": {
			[]runtime.Object{volume(namespace, func(m *metav1.ObjectMeta) { m.Annotations = nil })},
			[]reap.Object{found(reap.KindVolume, claim, "uid-stored")},
		},
		"another user's": {
			[]runtime.Object{&corev1.PersistentVolumeClaim{ObjectMeta: stored(namespace, anothers)}, volume(namespace, anothers)}, nil,
		},
		"another namespace's":                 {[]runtime.Object{&corev1.PersistentVolumeClaim{ObjectMeta: stored("other")}, volume("other")}, nil},
		"somebody else's volume of that name": {[]runtime.Object{volume(namespace, func(m *metav1.ObjectMeta) { m.Labels, m.Annotations = nil, nil })}, nil},
		"a volume of no claim":                {[]runtime.Object{&corev1.PersistentVolume{ObjectMeta: stored("")}}, nil},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			got, err := cluster.New(fake.NewClientset(tt.objects...), namespace).Storage(t.Context(), owner, claim)
			if d := cmp.Diff(tt.want, got); d != "" || err != nil {
				t.Errorf("Storage: error %v (-want +got):\n%s", err, d)
			}
		})
	}
}

// TestUnseenIsNotAbsent: whatever cannot be asked for makes it all fail.
func TestUnseenIsNotAbsent(t *testing.T) {
	t.Parallel()
	calls := map[string]func(context.Context, *cluster.Cluster) error{
		"get pods":      func(ctx context.Context, c *cluster.Cluster) error { _, err := c.Exists(ctx, name, uid); return err },
		"get services":  func(ctx context.Context, c *cluster.Cluster) error { _, err := c.Belonging(ctx, name); return err },
		"get ingresses": func(ctx context.Context, c *cluster.Cluster) error { _, err := c.Belonging(ctx, name); return err },
		"get persistentvolumeclaims": func(ctx context.Context, c *cluster.Cluster) error {
			_, err := c.Storage(ctx, owner, claim)
			return err
		},
		"get persistentvolumes": func(ctx context.Context, c *cluster.Cluster) error {
			_, err := c.Storage(ctx, owner, claim)
			return err
		},
		"list pods":                   all,
		"list services":               all,
		"list ingresses":              all,
		"list persistentvolumeclaims": all,
		"list persistentvolumes":      all,
	}
	for request, call := range calls {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			client, down := newClient(), errors.New("connection refused")
			client.PrependReactor("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
				return a.GetVerb()+" "+a.GetResource().Resource == request, nil, down
			})
			if err := call(t.Context(), cluster.New(client, namespace)); !errors.Is(err, down) {
				t.Errorf("%v, want %v", err, down)
			}
		})
	}
}

func all(ctx context.Context, c *cluster.Cluster) error {
	_, _, err := c.All(ctx)
	return err
}

// ofProjects is a claim that the projects share, whatever its labels say.
func ofProjects(name string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: namespace, Labels: kube.StorageLabels(name, "project:0f7c-9", "10.2.0.1"),
			Annotations: map[string]string{kube.AnnotationUser: "project:0f7c-9"},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimLost},
	}
}

func TestAll(t *testing.T) {
	t.Parallel()
	mounting := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "somebodys", Namespace: namespace},
		Spec: corev1.PodSpec{Volumes: []corev1.Volume{{Name: "x"}, {Name: "y", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}}}},
	}
	going := func(m *metav1.ObjectMeta) {
		now := metav1.Now()
		m.DeletionTimestamp, m.Finalizers = &now, []string{"kubernetes.io/pvc-protection"}
	}
	client := fake.NewClientset(
		mounting, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Annotations: map[string]string{kube.AnnotationGeneration: "1-7"}}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "elsewhere", Namespace: "other"}},
		&corev1.Service{ObjectMeta: belongs(kube.SuffixHTTP)},
		&corev1.Service{ObjectMeta: belongs("-else")},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name + "-ssh", Namespace: namespace}},
		&networkingv1.Ingress{ObjectMeta: belongs(kube.SuffixIngress)},
		&corev1.PersistentVolumeClaim{ObjectMeta: stored(namespace, going)},
		&corev1.PersistentVolumeClaim{ObjectMeta: stored(namespace, func(m *metav1.ObjectMeta) { m.Name = "user-storage-copied" })},
		volume(namespace),
		ofProjects("projects-data"), ofProjects("projects-software"),
	)
	objects, pods, err := cluster.New(client, namespace).All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantObjects := []reap.Object{
		found("Service", name+"-http", "uid-of-belonging", ofPod), found("Ingress", name+"-ingress", "uid-of-belonging", ofPod),
		found(reap.KindClaim, claim, "uid-stored", func(o *reap.Object) { o.Terminating = true }), found(reap.KindVolume, claim, "uid-stored"),
	}
	if d := cmp.Diff(wantObjects, objects); d != "" {
		t.Errorf("objects (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]reap.Pod{{Name: name, Generation: "1-7"}, {Name: "somebodys", Claims: []string{claim}}}, pods); d != "" {
		t.Errorf("pods (-want +got):\n%s", d)
	}
	// What belongs to pods must be listed before they are.
	var order []string
	for _, a := range client.Actions() {
		order = append(order, a.GetResource().Resource)
	}
	if slices.Index(order, "pods") != len(order)-1 {
		t.Errorf("listed in the order %v; pods have to come last", order)
	}
}

// TestRemove talks to a server: only what a DELETE answers says whether the object is
// gone.
func TestRemove(t *testing.T) {
	t.Parallel()
	gone := metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess}
	last := corev1.Service{TypeMeta: metav1.TypeMeta{Kind: "Service", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: name}}
	keeps := last
	keeps.Finalizers = []string{"example.org/slow"}
	resource := schema.GroupResource{Resource: "services"}
	tests := map[string]struct {
		kind, path string
		status     int
		answer     any
		want       bool
		fails      bool
	}{
		"gone":                    {reap.KindService, "/api/v1/namespaces/berth/services/x", 200, gone, true, false},
		"gone, as it was":         {reap.KindService, "/api/v1/namespaces/berth/services/x", 200, last, true, false},
		"kept by a finalizer":     {reap.KindService, "/api/v1/namespaces/berth/services/x", 200, keeps, false, false},
		"not there":               {reap.KindService, "/api/v1/namespaces/berth/services/x", 404, apierrors.NewNotFound(resource, "x").Status(), true, false},
		"another by now":          {reap.KindService, "/api/v1/namespaces/berth/services/x", 409, apierrors.NewConflict(resource, "x", errors.New("the UID does not match")).Status(), true, false},
		"forbidden":               {reap.KindService, "/api/v1/namespaces/berth/services/x", 403, apierrors.NewForbidden(resource, "x", errors.New("no")).Status(), false, true},
		"an ingress":              {reap.KindIngress, "/apis/networking.k8s.io/v1/namespaces/berth/ingresses/x", 200, gone, true, false},
		"a claim":                 {reap.KindClaim, "/api/v1/namespaces/berth/persistentvolumeclaims/x", 200, gone, true, false},
		"a volume":                {reap.KindVolume, "/api/v1/persistentvolumes/x", 200, gone, true, false},
		"nothing of these at all": {"Node", "", 0, nil, false, true},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			var asked []string
			var options metav1.DeleteOptions
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.Method+" "+r.URL.Path)
				if err := json.NewDecoder(r.Body).Decode(&options); err != nil {
					t.Error(err)
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tt.status)
				if err := json.NewEncoder(w).Encode(tt.answer); err != nil {
					t.Error(err)
				}
			}))
			defer server.Close()
			client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL, Transport: &http.Transport{DisableKeepAlives: true}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := cluster.New(client, namespace).Remove(t.Context(), reap.Object{Kind: tt.kind, Name: "x", UID: uid})
			if got != tt.want || (err != nil) != tt.fails {
				t.Errorf("Remove = %t, %v, want %t", got, err, tt.want)
			}
			if tt.path == "" {
				return
			}
			if d := cmp.Diff([]string{"DELETE " + tt.path}, asked); d != "" {
				t.Errorf("asked for (-want +got):\n%s", d)
			}
			if options.Preconditions == nil || options.Preconditions.UID == nil || *options.Preconditions.UID != uid {
				t.Errorf("asked to delete with %+v, want this UID and no other", options)
			}
		})
	}
}

func TestExists(t *testing.T) {
	t.Parallel()
	c := cluster.New(newClient(), namespace)
	for id, want := range map[string]bool{uid: true, "uid-2": false} {
		if got, err := c.Exists(t.Context(), name, id); got != want || err != nil {
			t.Errorf("Exists(%s) = %t, %v, want %t", id, got, err, want)
		}
	}
	if got, err := c.Exists(t.Context(), "other", uid); got || err != nil {
		t.Errorf("Exists of no pod = %t, %v", got, err)
	}
}
