package pod

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"berth/pkg/license/internal/kubename"
	"berth/pkg/license/internal/tree"
	"berth/pkg/license/quota"
)

// gpu is what a license's gpu asks of a pod.
type gpu struct {
	num         json.Number // "" for none
	resource    string
	labels      []pair
	tolerations []pair
}

// pair is a node label, or a taint that is tolerated: any value of its key where
// the value is empty.
type pair struct{ key, value string }

// object is the toleration.
func (p pair) object() map[string]any {
	if p.value == "" {
		return map[string]any{"key": p.key, "operator": "Exists", "effect": "NoSchedule"}
	}
	return map[string]any{"key": p.key, "operator": "Equal", "value": p.value, "effect": "NoSchedule"}
}

// readGPU reads {num, resource, nodeLabel, toleration}. Without a num above 0, or
// where it is no object, nothing is asked for. Lists have commas between their
// pieces; empty pieces are skipped, since a toleration without a key would
// tolerate every taint. A resource that is no device is refused: cpu and memory have limits of their own.
// What else Kubernetes does not take is refused where a license is saved ([quota.CheckLicense]), and at a start by
// Kubernetes.
func readGPU(text json.RawMessage) (gpu, []quota.Ignored, error) {
	const defaultResource = "nvidia.com/gpu"
	value, err := tree.Decode(text)
	if err != nil {
		return gpu{}, nil, &Error{Field: "gpu", Err: err}
	}
	object, ok := value.(map[string]any)
	if !ok || object["num"] == nil {
		return gpu{}, nil, nil
	}
	num, ok := object["num"].(json.Number)
	if !ok {
		return gpu{}, nil, &Error{Field: "gpu.num", Err: errors.New("it must be a number")}
	}
	if strings.HasPrefix(num.String(), "-") || num == "0" {
		return gpu{}, nil, nil
	}
	texts := map[string]string{}
	for _, name := range []string{"resource", "nodeLabel", "toleration"} {
		s, ok := object[name].(string)
		if object[name] != nil && !ok {
			return gpu{}, nil, &Error{Field: "gpu." + name, Err: errors.New("it must be a string")}
		}
		texts[name] = s
	}
	g := gpu{num: num, resource: texts["resource"]}
	if g.resource == "" {
		g.resource = defaultResource
	}
	if !kubename.Device(g.resource) {
		return gpu{}, nil, &Error{Field: "gpu.resource", Err: fmt.Errorf("%.60q is no resource for devices: write it like %s", g.resource, defaultResource)}
	}

	var ignored []quota.Ignored
	skipped := func(name string) {
		ignored = append(ignored, quota.Ignored{Field: "gpu." + name, Why: "a piece without a key"})
	}
	for piece, p := range pieces(texts["nodeLabel"]) {
		switch {
		case !strings.Contains(piece, "="):
			return gpu{}, nil, &Error{Field: "gpu.nodeLabel", Err: fmt.Errorf("%.60q has no =: write label=value", piece)}
		case p.key == "":
			skipped("nodeLabel")
		default:
			g.labels = append(g.labels, p)
		}
	}
	for _, p := range pieces(texts["toleration"]) {
		if p.key == "" {
			skipped("toleration")
			continue
		}
		g.tolerations = append(g.tolerations, p)
	}
	return g, ignored, nil
}

// pieces are those of a list with commas, without white space around them; what
// follows a second = is not read. Empty ones are left out.
func pieces(list string) func(yield func(string, pair) bool) {
	return func(yield func(string, pair) bool) {
		for piece := range strings.SplitSeq(list, ",") {
			piece = strings.TrimSpace(piece)
			if piece == "" {
				continue
			}
			parts := strings.SplitN(piece, "=", 3)
			p := pair{key: parts[0]}
			if len(parts) > 1 {
				p.value = parts[1]
			}
			if !yield(piece, p) {
				return
			}
		}
	}
}
