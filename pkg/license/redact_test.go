package license_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

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
		"a variable on its way": {license.Step{Path: "/x", Value: json.RawMessage(`[{"name":"A","value":"s3cret"}]`)}, ""},
		"a header of a probe": {
			license.Step{Path: "/spec/containers/0/livenessProbe", Value: json.RawMessage(`{"httpGet":{"httpHeaders":[{"name":"A","value":"s3cret"}]}}`)},
			"",
		},
		"an annotation":             {license.Step{Path: "/metadata/annotations/a", Value: json.RawMessage(`"s3cret"`)}, ""},
		"labels":                    {license.Step{Path: "/metadata/labels", Value: json.RawMessage(`{"a":"b","c":{"d":"s3cret"}}`)}, `{"a":"b","c":"(withheld)"}`},
		"a mount":                   {license.Step{Path: "/spec/containers/0/volumeMounts/3", Value: json.RawMessage(`{"mountPath":"/x","name":"home","x":"s3cret"}`)}, `{"mountPath":"/x","name":"home","x":"(withheld)"}`},
		"a volume with credentials": {license.Step{Path: "/spec/volumes/-", Value: json.RawMessage(`{"csi":{"volumeAttributes":{"key":"s3cret"}},"name":"v"}`)}, `{"csi":"(withheld)","name":"v"}`},
		"resources":                 {license.Step{Path: "/spec/initContainers/0/resources", Value: json.RawMessage(`{"limits":{"cpu":"1","n":2}}`)}, `{"limits":{"cpu":"1","n":2}}`},
		"a toleration":              {license.Step{Path: "/spec/tolerations/-", Value: json.RawMessage(`{"key":"a","operator":"Exists"}`)}, `{"key":"a","operator":"Exists"}`},
		"a part of the document":    {license.Step{Path: "/metadata/labels/a", Value: json.RawMessage(`"s3cret"`), Copied: true}, ""},
		"an annotation of a rule":   {license.Step{Kind: license.KindRule, Path: "/metadata/annotations/a", Value: json.RawMessage(`"b"`)}, `"b"`},
		"a whole pod":               {license.Step{Path: "", Value: json.RawMessage(`{"metadata":{"x":"s3cret"},"spec":{}}`)}, ""},
		"a copy of one":             {license.Step{Path: "/x", Value: json.RawMessage(`{"metadata":{"x":"s3cret"},"spec":{}}`)}, ""},
		"what is no JSON":           {license.Step{Path: "/x", Value: json.RawMessage(`s3cret`)}, ""},
		"what is no pointer":        {license.Step{Path: "x", Value: json.RawMessage(`"s3cret"`)}, ""},
		"what may be shown":         {license.Step{Path: "/metadata/labels/a", Value: json.RawMessage(`"b"`)}, `"b"`},
		"an operation's move":       {license.Step{Op: "move", Path: "/x", From: "/y"}, ""},
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

// A log line has an end, and says what it left out: sources beyond the first ten, and what
// is too large, not what comes after it.
func TestRedactedIsClipped(t *testing.T) {
	t.Parallel()
	filled, steps, err := license.Fill(template(t), options())
	if err != nil {
		t.Fatal(err)
	}
	q := composed()
	q.Quota.Patch = operations(t, "a", `[{"op":"add","path":"/metadata/labels/a","value":"`+strings.Repeat("x", 9000)+`"},{"op":"add","path":"/metadata/labels/b","value":"last"}]`)
	var many []quota.Source
	for range 80 {
		many = append(many, quota.Source{Kind: quota.KindLicense, License: strings.Repeat("l", 36), Amount: 1})
	}
	q.Findings = append(q.Findings, quota.Finding{Field: "cpu_limit", Value: 80, Sources: many})
	got, err := license.Compose(filled, q, license.Options{})
	if err != nil {
		t.Fatal(err)
	}
	whole := got.Explanation
	whole.Steps = append(steps, whole.Steps...)
	for limit, want := range map[int][]string{
		400:    {"left out, for size: "},
		1500:   {"left out, for size: "},
		8000:   {`"last"`, `"and 70 more"`, "left out, for size: 1 steps, 0 findings, 70 sources of findings, 0 things ignored", "expired"},
		100000: {strings.Repeat("x", 9000), `"last"`, "expired"},
	} {
		text, err := json.Marshal(whole.Redacted(limit))
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > limit {
			t.Errorf("%d bytes, at most %d", len(text), limit)
		}
		for _, part := range want {
			if !strings.Contains(string(text), part) {
				t.Errorf("at %d bytes no %.200s in %.20000s", limit, part, text)
			}
		}
		if strings.Contains(string(text), "left out") != (limit < 100000) {
			t.Errorf("at %d bytes: %s", limit, text)
		}
		if strings.Contains(string(text), "s3cret") || strings.Contains(string(text), options().ExtraEnv) {
			t.Errorf("a secret in %s", text)
		}
	}
	if len(whole.Quota[len(whole.Quota)-1].Sources) != 80 {
		t.Error("the explanation was modified")
	}
}

// What licenses copy and move out of a withheld member stays withheld, by whatever way.
func TestRedactPodFollowsCopies(t *testing.T) {
	t.Parallel()
	base := json.RawMessage(`{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"s3cret"}],"image":"i"}]}}`)
	const hidden = `{"metadata":{"labels":{"a":"b","x":"(withheld)"}},"spec":{"containers":[{"env":"(withheld)","image":"i","name":"c"}]}}`
	for name, tc := range map[string]struct{ patch, want string }{
		"nothing":   {`[]`, `{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"env":"(withheld)","image":"i","name":"c"}]}}`},
		"a label":   {`[{"op":"add","path":"/metadata/labels/x","value":"y"}]`, strings.Replace(hidden, `"x":"(withheld)"`, `"x":"y"`, 1)},
		"a copy":    {`[{"op":"copy","from":"/spec/containers/0/env/0/value","path":"/metadata/labels/x"}]`, hidden},
		"of a copy": {`[{"op":"copy","from":"/spec/containers/0/env/0/value","path":"/metadata/labels/y"},{"op":"move","from":"/metadata/labels/y","path":"/metadata/labels/x"}]`, hidden},
		"its list":  {`[{"op":"copy","from":"/spec/containers/0/env","path":"/metadata/labels/x"}]`, hidden},
		"by a stash": {
			`[{"op":"add","path":"/stash","value":["s3cret",1]},{"op":"move","from":"/stash/0","path":"/metadata/labels/x"},{"op":"remove","path":"/stash"}]`, hidden,
		},
		"where another list has moved it": {
			`[{"op":"add","path":"/spec/containers/0","value":{"name":"d"}},{"op":"copy","from":"/spec/containers/1/env/0/value","path":"/metadata/labels/x"},{"op":"remove","path":"/spec/containers/0"}]`, hidden,
		},
		"by the whole": {
			`[{"op":"copy","from":"","path":"/stash"},{"op":"copy","from":"/stash/spec/containers/0/env/0/value","path":"/metadata/labels/x"},{"op":"remove","path":"/stash"}]`, hidden,
		},
		"to an image": {
			`[{"op":"copy","from":"/spec/containers/0/env/0/value","path":"/spec/containers/0/image"},{"op":"add","path":"/metadata/labels/x","value":{"y":"s3cret"}}]`,
			strings.Replace(hidden, `"image":"i"`, `"image":"(withheld)"`, 1),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			none := composed()
			none.Quota.ExtRW = false
			before, err := license.Compose(base, none, license.Options{})
			if err != nil {
				t.Fatal(err)
			}
			q := none
			q.Quota.Patch = operations(t, "a", tc.patch)
			got, err := license.Compose(base, q, license.Options{})
			if err != nil {
				t.Fatal(err)
			}
			shown := license.RedactPod(before.Pod, got.Explanation.Steps)
			if strings.Contains(string(shown), "s3cret") {
				t.Errorf("a secret in %s", shown)
			}
			// The quota's part is in both.
			diff, err := license.Diff(json.RawMessage(tc.want), shown)
			if err != nil {
				t.Fatal(err)
			}
			var paths []string
			for _, d := range diff {
				paths = append(paths, d.Op+" "+d.Path)
			}
			if diff := cmp.Diff([]string{"add /metadata/labels/network", "add /spec/containers/0/resources"}, paths); diff != "" {
				t.Errorf("%s (-want +got):\n%s", shown, diff)
			}
			text, err := json.Marshal(got.Explanation.Redacted(0))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "s3cret") {
				t.Errorf("a secret in %s", text)
			}
		})
	}
}

// Whatever patches do with a secret, in whatever order, none of the texts for the log has it.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	base := json.RawMessage(`{"metadata":{"labels":{}},"spec":{"volumes":[],"containers":[{"env":[{"name":"A","value":"s3cret"}],"args":["s3cret"]}]}}`)
	places := rapid.SampledFrom([]string{
		"", "/x", "/x/0", "/x/spec/containers/0/env/0", "/metadata", "/metadata/labels", "/metadata/labels/a", "/metadata/name", "/spec", "/spec/containers", "/spec/containers/0",
		"/spec/containers/-", "/spec/containers/0/env", "/spec/containers/0/env/0", "/spec/containers/0/env/0/value", "/spec/containers/0/env/0/name",
		"/spec/containers/0/args/0", "/spec/containers/0/image", "/spec/volumes/0", "/spec/volumes/0/name", "/spec/nodeSelector", "/spec/tolerations",
	})
	rapid.Check(t, func(t *rapid.T) {
		q := composed()
		q.Quota.ExtRW = false
		before, err := license.Compose(base, q, license.Options{})
		if err != nil {
			t.Fatal(err)
		}
		explanation := before.Explanation
		for range 8 {
			op := map[string]any{"op": rapid.SampledFrom([]string{"copy", "move"}).Draw(t, "op"), "from": places.Draw(t, "from"), "path": places.Draw(t, "path")}
			raw, err := json.Marshal(op)
			if err != nil {
				t.Fatal(err)
			}
			longer := q
			longer.Quota.Patch = append(slices.Clip(q.Quota.Patch), quota.Operation{License: "a", Index: len(q.Quota.Patch), Raw: raw})
			if got, err := license.Compose(base, longer, license.Options{}); err == nil {
				q, explanation = longer, got.Explanation
			}
		}
		logged, err := json.Marshal(explanation.Redacted(0))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range [][]byte{logged, license.RedactPod(before.Pod, explanation.Steps), license.RedactPatch(q.Quota.Patch)} {
			if strings.Contains(string(text), "s3cret") {
				t.Fatalf("a secret in %s", text)
			}
		}
	})
}

func TestReveals(t *testing.T) {
	t.Parallel()
	pod := json.RawMessage(`{"metadata":{"name":"project-1234567890","labels":{"a":"long label"}},"spec":{"containers":[{"image":"hub.example/image",` +
		`"args":["1234567890","short","line\none"],"env":[{"name":"A","value":"hunter2hunter2"},{"name":"B","value":87654321}]}]}}`)
	for text, want := range map[string]bool{
		`Invalid value: "hunter2hunter2": no`: true,
		`Invalid value: "line\none"`:          true,
		`Invalid value: 87654321`:             true,
		`pod project-1234567890 is short`:     false,
		`hub.example/image: long label`:       false,
		``:                                    false,
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			if got := license.Reveals(pod, text); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
	if license.Reveals(json.RawMessage(`{`), "{") {
		t.Error("what is no JSON reveals nothing")
	}
}

func TestRedactPod(t *testing.T) {
	t.Parallel()
	for pod, want := range map[string]string{
		`{"spec":{"initContainers":[{"name":"a","args":["s3cret"]}],"containers":[{"env":[{"name":"A","value":"s3cret"}],"image":"i"}]}}`: `{"spec":{"containers":[{"env":"(withheld)","image":"i"}],"initContainers":[{"args":"(withheld)","name":"a"}]}}`,
		`s3cret`: `"(withheld)"`,
	} {
		if diff := cmp.Diff(want, string(license.RedactPod(json.RawMessage(pod), nil))); diff != "" {
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
		{License: "b", Index: 3, Raw: json.RawMessage(`{"op":"test","path":"/metadata/labels/x","value":"s3cret"}`)},
		{License: "b", Index: 4, Raw: json.RawMessage(`{"op":"replace","path":"/spec/volumes/0","value":{"name":"v","nfs":{"path":"s3cret"}}}`)},
	}
	want := `[{"license":"a","op":"add","operation":0,"path":"/metadata/labels/x","value":"y"},` +
		`{"license":"a","op":"add","operation":1,"path":"/spec/containers/0/env/-","value":"(withheld)"},` +
		`{"from":"/y","license":"b","op":"move","operation":0,"path":"/x"},` +
		`{"license":"b","operation":1,"value":"(withheld)"},` +
		`{"license":"b","op":"test","operation":2,"path":"x","value":"(withheld)"},` +
		`{"license":"b","op":"test","operation":3,"path":"/metadata/labels/x","value":"(withheld)"},` +
		`{"license":"b","op":"replace","operation":4,"path":"/spec/volumes/0","value":{"name":"v","nfs":"(withheld)"}}]`
	if diff := cmp.Diff(want, string(license.RedactPatch(patch))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
