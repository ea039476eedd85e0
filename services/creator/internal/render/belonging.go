package render

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth/pkg/kube"
)

// Belongings are the objects that belong to a pod and end with it.
type Belongings struct {
	Services []*corev1.Service
	// Ingress is nil for a pod that asks for none, or where the site has no domain.
	Ingress *networkingv1.Ingress
	// SSHUser is whom to log in as over the ssh service, empty without one.
	SSHUser string
}

// BelongingsOf returns what belongs to a user's pod that Stamp has marked: a service
// for ssh if a container has the port, a service and an ingress for the port that
// the pod's annotation names. They belong to the same life as the pod; Own adds its
// UID once it is known.
//
// An annotation that names no port asks for nothing; Pod has warned of it.
func BelongingsOf(pod *corev1.Pod, user string, site Site) Belongings {
	var all Belongings

	if all.SSHUser = kube.SSHUser(pod); all.SSHUser != "" {
		all.Services = append(all.Services, service(pod, user, kube.SuffixSSH, corev1.ServiceTypeNodePort, "ssh", kube.SSHPort))
	}

	port, err := kube.IngressPort(pod.Annotations)
	if err != nil || port == 0 || site.IngressDomain == "" {
		return all
	}

	all.Services = append(all.Services, service(pod, user, kube.SuffixHTTP, corev1.ServiceTypeClusterIP, "http", port))
	all.Ingress = ingress(pod, user, port, site)

	return all
}

// ingressWarnings says why a pod that asks for an ingress gets none.
func ingressWarnings(pod *corev1.Pod, site Site) []string {
	switch port, err := kube.IngressPort(pod.Annotations); {
	case err != nil:
		return []string{err.Error() + "; no ingress is made"}
	case port != 0 && site.IngressDomain == "":
		return []string{"annotation " + kube.AnnotationIngressPort + " is ignored: this site has no domain for its pods (ingressDomain)"}
	default:
		return nil
	}
}

// Own makes a pod the owner of all that belongs to it: when the pod is no more, the
// cluster removes them, whatever has become of Berth.
func (b Belongings) Own(pod *corev1.Pod, uid string) {
	owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: types.UID(uid)}}

	for _, s := range b.Services {
		s.OwnerReferences = owner
	}

	if b.Ingress != nil {
		b.Ingress.OwnerReferences = owner
	}
}

// belonging is the metadata of an object that belongs to a pod. Some annotations
// may be the site's; Berth's win.
func belonging(pod *corev1.Pod, user, suffix string, annotations map[string]string) metav1.ObjectMeta {
	all := make(map[string]string, len(annotations)+3)
	maps.Copy(all, annotations)

	all[kube.AnnotationUser] = user
	meta := metav1.ObjectMeta{
		Name: pod.Name + suffix, Namespace: pod.Namespace, Labels: kube.BelongingLabels(pod.Name, user), Annotations: all,
	}
	meta.Annotations[kube.AnnotationCommand], meta.Annotations[kube.AnnotationGeneration] = kube.Life(pod)

	return meta
}

func service(pod *corev1.Pod, user, suffix string, kind corev1.ServiceType, name string, port int32) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: belonging(pod, user, suffix, nil),
		Spec: corev1.ServiceSpec{
			Type: kind,
			// The name alone is the pod's own; the others keep a pod out that somebody has
			// given the label by mistake.
			Selector: kube.Labels(pod.Name, user),
			Ports:    []corev1.ServicePort{{Name: name, Protocol: corev1.ProtocolTCP, Port: port, TargetPort: intstr.FromInt32(port)}},
		},
	}
}

func ingress(pod *corev1.Pod, user string, port int32, site Site) *networkingv1.Ingress {
	host := fmt.Sprintf("%s.%s", pod.Name, site.IngressDomain)
	prefix := networkingv1.PathTypePrefix
	made := &networkingv1.Ingress{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "Ingress"},
		ObjectMeta: belonging(pod, user, kube.SuffixIngress, site.IngressAnnotations),
		Spec: networkingv1.IngressSpec{
			TLS: []networkingv1.IngressTLS{{Hosts: []string{host}, SecretName: site.IngressWildcardSecret}},
			Rules: []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{
				HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
					Path: "/", PathType: &prefix,
					Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
						Name: pod.Name + kube.SuffixHTTP, Port: networkingv1.ServiceBackendPort{Number: port},
					}},
				}}},
			}}},
		},
	}

	if class := site.IngressClass; class != "" {
		made.Spec.IngressClassName = &class
	}

	return made
}
