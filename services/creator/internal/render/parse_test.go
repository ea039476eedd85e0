package render_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"berth/services/creator/internal/render"
)

func wantFault(t *testing.T, err error, reason string, texts ...string) {
	t.Helper()

	var fault *render.Error
	if !errors.As(err, &fault) {
		t.Fatalf("error %v, want an *Error", err)
	}

	if fault.Reason != reason {
		t.Errorf("reason %s, want %s", fault.Reason, reason)
	}

	for _, text := range texts {
		if !strings.Contains(fault.Message, text) {
			t.Errorf("%q does not say %q", fault.Message, text)
		}
	}

	if strings.Contains(fault.Message, "secret") {
		t.Errorf("%q quotes a value", fault.Message)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()

	// pod is a good manifest of 11 lines; each case changes or adds something.
	const pod = `apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - name: web
    image: example.org/web:1
    env:
    - name: A
      value: "1"
`

	change := func(old, with string) string {
		if !strings.Contains(pod, old) {
			t.Fatalf("the manifest has no %q", old)
		}

		return strings.Replace(pod, old, with, 1)
	}

	tests := map[string]struct {
		manifest string
		want     []string
	}{
		"nothing":           {"", []string{"empty"}},
		"only comments":     {"# nothing\n---\n", []string{"empty"}},
		"no YAML":           {"apiVersion: v1\nkind: Pod\n\tmetadata: {}\n", []string{"line", "tab"}},
		"unclosed":          {"{", []string{"line 1"}},
		"text":              {"<html>no such page</html>", []string{"line 1", "a mapping", "text"}},
		"list":              {"- apiVersion: v1", []string{"a mapping", "a list"}},
		"two documents":     {pod + "---\n" + pod, []string{"line 13", "second document"}},
		"another kind":      {change("kind: Pod", "kind: Deployment"), []string{"line 2", `"Deployment"`, "Pod"}},
		"another version":   {change("apiVersion: v1", "apiVersion: v2"), []string{"line 1", `"v2"`}},
		"neither":           {"metadata: {name: kind}", []string{"apiVersion is missing", "kind is missing"}},
		"kind is no text":   {change("kind: Pod", "kind: [Pod]"), []string{"line 2", "kind"}},
		"unknown field":     {change("image:", "imagee:"), []string{"line 8: spec.containers[0].imagee: unknown field"}},
		"case of a field":   {pod + "  restartpolicy: Never\n", []string{"line 12: spec.restartpolicy: unknown field"}},
		"unknown at top":    {pod + "data: {}\n", []string{"line 12: data: unknown field"}},
		"field twice":       {pod + "  containers: []\n", []string{"line 12: spec.containers", "line 6"}},
		"label twice":       {change("  name: web\n", "  name: web\n  labels: {a: b, a: c}\n"), []string{"line 5: metadata.labels[a]"}},
		"number as text":    {change(`value: "1"`, "value: 1"), []string{"line 11: spec.containers[0].env[0].value", "text", "quotes"}},
		"truth as text":     {change(`value: "1"`, "value: true"), []string{"line 11", "true or false", "quotes"}},
		"mapping as text":   {change(`value: "1"`, "value: {secret: 1}"), []string{"line 11", "a mapping"}},
		"binary as text":    {change(`value: "1"`, "value: !!binary c2VjcmV0"), []string{"line 11", "!!binary"}},
		"text as a list":    {change("containers:", "containers: web\n  x:"), []string{"line 6: spec.containers: must be a list, not text"}},
		"text as mapping":   {change("spec:", "spec: secret\nstatus:"), []string{"line 5: spec: must be a mapping, not text"}},
		"text as number":    {pod + "  priority: secret\n", []string{"line 12: spec.priority", "number", "text"}},
		"fraction":          {pod + "  priority: 1.5\n", []string{"line 12: spec.priority"}},
		"number too large":  {pod + "  priority: 5000000000\n", []string{"line 12: spec.priority"}},
		"text as truth":     {pod + "  hostNetwork: \"true\"\n", []string{"line 12: spec.hostNetwork", "true or false"}},
		"number as truth":   {pod + "  hostNetwork: 1\n", []string{"line 12: spec.hostNetwork"}},
		"quantity":          {pod + "    resources:\n      limits:\n        cpu: much\n", []string{"line 14: spec.containers[0].resources.limits[cpu]: quantities must match"}},
		"quantity, list":    {pod + "    resources: {limits: {cpu: [1]}}\n", []string{"line 12: spec.containers[0].resources.limits[cpu]", "a list"}},
		"not a number":      {pod + "    resources: {limits: {cpu: .nan}}\n", []string{"line 12: spec.containers[0].resources.limits[cpu]"}},
		"bad explicit tag":  {pod + "    resources: {limits: {cpu: !!float secret}}\n", []string{"line 12", "cannot be read"}},
		"merge key":         {change("  - name: web\n", "  - <<: {name: web}\n"), []string{"line 7", "merge"}},
		"key that is a map": {pod + "  ? {a: b}\n  : c\n", []string{"line 12", "key"}},
		"long key":          {pod + "  " + strings.Repeat("k", 513) + ": 1\n", []string{"line 12", "key"}},
		"no name":           {change("  name: web\n", "  labels: {}\n"), []string{"line 3: metadata.name: is required"}},
		"no metadata":       {change("metadata:\n  name: web\n", ""), []string{"line 1: metadata.name: is required"}},
		"bad name":          {change("  name: web\n", "  name: Web_1\n"), []string{"line 4: metadata.name: a lowercase RFC 1123 subdomain"}},
		"bad label":         {change("  name: web\n", "  name: web\n  labels: {a: -}\n"), []string{"line 5: metadata.labels: Invalid value"}},
		"bad annotation":    {change("  name: web\n", "  name: web\n  annotations: {/: x}\n"), []string{"line 5: metadata.annotations: Invalid value"}},
		"generated name":    {change("  name: web\n", "  name: web\n  generateName: web-\n"), []string{"line 5: metadata.generateName: is not allowed"}},
		"finalizer":         {change("  name: web\n", "  name: web\n  finalizers: [a.b/c]\n"), []string{"line 5: metadata.finalizers: is not allowed"}},
		"owner": {
			change("  name: web\n", "  name: web\n  ownerReferences: [{name: x, kind: Pod, apiVersion: v1, uid: u}]\n"),
			[]string{"line 5: metadata.ownerReferences: is not allowed"},
		},
		"no containers":      {"apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\nspec:\n  containers: []", []string{"line 6: spec.containers: at least one"}},
		"no spec":            {"apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\n", []string{"line 1: spec.containers: at least one"}},
		"empty container":    {pod + "  -\n", []string{"line 12: spec.containers[1].name: is required", "spec.containers[1].image: is required"}},
		"bad container name": {change("- name: web", "- name: w.b"), []string{"line 7: spec.containers[0].name: must not contain dots"}},
		"container twice":    {pod + "  initContainers: [{name: web, image: x}]\n", []string{"line 7: spec.containers[0].name: another container"}},
		"no image":           {change("    image: example.org/web:1\n", ""), []string{"line 7: spec.containers[0].image: is required"}},
		"bad image":          {change("example.org/web:1", "Example.org/Web:1"), []string{"line 8: spec.containers[0].image", "lowercase"}},
		"bad tag":            {change("example.org/web:1", "'example.org/web:'"), []string{"line 8: spec.containers[0].image"}},
		"bad image of init":  {pod + "  initContainers: [{name: a, image: '-'}]\n", []string{"line 12: spec.initContainers[0].image"}},
		"bad image volume":   {pod + "  volumes: [{name: a, image: {reference: A}}]\n", []string{"line 12: spec.volumes[0].image.reference"}},
		"restart policy":     {pod + "  restartPolicy: Sometimes\n", []string{"line 12: spec.restartPolicy", "Sometimes", "OnFailure"}},
		"undeclared volume":  {pod + "    volumeMounts: [{name: scratch, mountPath: /s}]\n", []string{"line 12: spec.containers[0].volumeMounts[0]", `"scratch"`, "spec.volumes"}},
		"undeclared, of init": {
			pod + "  initContainers:\n  - name: a\n    image: x\n    volumeMounts:\n    - {name: sciencedata, mountPath: /d}\n    - {name: b, mountPath: /s}\n",
			[]string{"line 17: spec.initContainers[0].volumeMounts[1]", `"b"`},
		},
		"path of no claim":    {pod + "    volumeMounts: [{name: local, mountPath: /My Files}]\n", []string{"line 12", `"/My Files"`, "local-claim--My Files"}},
		"path of root":        {pod + "    volumeMounts: [{name: local, mountPath: /}]\n", []string{"line 12", `"local-claim-"`}},
		"path that is long":   {pod + "    volumeMounts: [{name: local, mountPath: /" + strings.Repeat("a", 300) + "}]\n", []string{"line 12", "253"}},
		"a user's storage":    {pod + "  volumes:\n  - name: a\n    persistentVolumeClaim: {claimName: user-storage-bob}\n", []string{"line 14: spec.volumes[0].persistentVolumeClaim.claimName", "sciencedata"}},
		"token key":           {change("  name: web\n", "  name: web\n  annotations:\n    sciencedata.dk/copy-token: a,../b\n"), []string{"line 6: metadata.annotations[sciencedata.dk/copy-token]", `"../b"`}},
		"several at once":     {change("image:", "imagee:") + "  foo: 1\n", []string{"line 8", "line 12"}},
		"more than it lists":  {pod + strings.Repeat("  - {}\n", 20), []string{"line 12", "and 30 more"}},
		"too large":           {pod + strings.Repeat("#", render.MaxManifest), []string{"262144"}},
		"too many values":     {pod + "  x: " + strings.Repeat("[", 9000), nil},
		"nested too deeply":   {change("containers:", "affinity: "+strings.Repeat("[", 200)+strings.Repeat("]", 200)+"\n  containers:"), []string{"line 6: spec.affinity: must be a mapping"}},
		"very many items":     {pod + "  tolerations: [" + strings.Repeat("{},", 25000) + "]\n", []string{"line 12", "too large"}},
		"aliases of aliases":  {bomb(), []string{"too large"}},
		"one long text often": {longText(), []string{"too large"}},
		"alias of itself":     {pod + "  tolerations: &a [*a]\n", []string{"line 12", "a list"}},
		"unknown alias":       {pod + "  hostname: *a\n", []string{"unknown anchor"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			got, err := render.Parse([]byte(tc.manifest))
			wantFault(t, err, render.ReasonManifestInvalid, tc.want...)

			if got != nil {
				t.Error("there is a pod nevertheless")
			}

			if len(err.Error()) > 5000 {
				t.Errorf("message of %d bytes", len(err.Error()))
			}
		})
	}
}

// bomb is a small document that unfolds to 10^5 variables.
func bomb() string {
	var text strings.Builder

	text.WriteString("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n")
	text.WriteString("  - {name: c, image: x, env: &e [" + strings.Repeat("{name: A, value: x},", 300) + "]}\n")

	for i := range 300 {
		fmt.Fprintf(&text, "  - {name: c%d, image: x, env: *e}\n", i)
	}

	return text.String()
}

func longText() string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n  containers:\n  - name: c\n    image: x\n    env:\n" +
		"    - {name: A, value: &v " + strings.Repeat("x", 200_000) + "}\n" +
		strings.Repeat("    - {name: A, value: *v}\n", 10)
}

func TestParseAccepts(t *testing.T) {
	t.Parallel()

	const spec = "spec: {containers: [{name: web, image: LOCALREGISTRY/web}]}"

	tests := map[string]string{
		"JSON":                   `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":"a","image":"b"}]}}`,
		"separators and a BOM":   "\ufeff---\napiVersion: v1\nkind: Pod\nmetadata: {name: x}\n" + spec + "\n---\n# the end\n",
		"nothing where it may":   "apiVersion: v1\nkind: Pod\nmetadata: {name: x, labels: , annotations: null}\n" + spec,
		"status of another time": "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nstatus: {future: [1, {}]}\n" + spec,
	}
	for name, manifest := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			pod, err := render.Parse([]byte(manifest))
			if err != nil {
				t.Fatal(err)
			}

			if diff := cmp.Diff(corev1.PodStatus{}, pod.Status); pod.Name != "x" || diff != "" {
				t.Errorf("name %q, status:\n%s", pod.Name, diff)
			}
		})
	}
}

// TestParseReadsAsKubernetesDoes compares with the decoder of Kubernetes.
func TestParseReadsAsKubernetesDoes(t *testing.T) {
	t.Parallel()

	for _, input := range goldens(t) {
		t.Run(input.name, func(t *testing.T) {
			t.Parallel()

			got, err := render.Parse(input.manifest)
			if err != nil {
				t.Fatal(err)
			}

			if diff := cmp.Diff(kubernetes(t, input.manifest), got); diff != "" {
				t.Errorf("(-Kubernetes +Parse):\n%s", diff)
			}
		})
	}
}

// kubernetes decodes a manifest as Kubernetes does, without what Parse drops.
func kubernetes(tb testing.TB, manifest []byte) *corev1.Pod {
	tb.Helper()

	var pod corev1.Pod
	if err := yaml.Unmarshal(manifest, &pod); err != nil {
		tb.Fatal(err)
	}

	return dropped(&pod)
}

func dropped(pod *corev1.Pod) *corev1.Pod {
	meta := &pod.ObjectMeta
	pod.Status = corev1.PodStatus{}
	meta.Namespace, meta.UID, meta.ResourceVersion, meta.Generation = "", "", "", 0
	meta.DeletionTimestamp, meta.DeletionGracePeriodSeconds, meta.ManagedFields = nil, nil, nil
	meta.CreationTimestamp.Reset()

	return pod
}
