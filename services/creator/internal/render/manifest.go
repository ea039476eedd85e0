package render

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
)

// MaxManifest is the largest manifest that is read, in bytes.
const MaxManifest = 256 << 10

// Parse reads a manifest: one YAML or JSON document, a v1 Pod, of at most
// MaxManifest bytes.
//
// It is as strict as the API server asked to be strict (unknown fields, fields
// that are there twice and values of the wrong type are faults), and also checks
// what a pod of Berth needs: a name, containers with names of their own, image
// references that a node can read, valid labels and annotations, a volume for each
// mount (declared, or one that Pod adds), no claim that is a user's storage, and token
// keys that are plain file names. All faults are reported at once, as an *Error with
// ReasonManifestInvalid that names line and path of each.
//
// The namespace and what only the API server may write (status, uid,
// resourceVersion, managedFields and the like) are left out, so that a pod as
// kubectl prints it can serve as a manifest. generateName, finalizers and
// ownerReferences are refused: each would defeat naming or deleting the pod.
// Everything else, nodeName for one, is for the allow-list to answer for.
func Parse(manifest []byte) (*corev1.Pod, error) {
	var found faults

	if len(manifest) > MaxManifest {
		found.addf("the manifest has %d bytes, more than %d", len(manifest), MaxManifest)

		return nil, found.err(ReasonManifestInvalid)
	}

	document, err := single(manifest)
	if err != nil {
		found.addf("%s", strings.TrimPrefix(err.Error(), "yaml: "))

		return nil, found.err(ReasonManifestInvalid)
	}

	if !isPod(document, &found) {
		return nil, found.err(ReasonManifestInvalid)
	}

	pod := &corev1.Pod{}
	d := decoder{lines: map[string]int{}, skip: written()}
	d.decode(document, reflect.ValueOf(pod).Elem(), "", 0)

	if len(d.faults) == 0 {
		d.check(pod)
	}

	if err := d.faults.err(ReasonManifestInvalid); err != nil {
		return nil, err
	}

	return pod, nil
}

// written are the paths that only the API server writes, and the namespace.
func written() map[string]bool {
	skip := map[string]bool{"status": true}

	for _, name := range []string{
		"namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
		"deletionGracePeriodSeconds", "selfLink", "managedFields",
	} {
		skip["metadata."+name] = true
	}

	return skip
}

// single returns the only document of a YAML stream. Empty documents, as a
// separator at the end makes one, do not count.
func single(manifest []byte) (*yaml.Node, error) {
	var only *yaml.Node

	decoder := yaml.NewDecoder(bytes.NewReader(manifest))

	for {
		var document yaml.Node

		err := decoder.Decode(&document)

		switch {
		case errors.Is(err, io.EOF) && only == nil:
			return nil, errors.New("the manifest is empty")
		case errors.Is(err, io.EOF):
			return only, nil
		case err != nil:
			return nil, err
		case len(document.Content) != 1 || document.Content[0].ShortTag() == "!!null":
		case only != nil:
			return nil, fmt.Errorf("line %d: a second document begins; a manifest has one", document.Content[0].Line)
		default:
			only = document.Content[0]
		}
	}
}

// isPod checks apiVersion and kind before anything else, since all fields of
// another kind are unknown.
func isPod(document *yaml.Node, found *faults) bool {
	if document.Kind != yaml.MappingNode {
		found.addf("line %d: a manifest is a mapping, not %s", document.Line, describe(document))

		return false
	}

	for _, want := range []struct{ key, value string }{{"apiVersion", "v1"}, {"kind", "Pod"}} {
		switch value := member(document, want.key); {
		case value == nil:
			found.addf("line %d: %s is missing; it must be %s", document.Line, want.key, want.value)
		case value.Value != want.value:
			found.addf("line %d: %s is %q; it must be %s", value.Line, want.key, bounded(value.Value), want.value)
		}
	}

	return len(*found) == 0
}

// member returns the value of a key of a mapping, or nil.
func member(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}

	return nil
}
