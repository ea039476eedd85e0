package kwok

import (
	_ "embed" // For the templates.
	"encoding/json"
	"fmt"
	"time"
)

const (
	// defaultDelay is the delay of a pod without the annotation.
	defaultDelay = 3 * time.Second
	// heartbeat is well below the 50 s after which the node lifecycle controller gives a node up.
	heartbeat, heartbeatJitter = 15 * time.Second, 5 * time.Second
)

// Queries in jq, which stages compare with values.
const (
	deletionQuery = `.metadata.deletionTimestamp`
	graceQuery    = `(.metadata.deletionGracePeriodSeconds // 0) > 0`
	stageQuery    = `.metadata.annotations["` + StageAnnotation + `"]`
	delayQuery    = `.metadata.annotations["` + DelayAnnotation + `"]`
	readyQuery    = `.status.conditions.[] | select(.type == "Ready") | .status`
)

var (
	//go:embed pod-status.tmpl
	podStatus string
	//go:embed pod-event.tmpl
	podEvent string
	//go:embed node-status.tmpl
	nodeStatus string
)

type object = map[string]any

// stage is what KWOK does to an object that fits, and when.
type stage struct {
	name, kind string
	// annotation is the value of the stage annotation that a pod must have, any if empty. It is compared before the queries of when and at
	// next to no cost, so that a plain pod pays for the queries of few stages.
	annotation    string
	when          []any // All must hold; the costly ones come last.
	after, jitter time.Duration
	delay         bool // The pod's delay instead of after.
	steps         []any
}

func (s stage) object() object {
	selector := object{"matchExpressions": s.when}
	if s.annotation != "" {
		selector["matchAnnotations"] = object{StageAnnotation: s.annotation}
	}
	delay := object{"durationMilliseconds": s.after.Milliseconds()}
	if s.jitter > 0 {
		delay["jitterDurationMilliseconds"] = (s.after + s.jitter).Milliseconds()
	}
	if s.delay {
		delay = object{"durationMilliseconds": defaultDelay.Milliseconds(), "durationFrom": object{"jq": object{"expression": delayQuery}}}
	}
	return object{
		"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage",
		"metadata": object{"name": s.name},
		"spec":     object{"resourceRef": object{"apiGroup": "v1", "kind": s.kind}, "selector": selector, "delay": delay, "steps": s.steps},
	}
}

func is(query, operator string, values ...string) object {
	return object{"jq": object{"key": query, "operator": operator, "values": values}}
}

// actions are what leads a pod to the end of a step.
func actions(step step) ([]any, error) {
	to, err := json.Marshal(step.to)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	actions := []any{patchStatus(constant("to", to) + podStatus)}
	for _, event := range step.events {
		data, err := json.Marshal(event)
		if err != nil {
			return nil, fmt.Errorf("encode event: %w", err)
		}
		actions = append(actions, object{"apply": object{"type": "merge", "template": constant("event", data) + podEvent}})
	}
	return actions, nil
}

func patchStatus(template string) object {
	return object{"patch": object{"subresource": "status", "template": template}}
}

// constant defines a variable of a template. JSON has backquotes in strings only, and ours have none.
func constant(name string, value []byte) string {
	return "{{- $" + name + " := fromJson `" + string(value) + "` -}}\n"
}
