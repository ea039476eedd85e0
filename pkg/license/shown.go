package license

import (
	"encoding/json"
	"strconv"
	"strings"

	"berth/pkg/license/internal/tree"
)

// withheld stands for what is not shown.
const withheld = "(withheld)"

// shown are the members of a pod whose values cannot be secret, by their paths: any
// other may be. A | is between members that are alike, a * is any member or element.
// An object or a list at one of these paths is not what belongs there, and not shown.
//
//nolint:gochecknoglobals // A constant.
var shown = places(`
apiVersion|kind
metadata/name|namespace|generateName
metadata/labels/*
spec/serviceAccountName|serviceAccount|automountServiceAccountToken|restartPolicy|nodeName|schedulerName|runtimeClassName
spec/priorityClassName|priority|preemptionPolicy|hostNetwork|hostPID|hostIPC|hostUsers|shareProcessNamespace|enableServiceLinks
spec/hostname|subdomain|setHostnameAsFQDN|dnsPolicy|terminationGracePeriodSeconds|activeDeadlineSeconds
spec/nodeSelector|overhead/*
spec/imagePullSecrets/*/name
spec/tolerations/*/key|operator|value|effect|tolerationSeconds
spec/topologySpreadConstraints/*/maxSkew|topologyKey|whenUnsatisfiable
spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/*/weight
spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/*/preference/matchExpressions/*/key|operator
spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/*/preference/matchExpressions/*/values/*
spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/*/matchExpressions/*/key|operator
spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/*/matchExpressions/*/values/*
spec/securityContext/runAsUser|runAsGroup|runAsNonRoot|fsGroup|fsGroupChangePolicy|supplementalGroupsPolicy
spec/securityContext/supplementalGroups/*
spec/securityContext/seccompProfile|appArmorProfile/type
spec/volumes/*/name
spec/volumes/*/persistentVolumeClaim/claimName|readOnly
spec/volumes/*/emptyDir/medium|sizeLimit
spec/volumes/*/hostPath/path|type
spec/volumes/*/configMap/name|defaultMode|optional
spec/volumes/*/secret/secretName|defaultMode|optional
spec/containers|initContainers|ephemeralContainers/*/name|image|imagePullPolicy|workingDir|restartPolicy|stdin|stdinOnce|tty
spec/containers|initContainers|ephemeralContainers/*/terminationMessagePath|terminationMessagePolicy
spec/containers|initContainers|ephemeralContainers/*/resources/limits|requests/*
spec/containers|initContainers|ephemeralContainers/*/ports/*/name|containerPort|hostPort|hostIP|protocol
spec/containers|initContainers|ephemeralContainers/*/volumeMounts/*/name|mountPath|subPath|readOnly|recursiveReadOnly|mountPropagation
spec/containers|initContainers|ephemeralContainers/*/volumeDevices/*/name|devicePath
spec/containers|initContainers|ephemeralContainers/*/securityContext/runAsUser|runAsGroup|runAsNonRoot|privileged
spec/containers|initContainers|ephemeralContainers/*/securityContext/allowPrivilegeEscalation|readOnlyRootFilesystem|procMount
spec/containers|initContainers|ephemeralContainers/*/securityContext/capabilities/add|drop/*
spec/containers|initContainers|ephemeralContainers/*/securityContext/seccompProfile|appArmorProfile/type
`)

// place is one of a pod's places: whether what is there is shown, and what lies below.
// Nothing of a nil one is shown.
type place struct {
	shown bool
	below map[string]*place
}

func places(table string) *place {
	root := &place{}
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		at := []*place{root}
		for names := range strings.SplitSeq(line, "/") {
			var next []*place
			for _, p := range at {
				for name := range strings.SplitSeq(names, "|") {
					if p.below == nil {
						p.below = map[string]*place{}
					}
					if p.below[name] == nil {
						p.below[name] = &place{}
					}
					next = append(next, p.below[name])
				}
			}
			at = next
		}
		for _, p := range at {
			p.shown = true
		}
	}
	return root
}

// at returns the place below.
func (p *place) at(tokens ...string) *place {
	for _, token := range tokens {
		if p == nil {
			return nil
		}
		next, named := p.below[token]
		if !named {
			next = p.below["*"]
		}
		p = next
	}
	return p
}

// redacted returns what is shown of a value that is at the place, and whether anything
// of it is withheld. The value is not modified.
func (p *place) redacted(value any) (any, bool) {
	if p == nil || len(p.below) == 0 {
		if value == nil || p != nil && p.shown && isScalar(value) {
			return value, false
		}
		return withheld, true
	}
	return p.each(value, (*place).redacted)
}

// masked is redacted, but leaves all objects and lists, so that what a patch does to the
// value it can do to the result.
func (p *place) masked(value any) (any, bool) {
	if value == nil || isScalar(value) {
		return p.redacted(value)
	}
	return p.each(value, (*place).masked)
}

// each replaces what is in an object or a list. Anything else does not belong there.
func (p *place) each(value any, replace func(*place, any) (any, bool)) (any, bool) {
	found := false
	switch c := value.(type) {
	case nil:
		return nil, false
	case map[string]any:
		object := make(map[string]any, len(c))
		for name, child := range c {
			shown, hidden := replace(p.at(name), child)
			object[name], found = shown, found || hidden
		}
		return object, found
	case []any:
		list := make([]any, len(c))
		for i, child := range c {
			shown, hidden := replace(p.at(strconv.Itoa(i)), child)
			list[i], found = shown, found || hidden
		}
		return list, found
	default:
		return withheld, true
	}
}

func isScalar(value any) bool {
	switch value.(type) {
	case map[string]any, []any:
		return false
	default:
		return true
	}
}

// shortest is how long, in bytes, a value has to be to be looked for in a text: shorter
// ones are in many texts that do not quote them.
const shortest = 8

// Reveals reports whether a text, as a message of the API server, quotes a value of a pod
// that is not to be shown, of at least 8 bytes. What is in the pod's name is no secret.
// What is no JSON has no values.
func Reveals(pod json.RawMessage, text string) bool {
	root, err := tree.Decode(pod)
	if err != nil {
		return false
	}
	name := tree.Text(any(tree.Object(root, "metadata")), "name")
	return shown.anyWithheld(root, func(value string) bool {
		quoted := strconv.Quote(value)
		return len(value) >= shortest && !strings.Contains(name, value) &&
			(strings.Contains(text, value) || strings.Contains(text, quoted[1:len(quoted)-1]))
	})
}

// anyWithheld calls with each text and number that is not shown, until one is what is
// looked for.
func (p *place) anyWithheld(value any, found func(string) bool) bool {
	switch c := value.(type) {
	case map[string]any:
		for name, child := range c {
			if p.at(name).anyWithheld(child, found) {
				return true
			}
		}
	case []any:
		for i, child := range c {
			if p.at(strconv.Itoa(i)).anyWithheld(child, found) {
				return true
			}
		}
	case string:
		return (p == nil || !p.shown) && found(c)
	case json.Number:
		return (p == nil || !p.shown) && found(c.String())
	}
	return false
}
