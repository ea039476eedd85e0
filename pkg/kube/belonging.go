package kube

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Annotations by which a manifest asks for more than a pod. They are the old
// backend's.
const (
	// AnnotationIngressPort is the port that is served at the pod's host name.
	AnnotationIngressPort = "sciencedata.dk/ingress-port"
	// AnnotationCopyToken has the names of files in /tmp that are copied out of the
	// pod, separated by commas.
	AnnotationCopyToken = "sciencedata.dk/copy-token" //nolint:gosec // A name, no credential.
)

// SSHPort is the port of a container that makes Berth open a node port to it.
const SSHPort = 22

// BelongingLabels returns the labels of a service or an ingress of a user's pod.
func BelongingLabels(pod, user string) map[string]string {
	local, domain, _ := strings.Cut(user, "@")

	return map[string]string{
		LabelUser: LabelValue(local), LabelDomain: LabelValue(domain), LabelCreatedForPod: pod,
	}
}

// BelongsTo returns the name of the pod that a service or an ingress was made for,
// and the life of that pod as far as the object says it: objects of the old
// backend do not. ok is false for an object that is none of Berth's.
func BelongsTo(obj metav1.Object) (pod, generation string, ok bool) {
	pod = obj.GetLabels()[LabelCreatedForPod]
	if pod == "" || !strings.HasPrefix(obj.GetName(), pod+"-") {
		return "", "", false
	}

	switch strings.TrimPrefix(obj.GetName(), pod) {
	case SuffixHTTP, SuffixSSH, SuffixIngress:
		return pod, obj.GetAnnotations()[AnnotationGeneration], true
	default:
		return "", "", false
	}
}
