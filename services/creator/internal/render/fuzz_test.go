package render_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"berth/pkg/kube"
	"berth/services/creator/internal/render"
)

// FuzzParse compares with the decoder of Kubernetes: what Parse accepts means the
// same there.
func FuzzParse(f *testing.F) {
	for _, input := range goldens(f) {
		f.Add(input.manifest)
	}

	f.Fuzz(func(t *testing.T, manifest []byte) {
		got, err := render.Parse(manifest)
		if err != nil {
			checkError(t, err)

			return
		}

		var pod corev1.Pod
		if yaml.Unmarshal(manifest, &pod) != nil {
			return // Text that YAML 1.1 calls a truth value is text here.
		}

		if want := dropped(&pod); !equality.Semantic.DeepEqual(want, got) {
			t.Errorf("(-Kubernetes +Parse):\n%s", cmp.Diff(want, got))
		}
	})
}

// FuzzRender checks that whatever Pod makes has names and labels that Kubernetes
// takes, that it is the same every time, and that it can be rendered again.
func FuzzRender(f *testing.F) {
	for _, input := range goldens(f) {
		f.Add(input.manifest, input.request.User, "web", "A_B", "value", "silo.example.org", "registry.example.org:5000")
	}

	f.Fuzz(func(t *testing.T, text []byte, user, container, variable, value, host, registry string) {
		manifest, err := render.Parse(text)
		if err != nil {
			checkError(t, err)

			return
		}

		if strings.Contains(registry, "LOCALREGISTRY") {
			return // Names itself, so rendering again changes the image.
		}

		request := render.Request{
			Name: kube.Name(manifest.Name, user, 0), Namespace: "n", User: user, Command: "c", Silo: host,
			SiloAddress: host, SiloHostName: host, DefaultRestartPolicy: corev1.RestartPolicyNever,
			Settings:         map[string]map[string]string{container: {variable: value, "SD_UID": value}},
			LocalRegistryURL: registry, LocalRegistrySecret: "s",
		}

		pod, warnings, err := render.Pod(manifest, request)
		if err != nil {
			checkError(t, err)

			return
		}

		checkPod(t, pod, request)

		again, warningsAgain, err := render.Pod(pod, request)
		if err != nil || !reflect.DeepEqual(again, pod) || !reflect.DeepEqual(warningsAgain, warnings) {
			t.Errorf("rendering again (%v):\n%s", err, cmp.Diff(pod, again))
		}
	})
}

func checkError(t *testing.T, err error) {
	t.Helper()

	var fault *render.Error
	if !errors.As(err, &fault) || fault.Reason == "" || fault.Message == "" || !utf8.ValidString(fault.Message) {
		t.Errorf("error %#v", err)
	}
}

func checkPod(t *testing.T, pod *corev1.Pod, request render.Request) {
	t.Helper()

	faults := metav1validation.ValidateLabels(pod.Labels, nil)
	if len(faults) > 0 {
		t.Errorf("labels: %v", faults)
	}

	for _, suffix := range []string{kube.SuffixHTTP, kube.SuffixSSH, kube.SuffixIngress} {
		if faults := validation.IsDNS1123Label(pod.Name + suffix); len(faults) > 0 {
			t.Errorf("name %q: %v", pod.Name+suffix, faults)
		}
	}

	if faults := apivalidation.ValidateAnnotations(pod.Annotations, nil); len(faults) > 0 {
		t.Errorf("annotations: %v", faults)
	}

	if pod.Annotations[kube.AnnotationUser] != request.User || pod.Labels[kube.LabelPodName] != pod.Name {
		t.Errorf("owner %q, label %q", pod.Annotations[kube.AnnotationUser], pod.Labels[kube.LabelPodName])
	}

	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, container := range list {
			if got := variables(container.Env)["SD_UID"]; got.Value != request.User || got.ValueFrom != nil {
				t.Errorf("container %s has SD_UID %+v", container.Name, got)
			}
		}
	}

	if text, err := json.Marshal(pod); err != nil || len(text) > render.MaxPod {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

// variables returns the last of each name, which is the one that a node takes.
func variables(list []corev1.EnvVar) map[string]corev1.EnvVar {
	byName := map[string]corev1.EnvVar{}
	for _, variable := range list {
		byName[variable.Name] = variable
	}

	return byName
}

// TestSettingsAlwaysArrive draws variables and settings, and checks the result by
// what a node would make of it.
func TestSettingsAlwaysArrive(t *testing.T) {
	t.Parallel()

	names := []string{"A", "B", "C", "D", "SD_UID", "HOME_SERVER_IP", "HOME_SERVER_HOSTNAME"}
	random := rand.New(rand.NewPCG(1, 2))
	draw := func() string { return names[random.IntN(len(names))] }

	for range 2000 {
		manifest := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}}}
		container := &manifest.Spec.Containers[0]

		for range random.IntN(6) {
			container.Env = append(container.Env, corev1.EnvVar{Name: draw(), Value: "manifest", ValueFrom: &corev1.EnvVarSource{}})
		}

		settings := map[string]string{}
		for range random.IntN(6) {
			settings[draw()] = "setting"
		}

		request := render.Request{
			User: "alice", SiloAddress: "10.2.0.1", SiloHostName: []string{"", "silo"}[random.IntN(2)],
			Settings: map[string]map[string]string{"web": settings},
		}

		pod, _, err := render.Pod(manifest, request)
		if err != nil {
			t.Fatal(err)
		}

		want := variables(container.Env)
		for name, value := range settings {
			want[name] = corev1.EnvVar{Name: name, Value: value}
		}

		if request.SiloHostName != "" {
			want["HOME_SERVER_HOSTNAME"] = corev1.EnvVar{Name: "HOME_SERVER_HOSTNAME", Value: "silo"}
		} else if hostName, ok := variables(container.Env)["HOME_SERVER_HOSTNAME"]; ok {
			want["HOME_SERVER_HOSTNAME"] = hostName
		} else {
			delete(want, "HOME_SERVER_HOSTNAME")
		}

		want["SD_UID"] = corev1.EnvVar{Name: "SD_UID", Value: "alice"}
		want["HOME_SERVER_IP"] = corev1.EnvVar{Name: "HOME_SERVER_IP", Value: "10.2.0.1"}

		if diff := cmp.Diff(want, variables(pod.Spec.Containers[0].Env)); diff != "" {
			t.Fatalf("%v with %v (-want +got):\n%s", container.Env, settings, diff)
		}
	}
}

// TestDecoderKnowsEveryKind walks all that a Pod can hold, so that a new version
// of Kubernetes cannot bring a field that no manifest can set.
func TestDecoderKnowsEveryKind(t *testing.T) {
	t.Parallel()

	unmarshaler := reflect.TypeFor[json.Unmarshaler]()
	seen := map[reflect.Type]bool{}

	var walk func(kind reflect.Type, path string)

	walk = func(kind reflect.Type, path string) {
		if seen[kind] || reflect.PointerTo(kind).Implements(unmarshaler) {
			return
		}

		seen[kind] = true

		switch kind.Kind() {
		case reflect.Struct:
			for field := range kind.Fields() {
				walk(field.Type, path+"."+field.Name)
			}
		case reflect.Map:
			if kind.Key().Kind() != reflect.String {
				t.Errorf("%s has keys of type %v", path, kind.Key())
			}

			walk(kind.Elem(), path+"[]")
		case reflect.Pointer, reflect.Slice:
			walk(kind.Elem(), path+"[]")
		case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64:
		default:
			t.Errorf("%s is a %v", path, kind.Kind())
		}
	}

	walk(reflect.TypeFor[corev1.PodSpec](), "spec")
	walk(reflect.TypeFor[corev1.Pod]().Field(1).Type, "metadata")
}
