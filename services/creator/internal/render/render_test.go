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
	output   string // The pod.
	objects  string // What is made with it.
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
		input := golden{name: filepath.Base(stem), manifest: read(tb, path), output: stem + ".pod.yaml", objects: stem + ".objects.yaml"}

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
			checkGolden(t, input.output, got)
			checkGolden(t, input.objects, objects(t, pod, input.request))

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

func checkGolden(t *testing.T, path, got string) {
	t.Helper()

	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	if diff := cmp.Diff(string(read(t, path)), got); diff != "" {
		t.Errorf("(-want +got; -update writes the file anew):\n%s", diff)
	}
}

// objects is what is made with a pod, as YAML documents.
func objects(tb testing.TB, pod *corev1.Pod, request render.Request) string {
	tb.Helper()

	pod = pod.DeepCopy()
	render.Stamp(pod, request.Command, "1767323045000000000-7")

	var all []any

	storage, err := render.StorageOf(pod, request.User, request.Namespace, request.Site)
	if err != nil {
		tb.Fatalf("StorageOf: %v", err)
	}

	if storage.Name != "" {
		all = append(all, storage.Volume(), storage.Claim())
	}

	belongings := render.BelongingsOf(pod, request.User, request.Site)
	belongings.Own(pod, "6f9a5a0e-2f5b-4f2b-8d51-9a3a5a0e2f5b")

	for _, service := range belongings.Services {
		all = append(all, service)
	}

	if belongings.Ingress != nil {
		all = append(all, belongings.Ingress)
	}

	var text strings.Builder

	text.WriteString("# ssh user: " + belongings.SSHUser + "\n")

	for _, object := range all {
		document, err := yaml.Marshal(object)
		if err != nil {
			tb.Fatal(err)
		}

		text.WriteString("---\n" + string(document))
	}

	return text.String()
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

func TestPodWithoutStorage(t *testing.T) {
	t.Parallel()

	parsed, err := render.Parse([]byte("{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: " +
		"{containers: [{name: web, image: x, volumeMounts: [{name: sciencedata, mountPath: /d}]}]}}"))
	if err != nil {
		t.Fatal(err)
	}

	tests := map[string]struct {
		request render.Request
		want    string
	}{
		"the site has none":        {render.Request{User: "alice", SiloAddress: "10.2.0.1"}, "nfsStorageRoot"},
		"nobody knows the address": {render.Request{User: "alice", Silo: "silo1", Site: render.Site{NFSStorageRoot: "/tank"}}, "dataAddress"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			_, _, err := render.Pod(parsed, tt.request)
			wantFault(t, err, render.ReasonStorageFailed, "sciencedata", tt.want)
		})
	}
}

func TestLocalClaims(t *testing.T) {
	t.Parallel()

	for path, want := range map[string]string{
		"/usr/local/software":   "local-claim--usr-local-software",
		"/usr/local/software//": "local-claim--usr-local-software",
		"software":              "local-claim-software",
		"/opt/v1.2":             "local-claim--opt-v1.2",
		"/a//b":                 "local-claim--a--b",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()

			parsed, err := render.Parse([]byte("{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: " +
				"{containers: [{name: web, image: x, volumeMounts: [{name: local, mountPath: " + path + "}]}]}}"))
			if err != nil {
				t.Fatal(err)
			}

			pod, _, err := render.Pod(parsed, render.Request{User: "alice"})
			if err != nil {
				t.Fatal(err)
			}

			if got := pod.Spec.Volumes[0].PersistentVolumeClaim.ClaimName; got != want {
				t.Errorf("%q, want %q", got, want)
			}

			if address, storage := pod.Annotations["berth.dev/data-address"]; storage {
				t.Errorf("the pod is marked with %q", address)
			}
		})
	}
}

// TestStorageOf: what a pod mounts is judged again before it is launched, since it
// may have been changed after it was rendered.
func TestStorageOf(t *testing.T) {
	t.Parallel()

	site := render.Site{NFSStorageRoot: "/tank"}
	at := map[string]string{"berth.dev/data-address": "10.2.0.1"}
	tests := map[string]struct {
		user        string
		claims      []string
		annotations map[string]string
		site        render.Site
		want, says  string
	}{
		"none":                   {claims: []string{"site-shared"}, site: site},
		"the user's":             {claims: []string{"site-shared", "user-storage-a-b"}, annotations: at, site: site, want: "user-storage-a-b"},
		"another user's":         {claims: []string{"user-storage-c-d"}, annotations: at, site: site, says: "user-storage-c-d"},
		"the user's and another": {claims: []string{"user-storage-a-b", "user-storage-c-d"}, annotations: at, site: site, says: "user-storage-c-d"},
		"a project's":            {user: "project:0f7c-9", claims: []string{"projects-data", "projects-software"}},
		"a project has none":     {user: "project:0f7c-9", claims: []string{"user-storage-project-0f7c-9"}, annotations: at, site: site, says: "user-storage-project-0f7c-9"},
		"nobody knows where":     {claims: []string{"user-storage-a-b"}, site: site, says: "berth.dev/data-address"},
		"no storage any more":    {claims: []string{"user-storage-a-b"}, annotations: at, says: "nfsStorageRoot"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			pod := &corev1.Pod{}
			pod.Annotations = tt.annotations

			for _, claim := range tt.claims {
				pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: claim, VolumeSource: corev1.VolumeSource{
					PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
				}})
			}

			user := "a@b"
			if tt.user != "" {
				user = tt.user
			}

			storage, err := render.StorageOf(pod, user, "n", tt.site)
			if tt.says != "" {
				wantFault(t, err, render.ReasonStorageFailed, tt.says)

				return
			}

			if err != nil || storage.Name != tt.want {
				t.Fatalf("%+v, %v; want %q", storage, err, tt.want)
			}

			// Another user has the name: the pod mounts the other one of its user's.
			storage.Name = "user-storage-a-b-hash"
			storage.Mount(pod)

			for i, claim := range tt.claims {
				want := claim
				if claim == tt.want {
					want = storage.Name
				}

				if got := pod.Spec.Volumes[i].PersistentVolumeClaim.ClaimName; got != want {
					t.Errorf("volume %d is claim %s, want %s", i, got, want)
				}
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

// TestLabelsOfProjects: no manifest makes a pod that services and network policies take for
// a project's.
func TestLabelsOfProjects(t *testing.T) {
	t.Parallel()

	const manifest = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"m","labels":{%s}},"spec":{"containers":[{"name":"c","image":"i"}]}}`

	tests := map[string]struct {
		labels string
		key    string
		kept   bool
	}{
		"run: project": {`"run":"project"`, "run", false},
		"another run":  {`"run":"notebook"`, "run", true},
		"project_id":   {`"project_id":"x"`, "project_id", false},
		"project_tag":  {`"project_tag":"x"`, "project_tag", false},
		"network":      {`"network":"x"`, "network", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			parsed, err := render.Parse(fmt.Appendf(nil, manifest, tt.labels))
			if err != nil {
				t.Fatal(err)
			}

			pod, warnings, err := render.Pod(parsed, render.Request{Name: "m-alice", User: "alice"})
			if err != nil {
				t.Fatal(err)
			}

			_, kept := pod.Labels[tt.key]
			warned := len(warnings) == 1 && strings.Contains(warnings[0], "label "+tt.key)

			if kept != tt.kept || warned == tt.kept {
				t.Errorf("labels %v, warnings %q", pod.Labels, warnings)
			}
		})
	}
}
