package licensing_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/license"
	"berth/pkg/license/check"
	"berth/pkg/license/patchset"
	"berth/pkg/license/quota"
	"berth/services/licenser/internal/licensing"
)

const (
	project = "09c119f5-6f0d-4c2b-9a53-1f0a6a7c2d11"
	first   = "11111111-1111-4111-8111-111111111111"
	second  = "22222222-2222-4222-8222-222222222222"
	secret  = "hunter2"
)

const template = `{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{}},"spec":{
	"containers":[{"name":"project","image":"{PROJECT_IMAGE}:{PROJECT_TAG}","env":[{"name":"EXTRA_ENV","value":"{extra_env}"}],
		"volumeMounts":[{"name":"home","mountPath":"/home/user"},{"name":"software","mountPath":"/ext","readOnly":true},{"name":"shm","mountPath":"/dev/shm"}]}],
	"serviceAccountName":"projects",
	"volumes":[{"name":"home","persistentVolumeClaim":{"claimName":"projects-data"}},
		{"name":"software","persistentVolumeClaim":{"claimName":"projects-software"}},{"name":"shm","emptyDir":{}}]}}`

func at(text string) *time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return &t
}

// row is a license that is valid.
func row(id, gives string) check.Row {
	return check.Row{ID: id, Activates: at("2026-01-01T00:00:00Z"), Quota: json.RawMessage(gives)}
}

// patching is a license that gives a patch alone.
func patching(id, operations string) check.Row {
	text, err := json.Marshal(operations)
	if err != nil {
		panic(err)
	}
	return row(id, `{"patch":`+string(text)+`}`)
}

// input is a project that has these licenses.
func input(rows ...check.Row) licensing.Input {
	in := licensing.Input{
		Check:  check.Input{Now: *at("2026-06-01T00:00:00Z"), Rows: rows, SiteLicense: []quota.License{}},
		Titles: map[string]string{first: "Course 2026", second: "Storage"},
		Base:   json.RawMessage(template),
		Fill: &license.FillOptions{
			ProjectID: project, Image: "hub.example/project", Tag: "v1", Namespace: "berth",
			ExtraEnv:    base64.StdEncoding.EncodeToString([]byte(`{"PASSWORD":"` + secret + `"}`)),
			Labels:      map[string]string{"podName": "project-" + project},
			Annotations: map[string]string{"berth.dev/user": "project:" + project},
		},
		Options:   license.Options{Protection: patchset.Protection{Paths: patchset.Identity("podName"), AnnotationPrefix: "berth.dev/"}},
		Container: "project",
	}
	for _, r := range rows {
		in.Check.SiteLicense = append(in.Check.SiteLicense, quota.License{ID: r.ID, Value: json.RawMessage("{}")})
	}
	return in
}

// look reads a value of a pod.
func look(t *testing.T, pod json.RawMessage, path ...any) any {
	t.Helper()
	var node any
	if err := json.Unmarshal(pod, &node); err != nil {
		t.Fatalf("the pod is no JSON: %v", err)
	}
	for _, step := range path {
		switch s := step.(type) {
		case string:
			object, _ := node.(map[string]any)
			node = object[s]
		case int:
			list, _ := node.([]any)
			if s >= len(list) {
				return nil
			}
			node = list[s]
		}
	}
	return node
}

func mount(n int) []any { return []any{"spec", "containers", 0, "volumeMounts", n} }

func TestDecide(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		in       licensing.Input
		path     []any
		want     any
		wantSeen []string // In the explanation.
		statuses []string
	}{
		"no license": {in: input(), path: []any{"metadata", "name"}, want: "project-" + project},
		"the image":  {in: input(), path: []any{"spec", "containers", 0, "image"}, want: "hub.example/project:v1"},
		"its own files": {
			in: input(), path: append(mount(0), "subPath"), want: "projects/" + project,
		},
		"a label": {
			in:   input(patching(first, `[{"op":"add","path":"/metadata/labels/mylabel","value":"test123"}]`)),
			path: []any{"metadata", "labels", "mylabel"}, want: "test123", statuses: []string{"active patched"},
		},
		"another service account": {
			in:   input(patching(first, `[{"op":"replace","path":"/spec/serviceAccountName","value":"admins"}]`)),
			path: []any{"spec", "serviceAccountName"}, want: "admins", statuses: []string{"active patched"},
		},
		"all files of all users": {
			in:   input(patching(first, `[{"op":"add","path":"/spec/containers/0/volumeMounts/-","value":{"mountPath":"/global","name":"home"}}]`)),
			path: mount(3), want: map[string]any{"mountPath": "/global", "name": "home"},
			statuses: []string{"active patched"},
		},
		"the same, past the end": {
			in:   input(patching(first, `[{"op":"add","path":"/spec/containers/0/volumeMounts/7","value":{"mountPath":"/global","name":"home"}}]`)),
			path: mount(3), want: map[string]any{"mountPath": "/global", "name": "home"},
			wantSeen: []string{"appended"}, statuses: []string{"active patched"},
		},
		"admin license, memory": {
			in:   input(row(first, `{"cpu":1,"ram":3,"ext_rw":true,"always_running":true,"patch":"[]"}`)),
			path: []any{"spec", "containers", 0, "resources", "limits", "memory"}, want: "3000Mi", statuses: []string{"active"},
		},
		"admin license, software": {
			in:   input(row(first, `{"cpu":1,"ram":3,"ext_rw":true,"always_running":true}`)),
			path: append(mount(1), "readOnly"), want: false, statuses: []string{"active"},
		},
		"extra storage, and a second license": {
			in: input(
				patching(first, `[{"op":"add","path":"/spec/volumes/-","value":{"name":"extra","persistentVolumeClaim":{"claimName":"data"}}},
					{"op":"add","path":"/spec/containers/0/volumeMounts/-","value":{"name":"extra","mountPath":"/extra"}}]`),
				patching(second, `[{"op":"add","path":"/spec/containers/0/volumeMounts/3/readOnly","value":true}]`)),
			path: mount(3), want: map[string]any{"name": "extra", "mountPath": "/extra", "readOnly": true},
			wantSeen: []string{first, second}, statuses: []string{"active patched", "active patched"},
		},
		"two that touch one path": {
			in: input(
				patching(second, `[{"op":"add","path":"/metadata/labels/who","value":"second"}]`),
				patching(first, `[{"op":"add","path":"/metadata/labels/who","value":"first"}]`)),
			path: []any{"metadata", "labels", "who"}, want: "second",
			wantSeen: []string{first, second}, statuses: []string{"active patched", "active patched"},
		},
		"a gpu": {
			in:   input(row(first, `{"gpu":{"num":2}}`), row(second, `{"cpu":1,"gpu":{"num":1,"toleration":"a"}}`)),
			path: []any{"spec", "tolerations", 0, "key"}, want: "a", statuses: []string{"active", "active machine"},
		},
		"a gpu that asks for nothing": {
			in:   input(row(first, `{"gpu":{"num":0}}`)),
			path: []any{"spec", "tolerations"}, statuses: []string{"active"},
		},
		"a gpu and a patch": {
			in:   input(row(first, `{"gpu":{"num":1},"patch":"[{\"op\":\"add\",\"path\":\"/metadata/labels/a\",\"value\":\"b\"}]"}`)),
			path: []any{"spec", "containers", 0, "resources", "limits", "nvidia.com/gpu"}, want: 1.0,
			statuses: []string{"active patched machine"},
		},
		"a dedicated machine": {
			in:   input(row(first, `{"gpu":{"num":1}}`), row(second, `{"dedicated_vm":{"machine":"onprem","name":"vm1"}}`)),
			path: []any{"spec", "tolerations", 0, "value"}, want: "vm1", statuses: []string{"ineffective", "active machine"},
		},
		"no seat": {
			in: func() licensing.Input {
				r := row(first, `{"cpu":2}`)
				r.RunLimit = new(int64(1))
				in := input(r)
				in.Check.SeatsOfOthers = func(string) int { return 1 }
				return in
			}(),
			path: []any{"spec", "containers", 0, "resources", "limits", "cpu"}, want: "1000m", statuses: []string{"exhausted"},
		},
		"0 seats mean any number": {
			in: func() licensing.Input {
				r := row(first, `{"cpu":2}`)
				r.RunLimit = new(int64(0))
				in := input(r)
				in.Check.SeatsOfOthers = func(string) int { return 1000 }
				return in
			}(),
			path: []any{"spec", "containers", 0, "resources", "limits", "cpu"}, want: "2000m", statuses: []string{"active"},
		},
		"expired": {
			in: func() licensing.Input {
				r := row(first, `{"cpu":2}`)
				r.Expires = at("2026-05-01T00:00:00Z")
				return input(r)
			}(),
			path: []any{"spec", "containers", 0, "resources", "limits", "cpu"}, want: "1000m", statuses: []string{"expired"},
		},
		"deleted": {
			in: func() licensing.Input {
				in := input(row(first, `{"cpu":2}`))
				in.Check.Rows = nil
				return in
			}(),
			path: []any{"spec", "containers", 0, "resources", "limits", "cpu"}, want: "1000m", statuses: []string{"expired"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := licensing.Decide(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, look(t, r.Pod, tt.path...)); d != "" {
				t.Errorf("%v (-want +got):\n%s", tt.path, d)
			}
			var statuses []string
			for _, l := range r.Licenses {
				text := l.Status
				if l.Patched {
					text += " patched"
				}
				if l.Machine {
					text += " machine"
				}
				statuses = append(statuses, text)
			}
			if d := cmp.Diff(tt.statuses, statuses); d != "" {
				t.Errorf("statuses (-want +got):\n%s", d)
			}
			for _, seen := range tt.wantSeen {
				if !strings.Contains(string(r.Licensing.Explanation), seen) {
					t.Errorf("the explanation does not have %q: %s", seen, r.Licensing.Explanation)
				}
			}
			record, err := json.Marshal([]any{r.Licenses, r.Licensing})
			if err != nil {
				t.Fatal(err)
			}
			if encoded := tt.in.Fill.ExtraEnv; strings.Contains(string(record), encoded) || strings.Contains(string(record), secret) {
				t.Error("the log would have a variable's value")
			}
			if r.Container != "project" || !strings.HasPrefix(r.Image, "hub.example/") {
				t.Errorf("the record would name %q of %q", r.Image, r.Container)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	const who = `license "Course 2026" (` + first + `)`
	tests := map[string]struct {
		in   licensing.Input
		want events.Reason
		says []string
	}{
		"no JSON":          {input(patching(first, `[{"op":`)), events.PatchInvalid, []string{who, "patch"}},
		"no list":          {input(patching(first, `{"op":"add"}`)), events.PatchInvalid, []string{who, "not a list"}},
		"unknown op":       {input(patching(first, `[{"op":"add","path":"/metadata/labels/a","value":"b"},{"op":"paint","path":"/x"}]`)), events.PatchInvalid, []string{who, `operation 1, path "/x": op`}},
		"a failing test":   {input(patching(first, `[{"op":"test","path":"/spec/serviceAccountName","value":"hunter2"}]`)), events.PatchInvalid, []string{who, "operation 0", `path "/spec/serviceAccountName"`, "test-failed"}},
		"no such path":     {input(patching(first, `[{"op":"add","path":"/spec/nodeSelector/a","value":"hunter2"}]`)), events.PatchInvalid, []string{who, "operation 0", `path "/spec/nodeSelector/a"`}},
		"a protected path": {input(patching(first, `[{"op":"replace","path":"/metadata/name","value":"hunter2"}]`)), events.PatchInvalid, []string{who, "operation 0", `path "/metadata/name"`, "protected"}},
		"NUL":              {input(patching(first, `[{"op":"add","path":"/metadata/labels/a","value":"\u0000"}]`)), events.PatchInvalid, []string{who, "operation 0", "NUL"}},
		"too long": {
			input(patching(first, `[{"op":"add","path":"/metadata/annotations/a","value":"`+strings.Repeat("x", 512<<10)+`"}]`), patching(second, `[{"op":"add","path":"/metadata/labels/a","value":"b"}]`)),
			events.PatchInvalid,
			[]string{who, "its patch has 5243", "shorten it"},
		},
		"a wrong amount":   {input(row(first, `{"ram":"much"}`)), events.LicenseInvalid, []string{who, "quota.ram"}},
		"unknown machine":  {input(row(first, `{"dedicated_vm":{"machine":"moon"}}`)), events.LicenseInvalid, []string{who, "dedicated_vm"}},
		"a wrong gpu":      {input(row(first, `{"gpu":{"num":1,"nodeLabel":"fast"}}`)), events.LicenseInvalid, []string{who, "gpu.nodeLabel"}},
		"memory for a gpu": {input(row(first, `{"gpu":{"num":1,"resource":"memory"}}`)), events.LicenseInvalid, []string{who, "gpu.resource", "nvidia.com/gpu"}},
		"a machine's name": {input(row(first, `{"dedicated_vm":{"machine":"onprem","name":"a b"}}`)), events.LicenseInvalid, []string{who, "dedicated_vm.name"}},
		"a manifest's amount": {
			func() licensing.Input {
				in := input(row(first, `{"cpu":2}`))
				in.Fill, in.Options.Pod.Manifest = nil, true
				in.Base = json.RawMessage(`{"spec":{"containers":[{"resources":{"limits":{"cpu":"much"}}}]}}`)
				return in
			}(), events.ManifestInvalid, []string{"/spec/containers/0/resources/limits/cpu", "no quantity"},
		},
		"the row": {
			func() licensing.Input {
				in := input()
				in.Check.Settings = json.RawMessage(`[1]`)
				return in
			}(), events.SettingsInvalid, []string{"settings"},
		},
		"the project's own settings": {
			func() licensing.Input {
				in := input()
				in.Check.Settings = json.RawMessage(`{"memory":1e400}`)
				return in
			}(), events.SettingsInvalid, []string{"the project's settings give", "quota.memory_limit"},
		},
		"settings beside a license": {
			func() licensing.Input {
				in := input(row(first, `{"ram":1}`))
				in.Check.Settings = json.RawMessage(`{"cpu_shares":1e300}`)
				return in
			}(), events.SettingsInvalid, []string{"the project's settings give", "quota.cpu_request"},
		},
		"an upgrade of a user": {
			func() licensing.Input {
				in := input()
				in.Check.Users = json.RawMessage(`{"09c119f5-6f0d-4c2b-9a53-1f0a6a7c2d11":{"upgrades":{"memory":1e300}}}`)
				in.Check.Site = json.RawMessage(`{"max_upgrades":"{\"memory\":1e300}"}`)
				return in
			}(), events.SettingsInvalid, []string{"the upgrade of 09c119f5-6f0d-4c2b-9a53-1f0a6a7c2d11 gives", "quota.memory_limit"},
		},
		"the site's defaults": {
			func() licensing.Input {
				in := input()
				in.Check.Site = json.RawMessage(`{"default_quotas":"{\"mem\":1e300}","max_upgrades":"{\"memory\":1e300}"}`)
				return in
			}(), events.SettingsInvalid, []string{"the site's default_quotas give", "quota.memory_limit"},
		},
		"a license that gives too much": {
			func() licensing.Input {
				in := input(row(first, `{"ram":1e300}`))
				in.Check.Settings = json.RawMessage(`{"memory":1}`)
				in.Check.Site = json.RawMessage(`{"max_upgrades":"{\"memory\":1e300}"}`)
				return in
			}(), events.LicenseInvalid, []string{who, "quota.memory_limit"},
		},
		"too many": {
			func() licensing.Input {
				in := input()
				for i := range licensing.MaxLicenses + 1 {
					in.Check.SiteLicense = append(in.Check.SiteLicense, quota.License{ID: fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)})
				}
				return in
			}(), events.LicenseInvalid, []string{"101 licenses", "detach"},
		},
		"the template is null":   {withTemplate(`null`), events.TemplateInvalid, []string{"kind: Pod"}},
		"the template is a list": {withTemplate(`[]`), events.TemplateInvalid, []string{"kind: Pod"}},
		"the template is bare":   {withTemplate(`{"kind":"Pod"}`), events.TemplateInvalid, []string{"container"}},
		"no image": {
			func() licensing.Input {
				in := input()
				in.Fill.Image = ""
				return in
			}(), events.TemplateInvalid, []string{"set projects.image, or give an image with the start"},
		},
		"one claim for all": {
			func() licensing.Input {
				in := input()
				in.Fill.DataClaim, in.Fill.SoftwareClaim = "shared", "shared"
				return in
			}(), events.TemplateInvalid, []string{"one claim", "shared"},
		},
		"no pod": {withTemplate(`{"kind":"Service"}`), events.TemplateInvalid, []string{"kind: Pod"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := licensing.Decide(tt.in)
			fault := (*licensing.Fault)(nil)
			if !errors.As(err, &fault) || fault.Reason != tt.want {
				t.Fatalf("Decide = %v, want %s", err, tt.want)
			}
			for _, part := range tt.says {
				if !strings.Contains(fault.Message, part) {
					t.Errorf("%q does not say %q", fault.Message, part)
				}
			}
			if strings.Contains(fault.Message, secret) {
				t.Errorf("%q has a value", fault.Message)
			}
		})
	}
}

func withTemplate(text string) licensing.Input {
	in := input()
	in.Base = json.RawMessage(text)
	return in
}

// TestChanged: a pod is to be made anew if, and only if, something in the quota differs.
func TestChanged(t *testing.T) {
	t.Parallel()
	r, err := licensing.Decide(input(row(first, `{"cpu":2}`)))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		in     licensing.Input
		stored json.RawMessage
		want   bool
	}{
		"the same":                {input(row(first, `{"cpu":2}`)), r.RunQuota, false},
		"the same, as jsonb":      {input(row(first, `{"cpu":2}`)), json.RawMessage(strings.ReplaceAll(string(r.RunQuota), ":", " : ")), false},
		"never":                   {input(row(first, `{"cpu":2}`)), nil, true},
		"more":                    {input(row(first, `{"cpu":3}`)), r.RunQuota, true},
		"another that changes it": {input(row(first, `{"cpu":2}`), row(second, `{"cpu":1}`)), r.RunQuota, true},
		"another that does not":   {input(row(first, `{"cpu":2}`), row(second, `{}`)), r.RunQuota, false},
		"a patch":                 {input(row(first, `{"cpu":2,"patch":"[{\"op\":\"remove\",\"path\":\"/a\"}]"}`)), r.RunQuota, true},
		"expired":                 {input(check.Row{ID: first, Expires: at("2026-01-01T00:00:00Z"), Quota: json.RawMessage(`{"cpu":2}`)}), r.RunQuota, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.in.RunQuota = tt.stored
			r, err := licensing.Decide(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if r.Changed != tt.want {
				t.Errorf("Changed = %v, want %v: %s", r.Changed, tt.want, r.RunQuota)
			}
		})
	}
}

// TestManifest: a pod of a manifest gets what licenses give, and stays what it is where they
// give nothing.
func TestManifest(t *testing.T) {
	t.Parallel()
	manifest := json.RawMessage(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"jupyter-alice"},"spec":{"containers":[{"name":"jupyter","image":"jupyter:1"}]}}`)
	of := func(rows ...check.Row) licensing.Input {
		in := input(rows...)
		in.Fill, in.Base, in.Container, in.Options.Pod.Manifest = nil, manifest, "jupyter", true
		return in
	}
	over := row(first, `{"cpu":2}`)
	over.Expires = at("2026-02-01T00:00:00Z")
	r, err := licensing.Decide(of(over))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(manifest), string(r.Pod)); d != "" {
		t.Errorf("a license that is over changed the pod (-want +got):\n%s", d)
	}
	r, err = licensing.Decide(of(row(first, `{"cpu":2,"patch":"[{\"op\":\"replace\",\"path\":\"/spec/containers/0/image\",\"value\":\"jupyter:2\"}]"}`)))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"limits": map[string]any{"cpu": "2000m"}, "requests": map[string]any{"cpu": "20m"}}
	if d := cmp.Diff(want, look(t, r.Pod, "spec", "containers", 0, "resources")); d != "" {
		t.Errorf("resources (-want +got):\n%s", d)
	}
	if r.Image != "jupyter:2" || r.Container != "jupyter" {
		t.Errorf("the record would name %q of %q", r.Image, r.Container)
	}
}

// TestManifestKeeps: where the site's own defaults are as much as a license gives, and where
// the manifest asks for more, the manifest's amounts stay.
func TestManifestKeeps(t *testing.T) {
	t.Parallel()
	manifest := json.RawMessage(`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"jupyter","resources":{"limits":{"cpu":"500m","memory":"6Gi"},"requests":{"cpu":"100m"}}}]}}`)
	for name, tt := range map[string]struct{ gives, site, cpu, says string }{
		"a label":           {gives: `{"patch":"[{\"op\":\"add\",\"path\":\"/metadata\",\"value\":{\"labels\":{\"a\":\"b\"}}}]"}`, cpu: "500m", says: "/metadata"},
		"less memory":       {gives: `{"ram":3}`, cpu: "500m", says: "the manifest asks for as much or more: 6Gi"},
		"more CPU":          {gives: `{"cpu":2}`, cpu: "2000m", says: "cpu_limit"},
		"as CPU by default": {gives: `{"cpu":2}`, site: `{"default_quotas":"{\"cpu\":2}"}`, cpu: "500m", says: "gives no more than there is without it: 2"},
		"a machine":         {gives: `{"dedicated_vm":{"machine":"onprem","name":"big"},"ram":4}`, cpu: "500m", says: "dedicated_vm"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := input(row(first, tt.gives))
			in.Fill, in.Base, in.Container, in.Options.Pod.Manifest = nil, manifest, "jupyter", true
			in.Check.Site = json.RawMessage(tt.site)
			r, err := licensing.Decide(in)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]any{
				"limits": map[string]any{"cpu": tt.cpu, "memory": "6Gi"}, "requests": map[string]any{"cpu": "100m"},
			}
			if d := cmp.Diff(want, look(t, r.Pod, "spec", "containers", 0, "resources")); d != "" {
				t.Errorf("resources (-want +got):\n%s", d)
			}
			if !strings.Contains(string(r.Licensing.Explanation), tt.says) {
				t.Errorf("the explanation does not have %q: %s", tt.says, r.Licensing.Explanation)
			}
		})
	}
}

// TestTrace: what is logged for whoever looks for a fault has the patches and no variable.
func TestTrace(t *testing.T) {
	t.Parallel()
	in := input(patching(first, `[{"op":"add","path":"/metadata/labels/a","value":"b"},
		{"op":"add","path":"/spec/containers/0/env/-","value":{"name":"TOKEN","value":"hunter2"}},
		{"op":"copy","from":"/spec/containers/0/env/0/value","path":"/metadata/annotations/leak"},
		{"op":"copy","from":"/spec/containers/0/env/1/value","path":"/metadata/labels/leak"}]`))
	in.Tracing = true
	r, err := licensing.Decide(in)
	if err != nil {
		t.Fatal(err)
	}
	if r.Trace == nil {
		t.Fatal("no trace")
	}
	all := string(r.Trace.Before) + string(r.Trace.Patch) + string(r.Trace.After)
	if strings.Contains(all, secret) || strings.Contains(all, in.Fill.ExtraEnv) {
		t.Errorf("a value is in the trace: %s", all)
	}
	if got := look(t, r.Trace.After, "metadata", "labels", "a"); got != "b" {
		t.Errorf("the pod after the patch has label a = %v", got)
	}
	if got := look(t, r.Trace.Before, "metadata", "labels", "a"); got != nil {
		t.Errorf("the pod before the patch has label a = %v", got)
	}
	if !strings.Contains(string(r.Trace.Patch), "/metadata/labels/a") {
		t.Errorf("the patch is %s", r.Trace.Patch)
	}

	in = input(patching(first, `[{"op":"test","path":"/kind","value":"Job"}]`))
	in.Tracing = true
	r, err = licensing.Decide(in)
	if err == nil || r.Trace == nil || r.Trace.After != nil || r.Trace.Before == nil {
		t.Errorf("of a patch that fails the trace is %+v (%v)", r.Trace, err)
	}
}

// TestRecordFits: whatever licenses say, the log can hold what is said of them.
func TestRecordFits(t *testing.T) {
	t.Parallel()
	var rows []check.Row
	titles := map[string]string{}
	for i := range licensing.MaxLicenses {
		id := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
		titles[id] = strings.Repeat("<\u2028", 300)
		rows = append(rows, patching(id, fmt.Sprintf(`[{"op":"add","path":"/metadata/labels/l%d","value":%q}]`, i, strings.Repeat("<", 1000))))
	}
	in := input(rows...)
	in.Titles = titles
	r, err := licensing.Decide(in)
	if err != nil {
		t.Fatal(err)
	}
	record, err := json.Marshal(events.Record{Licenses: r.Licenses, Licensing: &r.Licensing})
	if err != nil {
		t.Fatal(err)
	}
	if len(record) > events.MaxEvent*9/10 {
		t.Errorf("the record has %d bytes", len(record))
	}
}

func TestPurchase(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ column, want string }{
		"none":             {``, ``},
		"null":             {`null`, ``},
		"a list":           {`[]`, ``},
		"asked for":        {`{"a":{"quota":{"cores":1}}}`, ``},
		"bought":           {`{"a":{"quota":{"cores":1},"purchase_id":7}}`, `{"quota":{"cores":1},"purchase_id":7}`},
		"no quota":         {`{"a":{"purchase_id":7}}`, ``},
		"two, the first":   {`{"b":{"quota":{},"purchase_id":2},"a":{"quota":{},"purchase_id":1}}`, `{"quota":{},"purchase_id":1}`},
		"nonsense beside":  {`{"a":3,"b":{"quota":{},"purchase_id":2}}`, `{"quota":{},"purchase_id":2}`},
		"given back again": {`{"a":{"quota":{},"purchase_id":null}}`, ``},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := string(licensing.Purchase(json.RawMessage(tt.column))); got != tt.want {
				t.Errorf("Purchase = %s, want %s", got, tt.want)
			}
		})
	}
}
