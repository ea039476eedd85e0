package patchset_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"berth/pkg/license/internal/tree"
	"berth/pkg/license/patchset"
)

// randomPatch draws operations on the guarded pod, most of which have an effect.
func randomPatch(t *rapid.T) []patchset.Operation {
	pointers := rapid.SampledFrom([]string{
		"", "/metadata", "/metadata/name", "/metadata/labels", "/metadata/labels/user", "/metadata/labels/app", "/metadata/annotations",
		"/metadata/annotations/berth.dev~1command", "/metadata/annotations/other", "/metadata/ownerReferences", "/kind", "/x", "/x/0", "/x/-",
		"/spec", "/spec/containers", "/spec/containers/0", "/spec/containers/1", "/spec/containers/00", "/spec/containers/9", "/spec/containers/-",
		"/spec/containers/0/securityContext", "/spec/containers/0/securityContext/privileged", "/spec/containers/1/image", "/spec/containers/0/volumeMounts/-",
		"/spec/initContainers", "/spec/volumes", "/spec/volumes/0", "/spec/volumes/1", "/spec/volumes/1/hostPath", "/spec/volumes/", "/spec/hostNetwork",
		"/spec/hostPID", "/spec/serviceAccountName", "/a~1b", "/a~0b", "/spec/volumes/length", "/spec/volumes/-1", "x", "/~",
	})
	values := rapid.SampledFrom([]string{
		`null`, `true`, `false`, `1.50`, `1e3`, `""`, `"p"`, `[]`, `{}`, `[1,{"a":null}]`, `{"name":"p","privileged":true}`,
		`{"name":"h","hostPath":{"path":"/"}}`, `{"name":"dev","mountPath":"/x"}`, `{"name":"main","securityContext":{"privileged":true}}`, guarded,
	})
	var list []patchset.Operation
	for i := range rapid.IntRange(0, 12).Draw(t, "operations") {
		op := rapid.SampledFrom([]string{"add", "add", "replace", "remove", "move", "copy", "test"}).Draw(t, "op")
		raw := fmt.Sprintf(`{"op":%q,"path":%q,"from":%q,"value":%s}`, op, pointers.Draw(t, "path"), pointers.Draw(t, "from"), values.Draw(t, "value"))
		list = append(list, patchset.Operation{License: "a", Index: i, Raw: json.RawMessage(raw)})
	}
	return list
}

// succeeding leaves out the operations that fail, so that what is tried gets far.
func succeeding(doc json.RawMessage, all []patchset.Operation, rules patchset.Protection) (patchset.Result, []patchset.Operation) {
	result, _ := patchset.Apply(doc, nil, rules)
	var good []patchset.Operation
	for _, op := range all {
		tried := slices.Concat(good, []patchset.Operation{op})
		if next, err := patchset.Apply(doc, tried, rules); err == nil {
			result, good = next, tried
		}
	}
	return result, good
}

// Whatever a patch does, what is protected stays as it was, and the operations
// that come back do the same elsewhere.
func TestProtectedNeverChanges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		rules := guard()
		result, _ := succeeding(json.RawMessage(guarded), randomPatch(r), rules)
		before, err := tree.Decode([]byte(guarded))
		if err != nil {
			r.Fatal(err)
		}
		after, err := tree.Decode(result.Doc)
		if err != nil {
			r.Fatal(err)
		}
		for _, path := range rules.Paths {
			tokens, _ := tree.Tokens(path)
			a, inA := (&tree.Editor{Root: before}).Get(tokens...)
			b, inB := (&tree.Editor{Root: after}).Get(tokens...)
			if inA != inB || !tree.Equal(a, b) {
				r.Fatalf("%s changed", path)
			}
		}
		var pod struct {
			Spec struct {
				HostNetwork, HostPID, HostIPC                   bool
				Containers, InitContainers, EphemeralContainers []struct {
					Name, Image     string
					SecurityContext struct{ Privileged bool }
					VolumeMounts    []struct{ Name string }
				}
				Volumes []struct {
					Name     string
					HostPath *struct{ Path string }
				}
			}
		}
		if err := json.Unmarshal(result.Doc, &pod); err != nil {
			return // A member has a type that the API server refuses.
		}
		spec := pod.Spec
		if spec.HostNetwork || spec.HostPID || spec.HostIPC {
			r.Fatal("a namespace of the host")
		}
		for _, v := range spec.Volumes {
			if v.HostPath != nil && (v.Name != "dev" || v.HostPath.Path != "/dev/fuse") {
				r.Fatalf("host path %v", v)
			}
		}
		for _, c := range slices.Concat(spec.Containers, spec.InitContainers, spec.EphemeralContainers) {
			if c.SecurityContext.Privileged && c.Image != "d" {
				r.Fatalf("privileged %v", c)
			}
			for _, mount := range c.VolumeMounts {
				if mount.Name == "dev" && len(spec.Volumes) > 0 && spec.Volumes[0].HostPath != nil {
					r.Fatalf("mounts a host path: %v", c)
				}
			}
		}
	})
}

func TestOperationsElsewhere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		list := randomPatch(r)
		copied := slices.Clone(list)
		result, _ := succeeding(json.RawMessage(guarded), list, patchset.Protection{})
		other, ok := elsewhere(r, canonical(r, json.RawMessage(guarded)), result.Effective)
		if ok && string(other) != string(result.Doc) {
			r.Fatalf("elsewhere %s\nhere      %s", other, result.Doc)
		}
		if diff := cmp.Diff(copied, list); diff != "" {
			r.Fatalf("modified: %s", diff)
		}
	})
}

// No document and no patch makes it panic, or gives a result that is no object.
func FuzzApply(f *testing.F) {
	for i, v := range vectors(f) {
		if i%20 == 0 {
			f.Add([]byte(v.Doc), []byte(v.Patches[0]))
		}
	}
	f.Fuzz(func(t *testing.T, doc, patch []byte) {
		list, err := patchset.List("a", 0, patch)
		if err != nil {
			return
		}
		result, err := patchset.Apply(doc, list, guard())
		if err == nil && (len(result.Doc) < 2 || result.Doc[0] != '{' || !json.Valid(result.Doc)) {
			t.Errorf("result %q", result.Doc)
		}
	})
}
