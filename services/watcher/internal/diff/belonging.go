package diff

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/events"
	"berth/pkg/kube"
)

// The kinds of what belongs to a pod, as [events.Object] has them.
const (
	kindService = "Service"
	kindIngress = "Ingress"
)

// Belongings are the services and the ingress of one life of a pod.
type Belongings struct {
	Objects []events.Object
	// HTTP says that there is an ingress.
	HTTP bool
	// SSHPort is the node port of the ssh service, 0 for none.
	SSHPort int
}

// BelongingsOf picks from services and ingresses those of a pod: they name it, they
// are of its life where they say of which, and of its user where they say whose.
// Those of the old backend name the pod alone.
func BelongingsOf(name string, pod Pod, services []corev1.Service, ingresses []networkingv1.Ingress) Belongings {
	var b Belongings
	for i := range services {
		s := &services[i]
		if !belongs(s, name, pod) {
			continue
		}
		b.Objects = append(b.Objects, events.Object{Kind: kindService, Name: s.Name, UID: string(s.UID)})
		if s.Name == name+kube.SuffixSSH {
			b.SSHPort = nodePort(s)
		}
	}
	for i := range ingresses {
		if o := &ingresses[i]; belongs(o, name, pod) {
			b.Objects = append(b.Objects, events.Object{Kind: kindIngress, Name: o.Name, UID: string(o.UID)})
			b.HTTP = true
		}
	}
	slices.SortFunc(b.Objects, func(x, y events.Object) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Name, y.Name))
	})
	return b
}

func belongs(obj metav1.Object, name string, pod Pod) bool {
	of, generation, ok := kube.BelongsTo(obj)
	user := obj.GetAnnotations()[kube.AnnotationUser]
	return ok && of == name && (generation == "" || generation == pod.Generation) && (user == "" || user == pod.User)
}

// nodePort is the node port to the ssh port of a service, 0 for none.
func nodePort(s *corev1.Service) int {
	for _, p := range s.Spec.Ports {
		if p.Port == kube.SSHPort {
			return int(p.NodePort)
		}
	}
	return 0
}
