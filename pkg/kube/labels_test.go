package kube_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"

	"berth/pkg/kube"
)

func ExampleLabels() {
	labels := kube.Labels("ssh-a-b-c", "a-@b.c")
	fmt.Println(labels[kube.LabelUser], labels[kube.LabelDomain], labels[kube.LabelPodName])
	// Output: a b.c ssh-a-b-c
}

func TestLabelValue(t *testing.T) {
	t.Parallel()

	long := strings.Repeat("u", 64)
	tests := map[string]struct{ in, want string }{
		"empty":               {"", ""},
		"valid":               {"Alice.B_c-1", "Alice.B_c-1"},
		"ends in a dash":      {"a-", "a"},
		"nothing but dots":    {"...", ""},
		"forbidden character": {"a:b", "a-b"},
		"63 bytes":            {long[:63], long[:63]},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			if got := kube.LabelValue(tc.in); got != tc.want {
				t.Errorf("LabelValue(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}

	if kube.LabelValue(long) == kube.LabelValue(long+"u") {
		t.Error("two long values have one label")
	}
}

func TestLabelsAreAlwaysValid(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		user := rapid.OneOf(rapid.StringMatching(userPattern), rapid.String()).Draw(t, "user")
		for key, value := range kube.Labels("pod", user) {
			if faults := validation.IsValidLabelValue(value); len(faults) > 0 {
				t.Fatalf("label %s of %q is %q: %v", key, user, value, faults)
			}

			if again := kube.LabelValue(value); again != value {
				t.Fatalf("LabelValue(%q) = %q", value, again)
			}
		}
	})
}

func TestOwner(t *testing.T) {
	t.Parallel()

	type labels = map[string]string

	tests := map[string]struct {
		meta     metav1.ObjectMeta
		want     string
		wantOurs bool
	}{
		"annotation and labels": {
			meta: metav1.ObjectMeta{
				Name: "p", Labels: kube.Labels("p", "a-@b.c"), Annotations: labels{kube.AnnotationUser: "a-@b.c"},
			},
			want: "a-@b.c", wantOurs: true,
		},
		"annotation decides": {
			meta: metav1.ObjectMeta{
				Name: "p", Labels: kube.Labels("p", "eve@b.c"), Annotations: labels{kube.AnnotationUser: "alice@b.c"},
			},
			want: "alice@b.c", wantOurs: true,
		},
		"annotation without labels": {
			meta: metav1.ObjectMeta{Name: "p", Annotations: labels{kube.AnnotationUser: "alice@b.c"}},
			want: "alice@b.c",
		},
		"empty annotation": {
			meta: metav1.ObjectMeta{Name: "p", Labels: kube.Labels("p", "a@b"), Annotations: labels{kube.AnnotationUser: ""}},
		},
		"old backend": {
			meta: metav1.ObjectMeta{Name: "p", Labels: labels{"user": "alice", "domain": "dtu.dk", "podName": "p"}},
			want: "alice@dtu.dk", wantOurs: true,
		},
		"old backend, no domain": {
			meta: metav1.ObjectMeta{Name: "p", Labels: labels{"user": "alice", "domain": "", "podName": "p"}},
			want: "alice", wantOurs: true,
		},
		"copy under another name": {
			meta: metav1.ObjectMeta{Name: "q", Labels: labels{"user": "alice", "domain": "dtu.dk", "podName": "p"}},
		},
		"copy with annotation": {
			meta: metav1.ObjectMeta{
				Name: "q", Labels: kube.Labels("p", "alice"), Annotations: labels{kube.AnnotationUser: "alice"},
			},
			want: "alice",
		},
		"no domain label": {
			meta: metav1.ObjectMeta{Name: "p", Labels: labels{"user": "alice", "podName": "p"}},
		},
		"labels that are no user id": {
			meta: metav1.ObjectMeta{Name: "p", Labels: labels{"user": "Alice", "domain": "dtu.dk", "podName": "p"}},
		},
		"user too short": {
			meta: metav1.ObjectMeta{Name: "p", Labels: labels{"user": "a", "domain": "", "podName": "p"}},
		},
		"somebody else's pod": {
			meta: metav1.ObjectMeta{Name: "p", Labels: labels{"app": "dns"}},
		},
		"nothing": {meta: metav1.ObjectMeta{}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			pod := &corev1.Pod{ObjectMeta: tc.meta}

			got, ok := kube.Owner(pod)
			if diff := cmp.Diff(tc.want, got); diff != "" || ok != (tc.want != "") {
				t.Errorf("Owner (-want +got), ok %v:\n%s", ok, diff)
			}

			if ours := kube.Ours(pod); ours != tc.wantOurs {
				t.Errorf("Ours = %v, want %v", ours, tc.wantOurs)
			}
		})
	}
}

func TestEveryUserIsAdoptedAsItself(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		user := rapid.StringMatching(`[a-z0-9]([-a-z0-9._]{0,20}[a-z0-9])?@[a-z0-9]([-a-z0-9._]{0,20}[a-z0-9])?`).Draw(t, "user")
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: kube.Labels("p", user)}}

		if got, ok := kube.Owner(pod); !ok || got != user {
			t.Fatalf("Owner = %q, %v, want %q", got, ok, user)
		}
	})
}
