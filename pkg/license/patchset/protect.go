package patchset

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"berth/pkg/license/internal/tree"
)

// Protection says what no patch may change. Names are compared as written, as
// the API server does. It is held after each operation, so that a change that a
// later operation takes back is refused too.
type Protection struct {
	// Paths are JSON pointers. What is at each must stay what it is: a value that
	// is added, also null, and one that goes are changes, and so is another
	// element in an element's place. What the API server reads in place of such a
	// value, the deprecated names of a service account and of AppArmor profiles, is
	// protected with it.
	Paths []string
	// AnnotationPrefix protects every annotation whose name begins with it; ""
	// protects none.
	AnnotationPrefix string
	// ForbidHostPath: no volume of a host's path comes in, and none that the pod
	// has is renamed, or mounted anew.
	ForbidHostPath bool
	// ForbidPrivileged: no container, of any kind, becomes privileged, and none
	// that is becomes another one.
	ForbidPrivileged bool
	// ForbidHostNetwork: hostNetwork, hostPID and hostIPC are not switched on.
	ForbidHostNetwork bool
}

// The rules of the prohibitions, as [Error.Rule] names them.
const (
	RuleHostPath    = "hostPath is forbidden"
	RulePrivileged  = "privileged is forbidden"
	RuleHostNetwork = "hostNetwork, hostPID and hostIPC are forbidden"
)

// Identity are the paths that no patch may change anywhere: what makes the pod
// this pod, and the labels of these names, by which its owner is known.
func Identity(labels ...string) []string {
	paths := []string{
		"/apiVersion", "/kind", "/metadata/name", "/metadata/namespace",
		"/metadata/generateName", "/metadata/ownerReferences", "/metadata/finalizers",
		// What the API server alone sets.
		"/metadata/resourceVersion", "/metadata/uid", "/metadata/generation", "/metadata/selfLink", "/metadata/managedFields",
		"/metadata/creationTimestamp", "/metadata/deletionTimestamp", "/metadata/deletionGracePeriodSeconds", "/status",
	}
	for _, label := range labels {
		paths = append(paths, tree.Pointer("metadata", "labels", label))
	}
	return paths
}

// appArmorPrefix is that of the annotations that stand for a container's AppArmor
// profile where its security context has none.
const appArmorPrefix = "container.apparmor.security.beta.kubernetes.io/"

// alias returns the other path at which the API server takes the same value from.
func alias(path string) (other string, ok bool) {
	const account, deprecated = "/spec/serviceAccountName", "/spec/serviceAccount"
	switch path {
	case account:
		return deprecated, true
	case deprecated:
		return account, true
	default:
		return "", false
	}
}

// holdsAppArmor says whether an AppArmor profile is at, above or below a path.
func holdsAppArmor(tokens []string) bool {
	if tokens[0] != "spec" {
		return false
	}
	at := slices.IndexFunc(tokens, func(token string) bool { return token == "securityContext" })
	if at < 0 { // The pod's, or a container's, is at the second or fourth place.
		return len(tokens) == 1 || strings.HasSuffix(strings.ToLower(tokens[1]), "containers") && len(tokens) < 4
	}
	return at+1 == len(tokens) || tokens[at+1] == "appArmorProfile"
}

// Validate checks that the paths are JSON pointers to a part of the document. The
// error names the first that is none.
func (p Protection) Validate() error {
	for _, path := range p.Paths {
		tokens, err := tree.Tokens(path)
		if err == nil && len(tokens) == 0 {
			err = errors.New("it is the whole pod: name a part of it")
		}
		if err != nil {
			return fmt.Errorf("read protected path %q: %w", path, err)
		}
	}
	return nil
}

// held is what a document had before a patch.
type held struct {
	Protection

	at                    []protected
	annotations, appArmor map[string]any
	hostPaths, privileged map[string]bool
	host                  map[string]any
}

// protected is what was at one path.
type protected struct {
	path   string
	tokens []string
	value  any
	there  bool
}

// hold remembers what the rules protect. The rules are valid.
func hold(root any, rules Protection) *held {
	h := &held{Protection: rules, annotations: annotations(root, rules.AnnotationPrefix)}
	for _, path := range rules.Paths {
		h.hold(root, path)
		if other, ok := alias(path); ok {
			h.hold(root, other)
		}
	}
	if rules.ForbidHostPath {
		h.hostPaths = hostPaths(root)
	}
	if rules.ForbidPrivileged {
		h.privileged = privileged(root)
	}
	h.host = hostNamespaces(root)
	return h
}

// hold remembers what is at a path.
func (h *held) hold(root any, path string) {
	tokens, err := tree.Tokens(path)
	if err != nil {
		return // Validate has seen to it.
	}
	value, there := get(root, tokens)
	h.at = append(h.at, protected{path, tokens, tree.Clone(value), there})
	if h.appArmor == nil && holdsAppArmor(tokens) {
		h.appArmor = annotations(root, appArmorPrefix)
	}
}

// broken names the rule that the document, as it is now, breaks; "" for none.
func (h *held) broken(root any) string {
	for _, p := range h.at {
		value, there := get(root, p.tokens)
		if there != p.there || !tree.Equal(value, p.value) {
			return p.path + " is protected"
		}
	}
	if now := annotations(root, h.AnnotationPrefix); !tree.Equal(any(now), any(h.annotations)) {
		return "annotations " + h.AnnotationPrefix + "… are protected"
	}
	if h.appArmor != nil && !tree.Equal(any(annotations(root, appArmorPrefix)), any(h.appArmor)) {
		return "annotations " + appArmorPrefix + "… are protected"
	}
	switch {
	case h.ForbidHostPath && !subset(hostPaths(root), h.hostPaths):
		return RuleHostPath
	case h.ForbidPrivileged && !subset(privileged(root), h.privileged):
		return RulePrivileged
	}
	if h.ForbidHostNetwork {
		for name, value := range hostNamespaces(root) {
			before, there := h.host[name]
			if !there || !tree.Equal(value, before) {
				return RuleHostNetwork
			}
		}
	}
	return ""
}

func subset(now, before map[string]bool) bool {
	for key := range now {
		if !before[key] {
			return false
		}
	}
	return true
}

func get(node any, tokens []string) (any, bool) {
	return (&tree.Editor{Root: node}).Get(tokens...)
}

// annotations are those of a prefix.
func annotations(root any, prefix string) map[string]any {
	found := map[string]any{}
	if prefix == "" {
		return found
	}
	object, _ := root.(map[string]any)
	for name, value := range tree.Object(object["metadata"], "annotations") {
		if strings.HasPrefix(name, prefix) {
			found[name] = tree.Clone(value)
		}
	}
	return found
}

// on says that a switch is not plainly off.
func on(value any) bool { return value != nil && value != false }

func hostNamespaces(root any) map[string]any {
	found := map[string]any{}
	for _, name := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		if value := tree.Object(root, "spec")[name]; on(value) {
			found[name] = tree.Clone(value)
		}
	}
	return found
}

// containers calls with each container of each kind.
func containers(root any, call func(kind string, container any)) {
	for _, kind := range []string{"initContainers", "containers", "ephemeralContainers"} {
		for _, container := range tree.List(any(tree.Object(root, "spec")), kind) {
			call(kind, container)
		}
	}
}

// hostPaths has the volumes that are a host's paths, and their mounts.
func hostPaths(root any) map[string]bool {
	found, names := map[string]bool{}, map[string]bool{}
	for _, volume := range tree.List(any(tree.Object(root, "spec")), "volumes") {
		object, _ := volume.(map[string]any)
		if source := object["hostPath"]; source != nil {
			found["volume "+string(tree.Encode([]any{object["name"], source}))] = true
			names[tree.Text(volume, "name")] = true
		}
	}
	if len(names) == 0 {
		return found
	}
	containers(root, func(kind string, container any) {
		for _, mount := range tree.List(container, "volumeMounts") {
			if names[tree.Text(mount, "name")] {
				found["mount "+kind+" "+tree.Text(container, "name")+" "+string(tree.Encode(mount))] = true
			}
		}
	})
	return found
}

// privileged has the containers that are privileged, each with all that it is: one
// that became another image would be a new one.
func privileged(root any) map[string]bool {
	found := map[string]bool{}
	containers(root, func(kind string, container any) {
		if on(tree.Object(container, "securityContext")["privileged"]) {
			found[kind+" "+string(tree.Encode(container))] = true
		}
	})
	return found
}
