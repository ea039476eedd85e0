// Package kwok writes the configuration of KWOK, which plays the kubelets of a cluster: which stages pods and nodes go through, and when.
package kwok

import (
	_ "embed" // For the templates.
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"sigs.k8s.io/yaml"
)

// The annotations of a pod, and the values of the first. What they promise is in the package comment of kubetest.
const (
	StageAnnotation = "berth.test/stage"
	DelayAnnotation = "berth.test/delay"

	SlowPull     = "slow-pull"
	PullFails    = "pull-fails"
	InvalidImage = "invalid-image"
	Crash        = "crash"
	Fails        = "fails"
	Completes    = "completes"
	CrashesLater = "crashes-later"
	OOM          = "oom"
	Evict        = "evict"
	Unready      = "unready"
	Flaps        = "flaps"
	NeverReady   = "never-ready"
	Stuck        = "stuck-terminating"
)

const (
	// defaultDelay is the delay of a pod without the annotation.
	defaultDelay = 3 * time.Second
	// heartbeat is well below the 50 s after which the node lifecycle controller gives a node up.
	heartbeat, heartbeatJitter = 15 * time.Second, 5 * time.Second
	// parallelism is how many pods are patched at once. A patch waits for the API server, it costs KWOK little.
	parallelism = 16
	// podCIDR has addresses for a million pods.
	podCIDR = "10.64.0.0/12"

	stageQuery = `.metadata.annotations["` + StageAnnotation + `"]`
	graceQuery = `(.metadata.deletionGracePeriodSeconds // 0) > 0`
	readyQuery = `.status.conditions.[] | select(.type == "Ready") | .status`
)

var (
	//go:embed pod-status.tmpl
	podStatus string
	//go:embed pod-event.tmpl
	podEvent string
	//go:embed node-status.tmpl
	nodeStatus string
)

// Exec makes exec into pods run the command on this machine.
type Exec struct {
	Dir  string
	User *int64 // And group; KWOK's own if nil.
}

// Config returns the configuration as YAML documents. Without exec, exec into a pod fails.
func Config(exec *Exec) ([]byte, error) {
	docs := []any{options(exec != nil), nodeStage("node-ready", "NotIn", 0, 0), nodeStage("node-heartbeat", "In", heartbeat, heartbeatJitter)}
	scripts := scripts()
	for _, value := range slices.Sorted(maps.Keys(scripts)) {
		from := fresh
		for i, step := range scripts[value] {
			doc, err := podStage(value, i, from, step)
			if err != nil {
				return nil, err
			}
			docs = append(docs, doc)
			from = step.to.position()
		}
	}
	unknown, err := unknownStage(slices.Collect(maps.Keys(scripts)))
	if err != nil {
		return nil, err
	}
	docs = append(docs, unknown, deleteStage(), stuckStage())
	if exec != nil {
		docs = append(docs, clusterExec(*exec))
	}
	var config []byte
	for _, doc := range docs {
		data, err := yaml.Marshal(doc)
		if err != nil {
			return nil, fmt.Errorf("encode KWOK configuration: %w", err)
		}
		config = append(append(config, "---\n"...), data...)
	}
	return config, nil
}

type object = map[string]any

func options(exec bool) object {
	return object{
		"apiVersion": "config.kwok.x-k8s.io/v1alpha1", "kind": "KwokConfiguration",
		"metadata": object{"name": "kwok"},
		"options": object{
			"cidr": podCIDR, "enableDebuggingHandlers": exec, "podPlayStageParallelism": parallelism, "nodePlayStageParallelism": 4, "podsOnNodeSyncParallelism": 1,
			// No leases, the heartbeat is in the node's status: while KWOK takes leases over from an earlier run, it drops what happens to
			// pods, and then never plays them.
			"nodeLeaseDurationSeconds": 0,
		},
	}
}

func clusterExec(exec Exec) object {
	local := object{"workDir": exec.Dir}
	if exec.User != nil {
		local["securityContext"] = object{"runAsUser": *exec.User, "runAsGroup": *exec.User}
	}
	return object{
		"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "ClusterExec",
		"metadata": object{"name": "local"},
		"spec":     object{"execs": []any{object{"local": local}}},
	}
}

func stage(kind, name string, delay object, expressions, steps []any) object {
	spec := object{
		"resourceRef": object{"apiGroup": "v1", "kind": kind},
		"selector":    object{"matchExpressions": expressions},
		"steps":       steps,
	}
	if delay != nil {
		spec["delay"] = delay
	}
	return object{"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": object{"name": name}, "spec": spec}
}

func nodeStage(name, operator string, after, jitter time.Duration) object {
	delay := object{"durationMilliseconds": after.Milliseconds(), "jitterDurationMilliseconds": (after + jitter).Milliseconds()}
	return stage("Node", name, delay, []any{match(readyQuery, operator, "True")}, []any{object{"patch": object{"subresource": "status", "root": "status", "template": nodeStatus}}})
}

// podStage is the step of a script: pods that ask for it, at the position where the step begins.
func podStage(value string, index int, from string, step step) (object, error) {
	steps, err := actions(step)
	if err != nil {
		return nil, err
	}
	delay := object{"durationMilliseconds": step.after.Milliseconds()}
	if step.delay {
		delay = podDelay()
	}
	name, is := "pod-"+value, []any{match(positionQuery, "In", from), absent(".metadata.deletionTimestamp")}
	if value == "" {
		return stage("Pod", "pod", delay, append(is, absent(stageQuery)), steps), nil
	}
	s := stage("Pod", name+"-"+strconv.Itoa(index), delay, is, steps)
	// Annotations are compared first, at next to no cost: a plain pod pays for one query, not for all.
	s["spec"].(object)["selector"].(object)["matchAnnotations"] = object{StageAnnotation: value}
	return s, nil
}

func actions(step step) ([]any, error) {
	to, err := json.Marshal(step.to)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	actions := []any{object{"patch": object{"subresource": "status", "template": prelude("to", to) + podStatus}}}
	for _, event := range step.events {
		data, err := json.Marshal(event)
		if err != nil {
			return nil, fmt.Errorf("encode event: %w", err)
		}
		actions = append(actions, object{"apply": object{"type": "merge", "template": prelude("event", data) + podEvent}})
	}
	return actions, nil
}

// unknownStage says what is wrong with a pod that asks for a stage that does not exist, and leaves it at that.
func unknownStage(known []string) (object, error) {
	steps, err := actions(step{to: waiting("CreateContainerConfigError", "annotation "+StageAnnotation+": there is no such stage")})
	if err != nil {
		return nil, err
	}
	is := []any{match(positionQuery, "In", fresh), absent(".metadata.deletionTimestamp"), exists(stageQuery), match(stageQuery, "NotIn", known...)}
	return stage("Pod", "pod-unknown-stage", nil, is, steps), nil
}

// deleteStage confirms a deletion, once: with no grace left the API server waits for finalizers only, whose removal is not up to a kubelet.
func deleteStage() object {
	return stage("Pod", "pod-delete", nil,
		[]any{match(graceQuery, "In", "true"), match(stageQuery, "NotIn", Stuck)}, []any{object{"delete": true}})
}

func stuckStage() object {
	return stage("Pod", "pod-delete-"+Stuck, podDelay(),
		[]any{match(graceQuery, "In", "true"), match(stageQuery, "In", Stuck)}, []any{object{"delete": true}})
}

func podDelay() object {
	return object{
		"durationMilliseconds": defaultDelay.Milliseconds(),
		"durationFrom":         object{"jq": object{"expression": `.metadata.annotations["` + DelayAnnotation + `"]`}},
	}
}

// prelude gives a template a constant. JSON has no backquote but in strings, and ours have none.
func prelude(name string, value []byte) string {
	return "{{- $" + name + " := fromJson `" + string(value) + "` -}}\n"
}

func match(key, operator string, values ...string) object {
	return object{"jq": object{"key": key, "operator": operator, "values": values}}
}

func exists(key string) object { return match(key, "Exists") }

func absent(key string) object { return match(key, "DoesNotExist") }
