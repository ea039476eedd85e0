package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestFloorPodIsLikeBerths(t *testing.T) {
	t.Parallel()
	like := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "notebook-u000-example-org", Namespace: "berth", UID: "1", ResourceVersion: "2",
			Labels:      map[string]string{"user": "u000", "podName": "notebook-u000-example-org"},
			Annotations: map[string]string{"berth.dev/user": "u000@example.org"},
		},
		Spec: corev1.PodSpec{
			NodeName: "node-0",
			Volumes:  []corev1.Volume{{Name: "kube-api-access-x7w2z"}, {Name: "scratch"}},
			Containers: []corev1.Container{{
				Name: "main", Env: []corev1.EnvVar{{Name: "SD_UID", Value: "u000@example.org"}},
				VolumeMounts: []corev1.VolumeMount{{Name: "scratch", MountPath: "/tmp"}, {Name: "kube-api-access-x7w2z", MountPath: "/var/run"}},
			}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	before := like.DeepCopy()
	template, err := templateOf(like)
	if err != nil {
		t.Fatal(err)
	}
	got, err := (&floor{template: template}).podFor("u042@example.org")
	if err != nil {
		t.Fatal(err)
	}
	want := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:        "notebook-u042-example-org",
			Labels:      map[string]string{"user": "u042", "podName": "notebook-u042-example-org"},
			Annotations: map[string]string{"berth.dev/user": "u042@example.org"},
		},
		Spec: corev1.PodSpec{
			Volumes: []corev1.Volume{{Name: "scratch"}},
			Containers: []corev1.Container{{
				Name: "main", Env: []corev1.EnvVar{{Name: "SD_UID", Value: "u042@example.org"}},
				VolumeMounts: []corev1.VolumeMount{{Name: "scratch", MountPath: "/tmp"}},
			}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, like); diff != "" {
		t.Errorf("the original was changed (-before +after):\n%s", diff)
	}
}
