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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

		// By way of JSON, as the API server's own: yaml.Unmarshal would make "true" of it.
		var pod corev1.Pod
		if converted, err := yaml.YAMLToJSON(manifest); err != nil || json.Unmarshal(converted, &pod) != nil {
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

	for _, spec := range []string{
		`containers: [{name: web, image: x, volumeMounts: [{name: sciencedata, mountPath: /d}, {name: local, mountPath: /a/b}], ports: [{containerPort: 22}]}]`,
		`containers: [{name: web, image: x, volumeMounts: [{name: v, mountPath: /d}]}], volumes: [{name: v, persistentVolumeClaim: {claimName: user-storage-bob}}]`,
	} {
		text := `{metadata: {name: x, annotations: {sciencedata.dk/ingress-port: "80", sciencedata.dk/copy-token: "a,b"}}, apiVersion: v1, kind: Pod, spec: {` + spec + `}}`
		f.Add([]byte(text), "a.b@c.d", "web", "USERNAME", "value", "10.2.0.1", "")
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
			Site: render.Site{NFSStorageRoot: "/tank", IngressDomain: "pods.example.org", IngressWildcardSecret: "tls"},
		}

		pod, warnings, err := render.Pod(manifest, request)
		if err != nil {
			checkError(t, err)

			return
		}

		checkPod(t, pod, request)
		checkObjects(t, pod, request)

		same, sameWarnings, err := render.Pod(manifest, request)
		if err != nil || !reflect.DeepEqual(same, pod) || !reflect.DeepEqual(sameWarnings, warnings) {
			t.Errorf("rendering the same (%v):\n%s", err, cmp.Diff(pod, same))
		}

		again, _, err := render.Pod(pod, request)
		if err != nil || !reflect.DeepEqual(again, pod) {
			t.Errorf("rendering the result (%v):\n%s", err, cmp.Diff(pod, again))
		}
	})
}

// checkObjects checks what is made with a pod by Kubernetes' own rules for names,
// labels and annotations, and that each mount has a volume.
func checkObjects(t *testing.T, pod *corev1.Pod, request render.Request) {
	t.Helper()

	storage, err := render.StorageOf(pod, request.User, request.Namespace, request.Site)
	if err != nil {
		t.Fatalf("StorageOf: %v", err)
	}

	var all []metav1.Object
	if storage.Name != "" {
		all = append(all, storage.Volume(), storage.Claim())
	}

	belongings := render.BelongingsOf(pod, request.User, request.Site)
	for _, service := range belongings.Services {
		all = append(all, service)

		for _, faults := range [][]string{validation.IsValidPortNum(int(service.Spec.Ports[0].Port)), validation.IsValidPortName(service.Spec.Ports[0].Name)} {
			if len(faults) > 0 {
				t.Errorf("port of %s: %v", service.Name, faults)
			}
		}
	}

	if belongings.Ingress != nil {
		all = append(all, belongings.Ingress)

		if faults := validation.IsDNS1123Subdomain(belongings.Ingress.Spec.Rules[0].Host); len(faults) > 0 {
			t.Errorf("host: %v", faults)
		}
	}

	for _, object := range all {
		if faults := validation.IsDNS1123Label(object.GetName()); len(faults) > 0 {
			t.Errorf("name %q: %v", object.GetName(), faults)
		}

		faults := metav1validation.ValidateLabels(object.GetLabels(), nil)
		faults = append(faults, apivalidation.ValidateAnnotations(object.GetAnnotations(), nil)...)

		if len(faults) > 0 {
			t.Errorf("%s: %v", object.GetName(), faults)
		}
	}

	volumes := map[string]bool{}

	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		volumes[volume.Name] = true

		if claim := volume.PersistentVolumeClaim; claim != nil && kube.ReservedClaim(claim.ClaimName) && claim.ClaimName != storage.Name {
			t.Errorf("volume %s is claim %s", volume.Name, claim.ClaimName)
		}
	}

	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for _, mount := range list[i].VolumeMounts {
				if !volumes[mount.Name] {
					t.Errorf("mount %q has no volume", mount.Name)
				}
			}
		}
	}
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
