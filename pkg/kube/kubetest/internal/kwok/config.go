// Package kwok writes the configuration of KWOK, which plays the kubelets of a cluster: which stages pods and nodes go through, and when.
package kwok

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

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
	// parallelism is how many pods are patched at once. A patch waits for the API server, it costs KWOK little.
	parallelism = 16
	// podCIDR has addresses for a million pods.
	podCIDR = "10.64.0.0/12"
)

// Exec makes exec into pods run the command on this machine.
type Exec struct {
	Dir  string
	User *int64 // And group; KWOK's own if nil.
}

// Config returns the configuration as YAML documents. Without exec, exec into a pod fails.
func Config(exec *Exec) ([]byte, error) {
	docs := []object{options(exec != nil)}
	if exec != nil {
		docs = append(docs, clusterExec(*exec))
	}
	stages, err := stages()
	if err != nil {
		return nil, fmt.Errorf("write KWOK stages: %w", err)
	}
	for _, s := range stages {
		docs = append(docs, s.object())
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

func stages() ([]stage, error) {
	all := []stage{
		{name: "node-ready", kind: "Node", when: []any{is(readyQuery, "NotIn", "True")}, steps: []any{patchStatus(nodeStatus)}},
		{
			name: "node-heartbeat", kind: "Node", after: heartbeat, jitter: heartbeatJitter,
			when: []any{is(readyQuery, "In", "True")}, steps: []any{patchStatus(nodeStatus)},
		},
		// A deletion is confirmed once: with no grace left the API server waits for finalizers only, whose removal is not up to a kubelet.
		{name: "pod-delete", kind: "Pod", when: []any{is(graceQuery, "In", "true"), is(stageQuery, "NotIn", Stuck)}, steps: []any{object{"delete": true}}},
		{name: "pod-delete-" + Stuck, kind: "Pod", annotation: Stuck, delay: true, when: []any{is(graceQuery, "In", "true")}, steps: []any{object{"delete": true}}},
	}
	scripts := scripts()
	values := slices.Sorted(maps.Keys(scripts))
	for _, value := range values {
		from := fresh
		for i, step := range scripts[value] {
			steps, err := actions(step)
			if err != nil {
				return nil, err
			}
			s := stage{
				name: "pod-" + value + "-" + strconv.Itoa(i), kind: "Pod", annotation: value, after: step.after, delay: step.delay,
				when: []any{is(deletionQuery, "DoesNotExist"), is(positionQuery, "In", from)}, steps: steps,
			}
			if value == "" {
				s.name, s.when = "pod", append([]any{is(stageQuery, "DoesNotExist")}, s.when...)
			}
			all = append(all, s)
			from = step.to.position()
		}
	}
	steps, err := actions(step{to: waiting("CreateContainerConfigError", "annotation "+StageAnnotation+": there is no such stage")})
	if err != nil {
		return nil, err
	}
	return append(all, stage{
		name: "pod-no-such-stage", kind: "Pod", steps: steps,
		when: []any{is(stageQuery, "Exists"), is(stageQuery, "NotIn", values...), is(deletionQuery, "DoesNotExist"), is(positionQuery, "In", fresh)},
	}), nil
}

func options(exec bool) object {
	return object{
		"apiVersion": "config.kwok.x-k8s.io/v1alpha1", "kind": "KwokConfiguration",
		"metadata": object{"name": "kwok"},
		// What is missing here is zero: KWOK has no defaults for a configuration that comes from a file.
		"options": object{
			"cidr": podCIDR, "podPlayStageParallelism": parallelism, "nodePlayStageParallelism": 4, "podsOnNodeSyncParallelism": 1,
			"enableDebuggingHandlers": exec,
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
