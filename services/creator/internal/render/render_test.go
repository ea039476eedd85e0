package render_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"berth/services/creator/internal/render"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden is one input of the golden files, with where its output belongs.
type golden struct {
	name     string
	manifest []byte
	request  render.Request
	output   string
}

func goldens(tb testing.TB) []golden {
	tb.Helper()

	paths, err := filepath.Glob("testdata/*.manifest.yaml")
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no golden files: %v", err)
	}

	list := make([]golden, 0, len(paths))

	for _, path := range paths {
		stem := strings.TrimSuffix(path, ".manifest.yaml")
		input := golden{name: filepath.Base(stem), manifest: read(tb, path), output: stem + ".pod.yaml"}

		if err := yaml.UnmarshalStrict(read(tb, stem+".request.yaml"), &input.request); err != nil {
			tb.Fatalf("%s: %v", stem, err)
		}

		list = append(list, input)
	}

	return list
}

func read(tb testing.TB, path string) []byte {
	tb.Helper()

	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}

	return text
}

// rendered is a golden output: the pod with what was warned of.
func rendered(tb testing.TB, input golden) (*corev1.Pod, string) {
	tb.Helper()

	manifest, err := render.Parse(input.manifest)
	if err != nil {
		tb.Fatalf("Parse: %v", err)
	}

	before := manifest.DeepCopy()

	pod, warnings, err := render.Pod(manifest, input.request)
	if err != nil {
		tb.Fatalf("Pod: %v", err)
	}

	if diff := cmp.Diff(before, manifest); diff != "" {
		tb.Errorf("the manifest was modified:\n%s", diff)
	}

	text, err := yaml.Marshal(pod)
	if err != nil {
		tb.Fatal(err)
	}

	var output strings.Builder

	for _, warning := range warnings {
		output.WriteString("# " + warning + "\n")
	}

	output.Write(text)

	return pod, output.String()
}

func TestGolden(t *testing.T) {
	t.Parallel()

	for _, input := range goldens(t) {
		t.Run(input.name, func(t *testing.T) {
			t.Parallel()

			pod, got := rendered(t, input)

			if *update {
				if err := os.WriteFile(input.output, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}

			if diff := cmp.Diff(string(read(t, input.output)), got); diff != "" {
				t.Errorf("(-want +got; -update writes the file anew):\n%s", diff)
			}

			again, _, err := render.Pod(pod, input.request)
			if err != nil {
				t.Fatal(err)
			}

			if diff := cmp.Diff(pod, again); diff != "" {
				t.Errorf("rendering the result changes it:\n%s", diff)
			}
		})
	}
}

func TestPodRefuses(t *testing.T) {
	t.Parallel()

	manifest := "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: web, image: IMAGE}]}}"
	set := func(name, value string) map[string]map[string]string {
		return map[string]map[string]string{"web": {name: value}}
	}

	tests := map[string]struct {
		image      string
		request    render.Request
		wantReason string
		wantText   []string
	}{
		"no registry of its own": {
			image: "LOCALREGISTRY/web", wantReason: render.ReasonManifestInvalid,
			wantText: []string{`"LOCALREGISTRY/web"`, "localRegistryURL"},
		},
		"registry that is no part of a reference": {
			image: "LOCALREGISTRY/web", request: render.Request{LocalRegistryURL: "https://registry.example.org"},
			wantReason: render.ReasonManifestInvalid, wantText: []string{`"https://registry.example.org/web"`},
		},
		"variable name": {
			request: render.Request{Settings: set("1 A", "x")}, wantReason: render.ReasonSettingsInvalid,
			wantText: []string{`setting "1 A" of container "web"`},
		},
		"variable name, empty": {
			request: render.Request{Settings: set("", "x")}, wantReason: render.ReasonSettingsInvalid, wantText: []string{`setting ""`},
		},
		"long name": {
			request:    render.Request{Settings: set(strings.Repeat("A", 257), "x")},
			wantReason: render.ReasonSettingsInvalid, wantText: []string{"too long"},
		},
		"zero byte": {
			request: render.Request{Settings: set("A", "secret\x00")}, wantReason: render.ReasonSettingsInvalid, wantText: []string{"zero byte"},
		},
		"not UTF-8": {
			request: render.Request{Settings: set("A", "secret\xff")}, wantReason: render.ReasonSettingsInvalid, wantText: []string{"UTF-8"},
		},
		"long value": {
			request:    render.Request{Settings: set("A", strings.Repeat("secret", 6000))},
			wantReason: render.ReasonSettingsInvalid, wantText: []string{`"A"`, "too long"},
		},
		"unknown container with a bad variable": {
			request:    render.Request{Settings: map[string]map[string]string{"nobody": {"=": ""}}},
			wantReason: render.ReasonSettingsInvalid, wantText: []string{`"nobody"`},
		},
		"all settings together": {
			request: render.Request{Settings: map[string]map[string]string{"web": {
				"A": strings.Repeat("x", 30000), "B": strings.Repeat("x", 30000), "C": strings.Repeat("x", 30000),
				"D": strings.Repeat("x", 30000), "E": strings.Repeat("x", 30000),
			}}},
			wantReason: render.ReasonSettingsInvalid, wantText: []string{"131072"},
		},
		"all faults at once": {
			request:    render.Request{Settings: map[string]map[string]string{"web": {"=": ""}, "db": {" ": ""}}},
			wantReason: render.ReasonSettingsInvalid, wantText: []string{`"="`, `" "`},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			image := tc.image
			if image == "" {
				image = "web"
			}

			parsed, err := render.Parse([]byte(strings.Replace(manifest, "IMAGE", image, 1)))
			if err != nil {
				t.Fatal(err)
			}

			pod, _, err := render.Pod(parsed, tc.request)
			wantFault(t, err, tc.wantReason, tc.wantText...)

			if pod != nil {
				t.Error("there is a pod nevertheless")
			}
		})
	}
}

func TestPodBoundsTheResult(t *testing.T) {
	t.Parallel()

	var manifest strings.Builder

	manifest.WriteString("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n")

	for i := range 2000 {
		fmt.Fprintf(&manifest, "  - {name: c%d, image: x}\n", i)
	}

	parsed, err := render.Parse([]byte(manifest.String()))
	if err != nil {
		t.Fatal(err)
	}

	_, _, err = render.Pod(parsed, render.Request{Name: "x", User: strings.Repeat("u", 253)})
	wantFault(t, err, render.ReasonManifestInvalid, "524288")
}

func TestStamp(t *testing.T) {
	t.Parallel()

	pod := &corev1.Pod{}
	render.Stamp(pod, "first", "1-1")
	render.Stamp(pod, "c-1", "1-17")

	want := map[string]string{"berth.dev/command": "c-1", "berth.dev/generation": "1-17"}
	if diff := cmp.Diff(want, pod.Annotations); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func BenchmarkRender(b *testing.B) {
	for _, input := range goldens(b) {
		b.Run(input.name, func(b *testing.B) {
			b.ReportAllocs()

			for b.Loop() {
				manifest, err := render.Parse(input.manifest)
				if err != nil {
					b.Fatal(err)
				}

				if _, _, err := render.Pod(manifest, input.request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
