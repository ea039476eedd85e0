package kube

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Event reasons of kubelet, scheduler and attach-detach controller that tell
// more than the pod's status does.
const (
	eventPulling          = "Pulling"
	eventPulled           = "Pulled"
	eventFailed           = "Failed"
	eventBackOff          = "BackOff"
	eventFailedScheduling = "FailedScheduling"
	eventFailedMount      = "FailedMount"
	eventFailedAttach     = "FailedAttachVolume"
	eventFailedMap        = "FailedMapVolume"
	eventFailedSandbox    = "FailedCreatePodSandBox"
)

// SignalSelector is the field selector of the events that can be signals: those
// about pods, without the ones that every pod has and [SignalOf] has no use for,
// which would be most of what the API server sends.
const SignalSelector = "involvedObject.kind=Pod,reason!=Scheduled,reason!=Created,reason!=Started,reason!=Killing"

// Signal is a Kubernetes event about a pod, as far as Observe uses it.
type Signal struct {
	Reason  string
	Message string
	// Type is "Normal" or "Warning".
	Type string
	// Container is the container that the event is about, or empty.
	Container string
	// Time is when the event happened last.
	Time time.Time
}

// SignalOf returns the signal that an event carries; ok is false for events
// that Observe has no use for. The caller makes sure that the event is about the
// very pod that it observes (involvedObject.uid), and keeps the newest signal.
func SignalOf(event *corev1.Event) (signal Signal, ok bool) {
	switch event.Reason {
	case eventPulling, eventPulled, eventFailed, eventBackOff, eventFailedScheduling,
		eventFailedMount, eventFailedAttach, eventFailedMap, eventFailedSandbox:
	default:
		return Signal{}, false
	}

	return Signal{
		Reason:    event.Reason,
		Message:   event.Message,
		Type:      event.Type,
		Container: containerOf(event.InvolvedObject.FieldPath),
		Time:      lastTime(event),
	}, true
}

// containerOf reads the name out of "spec.containers{name}".
func containerOf(fieldPath string) string {
	_, rest, found := strings.Cut(fieldPath, "{")
	name, closed := strings.CutSuffix(rest, "}")

	if !found || !closed {
		return ""
	}

	return name
}

// lastTime is the latest of the times of an event: writers of old and new event
// APIs fill different ones.
func lastTime(event *corev1.Event) time.Time {
	latest := event.CreationTimestamp.Time
	times := []time.Time{event.FirstTimestamp.Time, event.LastTimestamp.Time, event.EventTime.Time}

	if event.Series != nil {
		times = append(times, event.Series.LastObservedTime.Time)
	}

	for _, at := range times {
		if at.After(latest) {
			latest = at
		}
	}

	return latest
}
