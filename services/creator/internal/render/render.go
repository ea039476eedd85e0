// Package render makes the pod that a user asked for out of a manifest, and the
// objects around it: volume and claim of the user's storage, services and ingress. It
// is pure: the same manifest and request give the same bytes.
package render

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/kube"
)

// MaxPod is the largest pod that is made, in bytes of JSON: it has to fit into
// one message of the broker, with something to spare.
const MaxPod = 512 << 10

// Request says what a pod is to be made of besides its manifest.
type Request struct {
	// Name is the pod's name, as kube.Name made it and the log granted it.
	Name      string
	Namespace string
	// User is the full user id.
	User string
	// Command is the id of the create command.
	Command string

	// Silo is the name of the silo that asked.
	Silo string
	// SiloAddress is its address in the data network, SiloHostName its host name
	// or empty if unknown.
	SiloAddress  string
	SiloHostName string

	// Settings are variables by the name of their container.
	Settings map[string]map[string]string

	// DefaultRestartPolicy is used where the manifest has none.
	DefaultRestartPolicy corev1.RestartPolicy
	// LocalRegistryURL is what LOCALREGISTRY means in an image reference, and
	// LocalRegistrySecret the pull secret that goes with it; both may be empty.
	LocalRegistryURL    string
	LocalRegistrySecret string

	// Site is where the pod will be; what of it is missing may refuse the pod.
	Site Site
}

// Site is what the objects around a pod are made of, besides the pod.
type Site struct {
	// NFSStorageRoot is the folder on the silos that holds the users' storage; empty
	// where the site has none.
	NFSStorageRoot string
	// IngressDomain is the domain below which pods get their host names, empty for no
	// ingresses; IngressWildcardSecret is its TLS secret, empty for the ingress
	// controller's own.
	IngressDomain         string
	IngressWildcardSecret string
	// IngressClass is the class of the ingresses, empty for the cluster's default one,
	// and IngressAnnotations are added to each.
	IngressClass       string
	IngressAnnotations map[string]string
}

// Pod makes a pod by the rules of the silo API: settings and mandatory variables
// in every container and init container, the restart policy, the site's registry,
// the volumes that are mounted and not declared, the name, labels and annotations. The manifest's own labels and annotations
// stay, but those that Berth sets win, and no manifest can set an annotation that
// is Berth's, or labels by which a pod is taken for a project's.
//
// The result is complete but for what Stamp adds. warnings say what of the
// request or the manifest was ignored; they name variables but quote no values. The error is an
// *Error. manifest, which Parse made, and request are not modified; Pod is safe
// for concurrent use.
func Pod(manifest *corev1.Pod, request Request) (pod *corev1.Pod, warnings []string, err error) {
	if err := checkSettings(request.Settings); err != nil {
		return nil, nil, err
	}

	marks, warnings := labels(manifest, request)
	pod = &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name:        request.Name,
			Namespace:   request.Namespace,
			Labels:      marks,
			Annotations: annotations(manifest, request),
		},
		Spec: *manifest.Spec.DeepCopy(),
	}

	if pod.Spec.RestartPolicy == "" {
		pod.Spec.RestartPolicy = request.DefaultRestartPolicy
	}

	if err := images(pod, request); err != nil {
		return nil, nil, err
	}

	mounts, err := volumes(pod, request)
	if err != nil {
		return nil, nil, err
	}

	warnings = slices.Concat(warnings, environment(pod, request), mounts, ingressWarnings(pod, request.Site))

	text, err := json.Marshal(pod)
	if err != nil {
		return nil, nil, fmt.Errorf("encode pod: %w", err)
	}

	if len(text) > MaxPod {
		message := fmt.Sprintf("the pod has %d bytes with its settings, more than %d", len(text), MaxPod)

		return nil, nil, &Error{Reason: ReasonManifestInvalid, Message: message}
	}

	return pod, warnings, nil
}

// labels are those of the pod, with a warning for each that would make a project of it.
func labels(manifest *corev1.Pod, request Request) (all map[string]string, warnings []string) {
	all = kube.Labels(request.Name, request.User)

	for _, key := range slices.Sorted(maps.Keys(manifest.Labels)) {
		value := manifest.Labels[key]

		if kube.MarksProject(key, value) {
			warnings = append(warnings, "the label "+key+" of the manifest is ignored: it marks the pods of projects")

			continue
		}

		if _, ours := all[key]; !ours {
			all[key] = value
		}
	}

	return all, warnings
}

func annotations(manifest *corev1.Pod, request Request) map[string]string {
	all := map[string]string{
		kube.AnnotationUser:    request.User,
		kube.AnnotationSilo:    request.Silo,
		kube.AnnotationCommand: request.Command,
	}
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })

	for key, value := range manifest.Annotations {
		if !strings.HasPrefix(key, kube.AnnotationPrefix) {
			all[key] = value
		}
	}

	return all
}

// Stamp writes into a pod that is about to be launched which command made it and
// which generation of its name it is. By these two a pod is known again.
func Stamp(pod *corev1.Pod, command, generation string) {
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, kube.AnnotationCommand, command)
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, kube.AnnotationGeneration, generation)
}
