package kube_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/kube"
)

func TestSignalOf(t *testing.T) {
	t.Parallel()

	early := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	late := early.Add(time.Minute)

	tests := map[string]struct {
		event  corev1.Event
		want   kube.Signal
		wantOK bool
	}{
		"a container's, old API": {
			event: corev1.Event{
				Reason: "Pulling", Message: "m", Type: "Normal",
				InvolvedObject: corev1.ObjectReference{FieldPath: "spec.initContainers{setup}"},
				FirstTimestamp: metav1.NewTime(early), LastTimestamp: metav1.NewTime(late),
			},
			want: kube.Signal{Reason: "Pulling", Message: "m", Type: "Normal", Container: "setup", Time: late}, wantOK: true,
		},
		"the pod's, new API": {
			event: corev1.Event{
				Reason: "FailedScheduling", Message: "m", Type: "Warning", EventTime: metav1.NewMicroTime(early),
				Series: &corev1.EventSeries{LastObservedTime: metav1.NewMicroTime(late)},
			},
			want: kube.Signal{Reason: "FailedScheduling", Message: "m", Type: "Warning", Time: late}, wantOK: true,
		},
		"odd field path": {
			event: corev1.Event{
				Reason: "BackOff", InvolvedObject: corev1.ObjectReference{FieldPath: "spec.containers{web"},
				ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(early)},
			},
			want: kube.Signal{Reason: "BackOff", Time: early}, wantOK: true,
		},
		"of no use": {event: corev1.Event{Reason: "Scheduled"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			got, ok := kube.SignalOf(&tc.event)
			if diff := cmp.Diff(tc.want, got); diff != "" || ok != tc.wantOK {
				t.Errorf("SignalOf, ok %v (-want +got):\n%s", ok, diff)
			}
		})
	}
}
