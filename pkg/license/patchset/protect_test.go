package patchset_test

import (
	"encoding/json"
	"errors"
	"testing"

	"berth/pkg/license/patchset"
)

const guarded = `{"apiVersion":"v1","kind":"Pod",
"metadata":{"name":"p","namespace":"n","labels":{"user":"alice","app":"x"},"annotations":{"berth.dev/command":"c1","other":"y"}},
"spec":{"hostNetwork":false,"serviceAccountName":"default",
 "containers":[{"name":"main","image":"i","volumeMounts":[]},{"name":"driver","image":"d","securityContext":{"privileged":true}}],
 "volumes":[{"name":"dev","hostPath":{"path":"/dev/fuse"}},{"name":"tmp","emptyDir":{}}]}}`

func guard() patchset.Protection {
	return patchset.Protection{
		Paths: append(patchset.Identity("user", "domain", "podName"), "/spec/serviceAccountName",
			"/spec/containers/0/securityContext/appArmorProfile"),
		AnnotationPrefix: "berth.dev/",
		ForbidHostPath:   true, ForbidPrivileged: true, ForbidHostNetwork: true,
	}
}

// Each way that we know around a rule, and what is still allowed beside it.
func TestProtection(t *testing.T) {
	t.Parallel()
	const name, annotations = "/metadata/name is protected", "annotations berth.dev/… are protected"
	for title, tc := range map[string]struct {
		patch, rule string
		operation   int
	}{
		"name":                 {`[{"op":"replace","path":"/metadata/name","value":"q"}]`, name, 0},
		"name to what it is":   {`[{"op":"replace","path":"/metadata/name","value":"p"}]`, "", 0},
		"name, second":         {`[{"op":"test","path":"/metadata/name","value":"p"},{"op":"remove","path":"/metadata/name"}]`, name, 1},
		"name, and back":       {`[{"op":"replace","path":"/metadata/name","value":"q"},{"op":"replace","path":"/metadata/name","value":"p"}]`, name, 0},
		"its parent":           {`[{"op":"replace","path":"/metadata","value":{"name":"q"}}]`, name, 0},
		"its parent, removed":  {`[{"op":"remove","path":"/metadata"}]`, name, 0},
		"its parent, a scalar": {`[{"op":"replace","path":"/metadata","value":"p"}]`, name, 0},
		"the whole":            {`[{"op":"add","path":"","value":{}}]`, "/apiVersion is protected", 0},
		"the whole, by copy":   {`[{"op":"copy","from":"/spec","path":""}]`, "/apiVersion is protected", 0},
		"moved away":           {`[{"op":"move","from":"/metadata/name","path":"/metadata/x"}]`, name, 0},
		"copied over":          {`[{"op":"copy","from":"/metadata/namespace","path":"/metadata/name"}]`, name, 0},
		"copied from":          {`[{"op":"copy","from":"/metadata/name","path":"/metadata/labels/n"}]`, "", 0},
		"escaped":              {`[{"op":"remove","path":"/metadata/annotations/berth.dev~1command"}]`, annotations, 0},
		"an annotation, new":   {`[{"op":"add","path":"/metadata/annotations/berth.dev~1x","value":null}]`, annotations, 0},
		"all annotations":      {`[{"op":"add","path":"/metadata/annotations","value":{}}]`, annotations, 0},
		"another annotation":   {`[{"op":"remove","path":"/metadata/annotations/other"}]`, "", 0},
		"a label, new":         {`[{"op":"add","path":"/metadata/labels/domain","value":"x"}]`, "/metadata/labels/domain is protected", 0},
		"null is a value":      {`[{"op":"add","path":"/metadata/ownerReferences","value":null}]`, "/metadata/ownerReferences is protected", 0},
		"another label":        {`[{"op":"add","path":"/metadata/labels/app","value":"z"}]`, "", 0},
		"a path of the site":   {`[{"op":"replace","path":"/spec/serviceAccountName","value":"root"}]`, "/spec/serviceAccountName is protected", 0},
		"its deprecated name":  {`[{"op":"add","path":"/spec/serviceAccount","value":"root"}]`, "/spec/serviceAccount is protected", 0},
		"AppArmor, by its annotation": {
			`[{"op":"add","path":"/metadata/annotations/container.apparmor.security.beta.kubernetes.io~1main","value":"unconfined"}]`,
			"annotations container.apparmor.security.beta.kubernetes.io/… are protected", 0,
		},
		"what the server sets": {`[{"op":"add","path":"/metadata/resourceVersion","value":"1"}]`, "/metadata/resourceVersion is protected", 0},
		"a status":             {`[{"op":"add","path":"/status","value":{}}]`, "/status is protected", 0},
		"kind":                 {`[{"op":"add","path":"/kind","value":"Job"}]`, "/kind is protected", 0},

		"host path":               {`[{"op":"add","path":"/spec/volumes/-","value":{"name":"h","hostPath":{"path":"/"}}}]`, patchset.RuleHostPath, 0},
		"host path, all volumes":  {`[{"op":"replace","path":"/spec/volumes","value":[{"name":"h","hostPath":{}}]}]`, patchset.RuleHostPath, 0},
		"host path, in two steps": {`[{"op":"add","path":"/spec/volumes/-","value":{"name":"h"}},{"op":"add","path":"/spec/volumes/2/hostPath","value":{}}]`, patchset.RuleHostPath, 1},
		"host path, changed":      {`[{"op":"replace","path":"/spec/volumes/0/hostPath/path","value":"/"}]`, patchset.RuleHostPath, 0},
		"host path, renamed":      {`[{"op":"replace","path":"/spec/volumes/0/name","value":"tmp"}]`, patchset.RuleHostPath, 0},
		"host path, mounted":      {`[{"op":"add","path":"/spec/containers/0/volumeMounts/-","value":{"name":"dev","mountPath":"/x"}}]`, patchset.RuleHostPath, 0},
		"host path, moved here":   {`[{"op":"add","path":"/x","value":{"path":"/"}},{"op":"move","from":"/x","path":"/spec/volumes/1/hostPath"}]`, patchset.RuleHostPath, 1},
		"host path, gone":         {`[{"op":"remove","path":"/spec/volumes/0"}]`, "", 0},
		"a volume before it":      {`[{"op":"add","path":"/spec/volumes/0","value":{"name":"e","emptyDir":{}}}]`, "", 0},

		"privileged":                  {`[{"op":"add","path":"/spec/containers/0/securityContext","value":{"privileged":true}}]`, patchset.RulePrivileged, 0},
		"privileged, as a text":       {`[{"op":"add","path":"/spec/containers/0/securityContext","value":{"privileged":"true"}}]`, patchset.RulePrivileged, 0},
		"privileged init container":   {`[{"op":"add","path":"/spec/initContainers","value":[{"name":"x","securityContext":{"privileged":true}}]}]`, patchset.RulePrivileged, 0},
		"privileged ephemeral one":    {`[{"op":"add","path":"/spec/ephemeralContainers","value":[{"name":"x","securityContext":{"privileged":true}}]}]`, patchset.RulePrivileged, 0},
		"privileged, copied":          {`[{"op":"copy","from":"/spec/containers/1/securityContext","path":"/spec/containers/0/securityContext"}]`, patchset.RulePrivileged, 0},
		"privileged, another image":   {`[{"op":"replace","path":"/spec/containers/1/image","value":"mine"}]`, patchset.RulePrivileged, 0},
		"privileged, off":             {`[{"op":"remove","path":"/spec/containers/1/securityContext/privileged"}]`, "", 0},
		"plainly not privileged":      {`[{"op":"add","path":"/spec/containers/0/securityContext","value":{"privileged":false}}]`, "", 0},
		"a container before it":       {`[{"op":"add","path":"/spec/containers/0","value":{"name":"side"}}]`, "", 0},
		"host network":                {`[{"op":"replace","path":"/spec/hostNetwork","value":true}]`, patchset.RuleHostNetwork, 0},
		"host network, off":           {`[{"op":"remove","path":"/spec/hostNetwork"}]`, "", 0},
		"host's processes":            {`[{"op":"add","path":"/spec/hostPID","value":true}]`, patchset.RuleHostNetwork, 0},
		"host's memory":               {`[{"op":"add","path":"/spec/hostIPC","value":true}]`, patchset.RuleHostNetwork, 0},
		"host network, a new spec":    {`[{"op":"replace","path":"/spec","value":{"serviceAccountName":"default","hostNetwork":true}}]`, patchset.RuleHostNetwork, 0},
		"the spec, by way of nowhere": {`[{"op":"move","from":"/spec","path":"/x"},{"op":"move","from":"/x","path":"/spec"}]`, "/spec/serviceAccountName is protected", 0},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			_, err := patchset.Apply(json.RawMessage(guarded), ops(t, tc.patch), guard())
			if tc.rule == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var failed *patchset.Error
			if !errors.As(err, &failed) {
				t.Fatalf("error %v, want a *patchset.Error", err)
			}
			if failed.Code != patchset.CodeProtected || failed.Rule != tc.rule || failed.License != "a" || failed.Operation != tc.operation {
				t.Errorf("%+v, want rule %q of operation %d", failed, tc.rule, tc.operation)
			}
			if _, err := patchset.Apply(json.RawMessage(guarded), ops(t, tc.patch)[:tc.operation], guard()); err != nil {
				t.Errorf("without that operation: %v", err)
			}
		})
	}
}

func TestProtectionValidate(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"no slash": "spec", "a bad escape": "/a~2", "the whole pod": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := patchset.Apply(json.RawMessage(`{}`), nil, patchset.Protection{Paths: []string{path}}); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// Of two names of one value the API server reads the one where the other is not set.
func TestProtectionOfAliases(t *testing.T) {
	t.Parallel()
	for protected, other := range map[string]string{
		"/spec/serviceAccountName": "/spec/serviceAccount", "/spec/serviceAccount": "/spec/serviceAccountName",
	} {
		t.Run(protected, func(t *testing.T) {
			t.Parallel()
			_, err := patchset.Apply(json.RawMessage(`{"spec":{}}`), ops(t, `[{"op":"add","path":"`+other+`","value":"root"}]`),
				patchset.Protection{Paths: []string{protected}})
			var failed *patchset.Error
			if !errors.As(err, &failed) || failed.Rule != other+" is protected" {
				t.Errorf("error %v", err)
			}
		})
	}
}
