package license_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"berth/pkg/license"
	"berth/pkg/license/patchset"
	"berth/pkg/license/pod"
	"berth/pkg/license/quota"
)

const project = "09c119f5-6f0d-4c2b-9a53-1f0a6a7c2d11"

func template(tb testing.TB) json.RawMessage {
	tb.Helper()
	text, err := os.ReadFile("testdata/project.json")
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func options() license.FillOptions {
	return license.FillOptions{
		ProjectID: project, Image: "registry.example/software", Tag: "project-1",
		ExtraEnv: "eyJBIjoiczNjcmV0In0=", ProjectConfig: "{project_id}\"}",
		Namespace: "berth", Labels: map[string]string{"user": "project"}, Annotations: map[string]string{"berth.dev/command": "c1"},
	}
}

// replay applies steps with another library.
func replay(tb failer, doc json.RawMessage, steps any) json.RawMessage {
	tb.Helper()
	doc, err := license.Canonical(doc)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := json.Marshal(steps)
	if err != nil {
		tb.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(text)
	if err != nil {
		tb.Fatal(err)
	}
	settings := jsonpatch.NewApplyOptions()
	settings.SupportNegativeIndices, settings.EscapeHTML = false, false
	out, err := patch.ApplyWithOptions(doc, settings)
	if err != nil {
		tb.Fatalf("apply %s: %v", text, err)
	}
	out, err = license.Canonical(out)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// failer is a test, or a run of a property.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// lines are steps without their operations' values.
func lines(steps []license.Step) []string {
	var all []string
	for _, s := range steps {
		all = append(all, strings.TrimSpace(s.Kind+" "+s.Op+" "+s.Path+" "+s.Rule))
	}
	return all
}

func TestFill(t *testing.T) {
	t.Parallel()
	filled, steps, err := license.Fill(template(t), options())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/filled.json", filled)
	want := []string{
		"placeholder replace /metadata/labels/project_id {project_id}",
		"placeholder replace /metadata/labels/project_tag {PROJECT_TAG}",
		"placeholder replace /spec/containers/0/args/1 {project_id}",
		"placeholder replace /spec/containers/0/env/1/value {extra_env}",
		"placeholder replace /spec/containers/0/env/2/value {project_config}",
		"placeholder replace /spec/containers/0/image {PROJECT_IMAGE}, {PROJECT_TAG}",
		"rule replace /metadata/name the name of a project's pod",
		"rule add /metadata/namespace the namespace of the cluster",
		"rule add /metadata/labels/user the labels of a project's pod",
		"rule add /metadata/annotations the annotations of Berth",
		"rule add /spec/restartPolicy a project is restarted by Berth",
		"rule add /spec/initContainers/0/volumeMounts/0/subPath a project sees its own files",
		"rule add /spec/containers/0/volumeMounts/0/subPath a project sees its own files",
		"rule add /spec/containers/0/volumeMounts/1/readOnly software is read-only",
	}
	if diff := cmp.Diff(want, lines(steps)); diff != "" {
		t.Errorf("steps: -want +got:\n%s", diff)
	}
	if got := replay(t, template(t), steps); string(got) != string(filled) {
		t.Errorf("the steps give %s, want %s", got, filled)
	}
}

// golden compares with a file, which UPDATE_GOLDEN=1 writes.
func golden(t *testing.T, name string, got json.RawMessage) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(name, append(got, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(string(want)), string(got)); diff != "" {
		t.Errorf("%s: -want +got:\n%s", name, diff)
	}
}

// Where files are is the site's to say.
func TestFillStorage(t *testing.T) {
	t.Parallel()
	opts := options()
	opts.DataClaim, opts.SoftwareClaim, opts.SharedFiles = "site-data", "site-software", "s/{project_id}/x"
	text := `{"a":"/mnt/{shared_files_path}","spec":{"volumes":[{"name":"home","persistentVolumeClaim":{"claimName":"c"}},` +
		`{"name":"software","persistentVolumeClaim":{"claimName":"c"}},{"name":"home","emptyDir":{}},{"name":"other","persistentVolumeClaim":{"claimName":"c"}}]}}`
	filled, steps, err := license.Fill(json.RawMessage(text), opts)
	if err != nil {
		t.Fatal(err)
	}
	if got := replay(t, json.RawMessage(text), steps); string(got) != string(filled) {
		t.Errorf("the steps give %s, want %s", got, filled)
	}
	want := `"volumes":[{"name":"home","persistentVolumeClaim":{"claimName":"site-data"}},{"name":"software","persistentVolumeClaim":{"claimName":"site-software"}},` +
		`{"emptyDir":{},"name":"home"},{"name":"other","persistentVolumeClaim":{"claimName":"c"}}]`
	for _, part := range []string{want, `"a":"/mnt/s/` + project + `/x"`} {
		if !strings.Contains(string(filled), part) {
			t.Errorf("%s has no %s", filled, part)
		}
	}
}

// What a template says itself stays; what is filled in stays what it is.
func TestFillLeaves(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ template, want string }{
		"unknown placeholders": {
			`{"a":"{x} {project_idx} {PROJECT_TAG","spec":{"restartPolicy":"Always"}}`,
			`"a":"{x} {project_idx} {PROJECT_TAG"`,
		},
		"names of members":         {`{"{project_id}":1}`, `"{project_id}":1`},
		"filled values":            {`{"a":"{project_config}"}`, `"a":"{project_id}\"}"`},
		"a restart policy":         {`{"spec":{"restartPolicy":"Always"}}`, `"restartPolicy":"Always"`},
		"a home of another kind":   {`{"spec":{"containers":[{"volumeMounts":[{"name":"home","mountPath":"/home/user","subPath":"x"}]}]}}`, `"subPath":"x"`},
		"the whole home volume":    {`{"spec":{"containers":[{"volumeMounts":[{"name":"home","mountPath":"/global"}]}]}}`, `[{"mountPath":"/global","name":"home"}]`},
		"writable software":        {`{"spec":{"containers":[{"volumeMounts":[{"name":"software","mountPath":"/ext","readOnly":false}]}]}}`, `"readOnly":false`},
		"members that are nothing": {`{"spec":{"containers":[1,{"volumeMounts":{}},{"volumeMounts":["x"]}]}}`, `[1,{"volumeMounts":{}},{"volumeMounts":["x"]}]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			filled, steps, err := license.Fill(json.RawMessage(tc.template), options())
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(filled), tc.want) {
				t.Errorf("%s has no %s", filled, tc.want)
			}
			if got := replay(t, json.RawMessage(tc.template), steps); string(got) != string(filled) {
				t.Errorf("the steps give %s, want %s", got, filled)
			}
		})
	}
}

func TestFillRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		template string
		change   func(*license.FillOptions)
	}{
		"no JSON":                    {`{`, nil},
		"a list":                     {`[]`, nil},
		"metadata that is a text":    {`{"metadata":"x"}`, nil},
		"a project that is none":     {`{}`, func(o *license.FillOptions) { o.ProjectID = "../../etc" }},
		"more than a pod may have":   {`{"a":"` + strings.Repeat("{extra_env}", 100) + `"}`, func(o *license.FillOptions) { o.ExtraEnv = strings.Repeat("x", 10000) }},
		"what grows by its escaping": {`{"a":"{extra_env}"}`, func(o *license.FillOptions) { o.ExtraEnv = strings.Repeat("\x01", 400000) }},
		"no image for the template":  {`{"a":"{PROJECT_IMAGE}"}`, func(o *license.FillOptions) { o.Image = "" }},
		"no tag for the template":    {`{"a":"{PROJECT_TAG}"}`, func(o *license.FillOptions) { o.Tag = "" }},
		"one claim for all": {
			`{"spec":{"volumes":[{"name":"home","persistentVolumeClaim":{"claimName":"c"}},{"name":"software","persistentVolumeClaim":{"claimName":"c"}}]}}`, nil,
		},
		"one claim by the site": {
			`{"spec":{"volumes":[{"name":"home","persistentVolumeClaim":{"claimName":"c"}},{"name":"software","persistentVolumeClaim":{"claimName":"d"}}]}}`,
			func(o *license.FillOptions) { o.SoftwareClaim = "c" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := options()
			if tc.change != nil {
				tc.change(&opts)
			}
			if filled, _, err := license.Fill(json.RawMessage(tc.template), opts); err == nil {
				t.Errorf("filled: %.200s", filled)
			}
		})
	}
}

// operations are those of a license's patch.
func operations(tb failer, id, patch string) []quota.Operation {
	tb.Helper()
	list, err := quota.LoadPatch(patch)
	if err != nil {
		tb.Fatal(err)
	}
	var ops []quota.Operation
	for i, raw := range list {
		ops = append(ops, quota.Operation{License: id, Index: i, Raw: raw})
	}
	return ops
}

func composed() quota.Result {
	return quota.Result{
		Quota: quota.Quota{Network: true, CPULimit: 1, CPURequest: 0.1, MemoryLimit: 3000, MemoryRequest: 600, ExtRW: true},
		Findings: []quota.Finding{
			{Field: "memory_limit", Value: 3000, Sources: []quota.Source{{Kind: quota.KindLicense, License: "a", Amount: 3000}}},
			{Field: "patch", Value: 4, Sources: []quota.Source{{Kind: quota.KindLicense, License: "a", Amount: 2, Rule: "operations"}}},
		},
		Ignored: []quota.Ignored{{License: "c", Why: "expired"}},
	}
}

// The quota first, then the patches in order, each with its license.
func TestCompose(t *testing.T) {
	t.Parallel()
	filled, steps, err := license.Fill(template(t), options())
	if err != nil {
		t.Fatal(err)
	}
	q := composed()
	q.Quota.Patch = append(
		operations(t, "a", `[{"op":"add","path":"/spec/containers/0/volumeMounts/7","value":{"mountPath":"/global","name":"home"}},{"op":"remove","path":"/spec/dnsPolicy"}]`),
		operations(t, "b", `[{"op":"replace","path":"/spec/containers/0/resources/limits/memory","value":"4Gi"},{"op":"add","path":"/metadata/labels/mylabel","value":"test123"}]`)...)
	got, err := license.Compose(filled, q, license.Options{})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/composed.json", got.Pod)
	explanation, err := json.MarshalIndent(got.Explanation, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/explanation.json", explanation)
	if pod := replay(t, template(t), append(steps, got.Explanation.Steps...)); string(pod) != string(got.Pod) {
		t.Errorf("the steps give %s, want %s", pod, got.Pod)
	}
}

func TestComposeErrors(t *testing.T) {
	t.Parallel()
	base := json.RawMessage(`{"metadata":{"name":"p"},"spec":{"containers":[{}]}}`)
	bad := composed()
	bad.BadPatches = []quota.BadPatch{{License: "b", Err: errors.New("not a list")}}
	second := composed()
	second.Quota.Patch = append(operations(t, "a", `[{"op":"test","path":"/metadata/name","value":"p"}]`),
		operations(t, "b", `[{"op":"test","path":"/metadata/name","value":"p"},{"op":"remove","path":"/metadata/name"}]`)...)
	for name, tc := range map[string]struct {
		quota quota.Result
		want  patchset.Error
	}{
		"a patch that does not load": {bad, patchset.Error{License: "b", List: -1, Operation: -1, Code: patchset.CodePatchInvalid, Message: "not a list"}},
		"a protected path": {second, patchset.Error{
			License: "b", List: 1, Operation: 1, Path: "/metadata/name", Code: patchset.CodeProtected,
			Rule: "/metadata/name is protected", Message: "no license may change this: /metadata/name is protected",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := license.Compose(base, tc.quota, license.Options{Protection: patchset.Protection{Paths: patchset.Identity()}})
			var failed *patchset.Error
			if !errors.As(err, &failed) {
				t.Fatalf("error %v, want a *patchset.Error", err)
			}
			if diff := cmp.Diff(tc.want, *failed); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	var failed *pod.Error
	if _, err := license.Compose(json.RawMessage(`{}`), composed(), license.Options{}); !errors.As(err, &failed) {
		t.Errorf("a base without containers: %v", err)
	}
}

// What the pod has no place for is told with the licenses that brought it.
func TestComposeNamesWhoseIsIgnored(t *testing.T) {
	t.Parallel()
	q, err := quota.Compute(quota.Input{Licenses: []quota.License{
		{ID: "a", Value: json.RawMessage(`{"quota":{"ext_rw":true}}`)},
		{ID: "b", Value: json.RawMessage(`{"quota":{"ext_rw":true,"gpu":{"num":1,"toleration":"=x"}}}`)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := license.Compose(json.RawMessage(`{"spec":{"containers":[{}]}}`), q, license.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, ignored := range got.Explanation.Ignored {
		if ignored.Field == "ext_rw" || strings.HasPrefix(ignored.Field, "gpu") {
			told = append(told, ignored.License+" "+ignored.Field)
		}
	}
	if diff := cmp.Diff([]string{"a ext_rw", "b ext_rw", "b gpu.toleration"}, told); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// manifests are pods that people bring.
func manifests() []string {
	var all []string
	for _, resources := range []string{
		`null`, `{}`, `{"requests":{"cpu":"100m","memory":"256Mi"}}`, `{"limits":{"cpu":"2.50","memory":4e9,"nvidia.com/gpu":"1"}}`,
		`{"limits":{"memory":"64Gi"},"requests":{"memory":"1e3","nvidia.com/gpu":1}}`,
	} {
		all = append(all, `{"spec":{"containers":[{"resources":`+resources+`,"volumeMounts":[
			{"mountPath":"/ext","name":"software","readOnly":true,"recursiveReadOnly":"Enabled"}]},{"name":"side","resources":`+resources+`}],
			"volumes":[{"name":"software"}, {}]},"metadata":{"labels":{"network":"none"}},"kind":"Pod"}`)
	}
	return all
}

// Of a license that changes nothing in somebody's own pod it is said, and why.
func TestComposeManifest(t *testing.T) {
	t.Parallel()
	unlicensed, err := quota.Compute(quota.Input{})
	if err != nil {
		t.Fatal(err)
	}
	const (
		useless = "it changes nothing in this pod, which has as much already, or no place for what only projects have"
		kept    = "the manifest asks for as much or more: "
		above   = "gives no more than there is without it: 1"
	)
	for name, tc := range map[string]struct {
		gives     string
		wantSteps []string
		want      []quota.Ignored
	}{
		"a patch": {
			gives:     `{"patch":"[{\"op\":\"add\",\"path\":\"/metadata/labels\",\"value\":{}}]"}`,
			wantSteps: []string{"license add /metadata/labels"},
		},
		"nothing":        {gives: `{}`, want: []quota.Ignored{{License: "a", Why: useless}}},
		"no devices":     {gives: `{"gpu":{"num":0}}`, want: []quota.Ignored{{License: "a", Why: useless}}},
		"what there is":  {gives: `{"cpu":1}`, want: []quota.Ignored{{License: "a", Field: "cpu_limit", Why: above}, {License: "a", Why: useless}}},
		"for projects":   {gives: `{"always_running":true}`, want: []quota.Ignored{{License: "a", Why: useless}}},
		"too little":     {gives: `{"ram":3}`, want: []quota.Ignored{{License: "a", Field: "memory_limit", Why: kept + "4Gi"}, {License: "a", Why: useless}}},
		"enough of one":  {gives: `{"ram":3,"cpu":2}`, wantSteps: []string{"quota add /spec/containers/0/resources/limits/cpu"}, want: []quota.Ignored{{License: "a", Field: "memory_limit", Why: kept + "4Gi"}}},
		"software alone": {gives: `{"ext_rw":true}`, want: []quota.Ignored{{License: "a", Field: "ext_rw", Why: "the container mounts no volume software at /ext"}, {License: "a", Why: useless}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, err := quota.Compute(quota.Input{Licenses: []quota.License{{ID: "a", Value: json.RawMessage(`{"quota":` + tc.gives + `}`)}}})
			if err != nil {
				t.Fatal(err)
			}
			base := json.RawMessage(`{"metadata":{},"spec":{"containers":[{"resources":{"limits":{"memory":"4Gi"},"requests":{"cpu":"100m"}}}]}}`)
			got, err := license.Compose(base, q, license.Options{Pod: pod.Options{Manifest: true, Unlicensed: unlicensed.Quota}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.wantSteps, lines(got.Explanation.Steps)); diff != "" {
				t.Errorf("steps: -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(tc.want, got.Explanation.Ignored); diff != "" {
				t.Errorf("ignored: -want +got:\n%s", diff)
			}
		})
	}
}

// Whatever template, quota and patch: the explanation, applied elsewhere to the
// template, gives the pod, byte for byte, and so does the diff.
func TestExplanationGivesThePod(t *testing.T) {
	t.Parallel()
	whole := template(t)
	rapid.Check(t, func(r *rapid.T) {
		opts := options()
		opts.ExtraEnv, opts.Tag = rapid.String().Draw(r, "env"), rapid.StringMatching(`[a-z]{1,3}`).Draw(r, "tag")
		whole := whole
		filled, steps, err := license.Fill(whole, opts)
		if err != nil {
			r.Fatal(err)
		}
		rules := license.Options{}
		if rapid.Bool().Draw(r, "manifest") {
			whole = json.RawMessage(rapid.SampledFrom(manifests()).Draw(r, "resources"))
			filled, steps = whole, nil
			rules.Pod = pod.Options{Manifest: true, Unlicensed: quota.Quota{CPULimit: 1, CPURequest: 0.02, MemoryLimit: 1000, MemoryRequest: 200}}
		}
		amount := rapid.Float64Range(-1, 1e6)
		q := composed()
		q.Quota = quota.Quota{
			Network: rapid.Bool().Draw(r, "network"), ExtRW: rapid.Bool().Draw(r, "ext_rw"),
			CPULimit: amount.Draw(r, "cpu"), CPURequest: amount.Draw(r, "cpu request"),
			MemoryLimit: amount.Draw(r, "memory"), MemoryRequest: amount.Draw(r, "memory request"),
		}
		if rapid.Bool().Draw(r, "gpu") {
			q.Quota.GPU = json.RawMessage(`{"num":2.0,"toleration":"a=b,c","nodeLabel":"x=y"}`)
		}
		if rapid.Bool().Draw(r, "vm") {
			q.Quota.DedicatedVM = json.RawMessage(`{"machine":"onprem","name":"big"}`)
		}
		for i, patch := range rapid.SliceOf(rapid.SampledFrom([]string{
			`{"op":"add","path":"/spec/containers/0/volumeMounts/7","value":{"mountPath":"/a","name":"b"}}`,
			`{"op":"add","path":"/spec/containers/0/","value":{"name":"first"}}`,
			`{"op":"add","path":"/spec/containers/00","value":{"name":"first","n":1.50e2}}`,
			`{"op":"move","from":"/spec/volumes/0","path":"/spec/volumes/9"}`,
			`{"op":"copy","from":"/metadata/labels","path":"/metadata/annotations"}`,
			`{"op":"copy","from":"","path":"/x"}`,
			`{"op":"replace","path":"/spec/dnsPolicy","value":null}`,
			`{"op":"remove","path":"/spec/volumes/1"}`,
			`{"op":"remove","path":"/metadata/labels"}`,
		})).Draw(r, "patch") {
			q.Quota.Patch = append(q.Quota.Patch, quota.Operation{License: "a", Index: i, Raw: json.RawMessage(patch)})
		}
		got, err := license.Compose(filled, q, rules)
		for err != nil && len(q.Quota.Patch) > 0 {
			q.Quota.Patch = q.Quota.Patch[:len(q.Quota.Patch)-1]
			got, err = license.Compose(filled, q, rules)
		}
		if err != nil {
			r.Fatal(err)
		}
		if pod := replay(r, whole, append(steps, got.Explanation.Steps...)); string(pod) != string(got.Pod) {
			r.Fatalf("the steps give %s\nwant %s", pod, got.Pod)
		}
		diff, err := license.Diff(whole, got.Pod)
		if err != nil {
			r.Fatal(err)
		}
		if pod := replay(r, whole, diff); string(pod) != string(got.Pod) {
			r.Fatalf("the diff gives %s\nwant %s", pod, got.Pod)
		}
	})
}
