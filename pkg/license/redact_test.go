package license_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license"
	"berth/pkg/license/quota"
)

func TestRedacted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		step license.Step
		want string // the value that is shown
	}{
		"a placeholder":    {license.Step{Kind: license.KindPlaceholder, Path: "/metadata/labels/x", Value: json.RawMessage(`"s3cret"`)}, ""},
		"a variable":       {license.Step{Path: "/spec/containers/0/env/-", Value: json.RawMessage(`{"name":"A","value":"s3cret"}`)}, ""},
		"its value":        {license.Step{Path: "/spec/containers/0/env/0/value", Value: json.RawMessage(`"s3cret"`)}, ""},
		"arguments":        {license.Step{Path: "/spec/containers/0/args", Value: json.RawMessage(`["s3cret"]`)}, ""},
		"a lifecycle hook": {license.Step{Path: "/spec/containers/0/lifecycle/postStart/exec/command/0", Value: json.RawMessage(`"s3cret"`)}, ""},
		"a container": {
			license.Step{Path: "/spec/containers/-", Value: json.RawMessage(`{"name":"a","env":[{"name":"A","value":"s3cret"}],"args":["s3cret"],"envFrom":null}`)},
			`{"args":"(withheld)","env":"(withheld)","envFrom":null,"name":"a"}`,
		},
		"a variable on its way": {license.Step{Path: "/x", Value: json.RawMessage(`[{"name":"A","value":"s3cret"}]`)}, `[{"name":"A","value":"(withheld)"}]`},
		"a header of a probe": {
			license.Step{Path: "/spec/containers/0/livenessProbe", Value: json.RawMessage(`{"httpGet":{"httpHeaders":[{"name":"A","value":"s3cret"}]}}`)},
			`{"httpGet":{"httpHeaders":[{"name":"A","value":"(withheld)"}]}}`,
		},
		"a whole pod":         {license.Step{Path: "", Value: json.RawMessage(`{"metadata":{"x":"s3cret"},"spec":{}}`)}, ""},
		"a copy of one":       {license.Step{Path: "/x", Value: json.RawMessage(`{"metadata":{"x":"s3cret"},"spec":{}}`)}, ""},
		"what is no JSON":     {license.Step{Path: "/x", Value: json.RawMessage(`s3cret`)}, ""},
		"what is no pointer":  {license.Step{Path: "x", Value: json.RawMessage(`"s3cret"`)}, ""},
		"what may be shown":   {license.Step{Path: "/metadata/labels/a", Value: json.RawMessage(`"b"`)}, `"b"`},
		"an operation's move": {license.Step{Op: "move", Path: "/x", From: "/y"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := string(tc.step.Value)
			got := license.Explanation{Steps: []license.Step{tc.step}}.Redacted(0).Steps[0]
			if diff := cmp.Diff(tc.want, string(got.Value)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got.Withheld != (before != tc.want) {
				t.Errorf("withheld %v", got.Withheld)
			}
			if string(tc.step.Value) != before {
				t.Error("the step was modified")
			}
		})
	}
}

// A log line has an end, and says what it left out.
func TestRedactedIsClipped(t *testing.T) {
	t.Parallel()
	filled, steps, err := license.Fill(template(t), options())
	if err != nil {
		t.Fatal(err)
	}
	q := composed()
	q.Quota.Patch = operations(t, "a", `[{"op":"add","path":"/metadata/labels/a","value":"`+strings.Repeat("x", 3000)+`"}]`)
	got, err := license.Compose(filled, q, license.Options{})
	if err != nil {
		t.Fatal(err)
	}
	whole := got.Explanation
	whole.Steps = append(steps, whole.Steps...)
	for _, limit := range []int{300, 1000, 3000, 100000} {
		text, err := json.Marshal(whole.Redacted(limit))
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > limit {
			t.Errorf("%d bytes, at most %d", len(text), limit)
		}
		if clipped := strings.Contains(string(text), "left out, for size"); clipped != (limit < 100000) {
			t.Errorf("at %d bytes: %s", limit, text)
		}
		if strings.Contains(string(text), "s3cret") || strings.Contains(string(text), options().ExtraEnv) {
			t.Errorf("a secret in %s", text)
		}
	}
}

func TestRedactPod(t *testing.T) {
	t.Parallel()
	for pod, want := range map[string]string{
		`{"spec":{"initContainers":[{"name":"a","args":["s3cret"]}],"containers":[{"env":[{"name":"A","value":"s3cret"}],"image":"i"}]}}`: `{"spec":{"containers":[{"env":"(withheld)","image":"i"}],"initContainers":[{"args":"(withheld)","name":"a"}]}}`,
		`s3cret`: `"(withheld)"`,
	} {
		if diff := cmp.Diff(want, string(license.RedactPod(json.RawMessage(pod)))); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func TestRedactPatch(t *testing.T) {
	t.Parallel()
	patch := []quota.Operation{
		{License: "a", Index: 0, Raw: json.RawMessage(`{"op":"add","path":"/metadata/labels/x","value":"y","other":"s3cret"}`)},
		{License: "a", Index: 1, Raw: json.RawMessage(`{"op":"add","path":"/spec/containers/0/env/-","value":{"name":"A","value":"s3cret"}}`)},
		{License: "b", Index: 0, Raw: json.RawMessage(`{"op":"move","path":"/x","from":"/y"}`)},
		{License: "b", Index: 1, Raw: json.RawMessage(`{"op":"add","path":["s3cret"],"value":"s3cret"}`)},
		{License: "b", Index: 2, Raw: json.RawMessage(`{"op":"test","path":"x","value":"s3cret"}`)},
	}
	want := `[{"license":"a","op":"add","operation":0,"path":"/metadata/labels/x","value":"y"},` +
		`{"license":"a","op":"add","operation":1,"path":"/spec/containers/0/env/-","value":"(withheld)"},` +
		`{"from":"/y","license":"b","op":"move","operation":0,"path":"/x"},` +
		`{"license":"b","operation":1,"value":"(withheld)"},` +
		`{"license":"b","op":"test","operation":2,"path":"x","value":"(withheld)"}]`
	if diff := cmp.Diff(want, string(license.RedactPatch(patch))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
