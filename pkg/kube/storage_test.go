package kube_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth/pkg/kube"
)

func TestStorageName(t *testing.T) {
	t.Parallel()

	tests := map[string]string{
		"alice@dtu.dk": "user-storage-alice-dtu-dk",
		"a.b@c.d":      "user-storage-a-b-c-d",
		"a_b":          "user-storage-a-b",
	}

	for user, want := range tests {
		if got := kube.StorageName(user, false); got != want {
			t.Errorf("%s: %q, want %q", user, got, want)
		}

		taken := kube.StorageName(user, true)
		if !strings.HasPrefix(taken, want+"-") || len(validation.IsDNS1123Label(taken)) > 0 {
			t.Errorf("%s, where the name is taken: %q", user, taken)
		}
	}
}

// TestStorageNamesOfManyUsers holds that two users never share the name that is
// used where the plain one is another's, and that every name is valid.
func TestStorageNamesOfManyUsers(t *testing.T) {
	t.Parallel()

	const alphabet = "ab-._@"

	random := rand.New(rand.NewPCG(4, 2))
	names := map[string]string{}

	for range 20_000 {
		var id strings.Builder

		id.WriteByte('a')

		for range random.IntN(8) + random.IntN(2)*random.IntN(180) {
			id.WriteByte(alphabet[random.IntN(len(alphabet))])
		}

		id.WriteByte('b')

		for _, taken := range []bool{false, true} {
			name := kube.StorageName(id.String(), taken)
			if faults := validation.IsDNS1123Label(name); len(faults) > 0 {
				t.Fatalf("%q of %s: %v", name, id.String(), faults)
			}

			if before, had := names[name]; taken && had && before != id.String() {
				t.Fatalf("%q is that of %s and %s", name, before, id.String())
			}

			if taken {
				names[name] = id.String()
			}
		}
	}
}

func TestStorageOwner(t *testing.T) {
	t.Parallel()

	object := func(change func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
			Name: "user-storage-alice-dtu-dk", Labels: kube.StorageLabels("user-storage-alice-dtu-dk", "alice@dtu.dk", "10.2.0.1"),
		}}
		change(claim)

		return claim
	}

	tests := map[string]struct {
		change func(*corev1.PersistentVolumeClaim)
		user   string
		ok     bool
	}{
		"of the old backend": {func(*corev1.PersistentVolumeClaim) {}, "alice@dtu.dk", true},
		"of Berth": {func(c *corev1.PersistentVolumeClaim) {
			c.Annotations = map[string]string{kube.AnnotationUser: "a.lice@dtu.dk"}
		}, "a.lice@dtu.dk", true},
		"of a project": {func(c *corev1.PersistentVolumeClaim) {
			c.Annotations = map[string]string{kube.AnnotationUser: "project:0f7c-1"}
		}, "project:0f7c-1", true},
		"of nobody that there can be": {func(c *corev1.PersistentVolumeClaim) {
			c.Annotations = map[string]string{kube.AnnotationUser: strings.Repeat("x", 2000)}
		}, "", false},
		"of a wildcard": {func(c *corev1.PersistentVolumeClaim) {
			c.Annotations = map[string]string{kube.AnnotationUser: "a.>"}
		}, "", false},
		"a user without a domain": {func(c *corev1.PersistentVolumeClaim) { c.Labels[kube.LabelDomain] = "" }, "alice", true},
		"no labels":               {func(c *corev1.PersistentVolumeClaim) { c.Labels = nil }, "", false},
		"the label of another":    {func(c *corev1.PersistentVolumeClaim) { c.Labels[kube.LabelName] = "x" }, "", false},
		"the projects' data, whatever it says": {func(c *corev1.PersistentVolumeClaim) {
			c.Name, c.Labels[kube.LabelName] = "projects-data", "projects-data"
			c.Annotations = map[string]string{kube.AnnotationUser: "project:0f7c-1"}
		}, "", false},
		"another application's": {func(c *corev1.PersistentVolumeClaim) { c.Name, c.Labels[kube.LabelName] = "data", "data" }, "", false},
		"an empty annotation": {func(c *corev1.PersistentVolumeClaim) {
			c.Annotations = map[string]string{kube.AnnotationUser: ""}
		}, "", false},
	}

	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			if user, ok := kube.StorageOwner(object(tt.change)); ok != tt.ok || ok && user != tt.user {
				t.Errorf("%q, %t; want %q, %t", user, ok, tt.user, tt.ok)
			}
		})
	}
}

func TestStorageClaim(t *testing.T) {
	t.Parallel()

	pod := func(claims ...string) *corev1.Pod {
		p := &corev1.Pod{}
		for _, c := range claims {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c},
			}})
		}

		return p
	}

	plain, hashed := kube.StorageName("a.b@c", false), kube.StorageName("a.b@c", true)
	for _, want := range []string{plain, hashed} {
		if got := kube.StorageClaim(pod("other", want), "a.b@c"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}

	if got := kube.StorageClaim(pod("other"), "a.b@c"); got != "" {
		t.Errorf("a pod without storage: %q", got)
	}

	const project = "project:0190f3e0-0000-7000-8000-000000000001"
	if got := kube.StorageClaim(pod("projects-data", "projects-software", kube.StorageName(project, false), kube.StorageName(project, true)), project); got != "" {
		t.Errorf("a project has the storage %q", got)
	}
}

func TestBelongsTo(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		name, label string
		ok          bool
	}{
		"http":                 {"nb-alice-http", "nb-alice", true},
		"ssh":                  {"nb-alice-ssh", "nb-alice", true},
		"ingress":              {"nb-alice-ingress", "nb-alice", true},
		"no label":             {"nb-alice-http", "", false},
		"another pod's":        {"nb-bob-http", "nb-alice", false},
		"somebody's own":       {"nb-alice-metrics", "nb-alice", false},
		"a pod of that prefix": {"nb-alice-2-http", "nb-alice", false},
	}

	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()

			service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{
				Name: tt.name, Labels: kube.BelongingLabels(tt.label, "alice@dtu.dk"), Annotations: map[string]string{kube.AnnotationGeneration: "1-1"},
			}}

			pod, generation, ok := kube.BelongsTo(service)
			if ok != tt.ok || ok && (pod != tt.label || generation != "1-1") {
				t.Errorf("%q, %q, %t", pod, generation, ok)
			}
		})
	}
}
