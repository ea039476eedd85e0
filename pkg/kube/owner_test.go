package kube_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/kube"
)

// Anybody who may make pods in the namespace can write annotations; what no user can
// be called makes a pod nobody's.
func TestOursByAnnotation(t *testing.T) {
	t.Parallel()

	tests := map[string]bool{
		"alice@dtu.dk": true, "project:0f7c-9": true, "": false, "Alice@dtu.dk": false, "a.>": false, "project:": false,
		"a b": false, strings.Repeat("x", 191): false, strings.Repeat("x", 190): true,
	}

	for user, want := range tests {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: "p", Labels: kube.Labels("p", "bob@dtu.dk"), Annotations: map[string]string{kube.AnnotationUser: user},
		}}
		if got := kube.Ours(pod); got != want {
			t.Errorf("a pod of %.20q is ours: %t, want %t", user, got, want)
		}
	}

	long := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
		kube.AnnotationCommand: "c", kube.AnnotationGeneration: strings.Repeat("1", 200_000),
	}}}
	if command, generation := kube.Life(long); command != "" || generation != "" {
		t.Errorf("a life of %d bytes", len(generation))
	}
}

func TestProjectLabels(t *testing.T) {
	t.Parallel()

	const id = "0190f3e0-0000-7000-8000-000000000001"

	got := kube.ProjectLabels("project-"+id, "project:"+id)
	want := map[string]string{"user": "project-" + id, "domain": "", "podName": "project-" + id, "run": "project", "project_id": id}

	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestWhoUsersAre(t *testing.T) {
	t.Parallel()

	for user, want := range map[string][2]bool{
		"alice@dtu.dk": {true, false}, "project:0f7c-9": {false, true}, "": {false, false}, "Alice": {false, false}, strings.Repeat("x", 191): {false, false},
	} {
		if got := [2]bool{kube.Person(user), kube.Project(user)}; got != want {
			t.Errorf("%.20q is a person, a project: %v, want %v", user, got, want)
		}
	}
}

func TestObserveWasReady(t *testing.T) {
	t.Parallel()

	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ready := func(status corev1.ConditionStatus, after time.Duration) []corev1.PodCondition {
		return []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(start.Add(after))}}
	}
	container := func(ready bool) []corev1.ContainerStatus { return []corev1.ContainerStatus{{Ready: ready}} }

	tests := map[string]struct {
		status corev1.PodStatus
		want   bool
	}{
		"not started":                {corev1.PodStatus{Conditions: ready(corev1.ConditionFalse, time.Hour)}, false},
		"ready now":                  {corev1.PodStatus{StartTime: new(metav1.NewTime(start)), Conditions: ready(corev1.ConditionTrue, time.Hour)}, false},
		"never ready":                {corev1.PodStatus{StartTime: new(metav1.NewTime(start)), Conditions: ready(corev1.ConditionFalse, time.Second), ContainerStatuses: container(false)}, false},
		"ready once":                 {corev1.PodStatus{StartTime: new(metav1.NewTime(start)), Conditions: ready(corev1.ConditionFalse, time.Minute), ContainerStatuses: container(false)}, true},
		"its node went out of reach": {corev1.PodStatus{StartTime: new(metav1.NewTime(start)), Conditions: ready(corev1.ConditionFalse, 0), ContainerStatuses: container(true)}, true},
	}

	for name, tt := range tests {
		if got := kube.Observe(&corev1.Pod{Status: tt.status}, nil).WasReady; got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
}
