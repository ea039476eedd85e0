package kube_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

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

// What the selector leaves out is of no use, and it leaves out nothing that is.
func TestSignalSelector(t *testing.T) {
	t.Parallel()
	selector, err := fields.ParseSelector(kube.SignalSelector)
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range []string{
		"Pulling", "Pulled", "Failed", "BackOff", "FailedScheduling", "FailedMount", "FailedAttachVolume", "FailedMapVolume",
		"FailedCreatePodSandBox", "Scheduled", "Created", "Started", "Killing",
	} {
		_, useful := kube.SignalOf(&corev1.Event{Reason: reason})
		if sent := selector.Matches(fields.Set{"involvedObject.kind": "Pod", "reason": reason}); sent != useful {
			t.Errorf("%s is sent: %t, is useful: %t", reason, sent, useful)
		}
	}
	if selector.Matches(fields.Set{"involvedObject.kind": "Node", "reason": "Failed"}) {
		t.Error("events of nodes are sent")
	}
}
