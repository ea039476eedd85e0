// Package cluster makes the objects of a pod in Kubernetes, and reads the files that
// a pod shows to its user.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"berth/pkg/events"
	"berth/pkg/kube"
	"berth/services/creator/internal/render"
)

// ErrOccupied is returned when an object of the name exists that belongs to
// another command or generation. It is never adopted.
var ErrOccupied = errors.New("an object of this name exists that is not this pod's")

// RejectedError is the API server's refusal of an object that no repetition mends.
type RejectedError struct {
	// Reason is kube.ReasonPodRejected, kube.ReasonQuotaExceeded, or
	// render.ReasonStorageFailed for a claim or a volume.
	Reason string
	// Object is the kind and the name of what was refused; empty for the pod itself.
	Object string
	// Message is the API server's own.
	Message string
	// Invalid is told by [Cluster.DryRun] alone: the object itself is wrong, whatever else the namespace has.
	Invalid bool
}

// Error returns the API server's message, and what it is about.
func (e *RejectedError) Error() string {
	if e.Object == "" {
		return e.Message
	}
	return e.Object + ": " + e.Message
}

// Cluster makes objects in one namespace. It is safe for concurrent use.
type Cluster struct {
	client    kubernetes.Interface
	namespace string
}

// New returns a Cluster that makes objects in a namespace.
func New(client kubernetes.Interface, namespace string) *Cluster {
	return &Cluster{client: client, namespace: namespace}
}

// creator is the part of client-go's clients that all kinds have.
type creator[T any] interface {
	Create(ctx context.Context, object T, options metav1.CreateOptions) (T, error)
	Get(ctx context.Context, name string, options metav1.GetOptions) (T, error)
}

// provide makes an object, or returns the one of this name that is there. title is
// its kind and name, for errors, empty for a pod; reason is that of a refusal. It
// returns a [*RejectedError], or an error that may pass.
func provide[T metav1.Object](ctx context.Context, api creator[T], object T, kind, title, reason string) (result T, existed bool, err error) {
	var none T
	made, err := api.Create(ctx, object, metav1.CreateOptions{})
	if err == nil {
		return made, false, nil
	}
	rejection := kube.Reject(err)
	switch {
	case rejection.Permanent && rejection.Reason != kube.ReasonPodRejected:
		return none, false, &RejectedError{Reason: rejection.Reason, Object: title, Message: rejection.Message}
	case rejection.Permanent:
		return none, false, &RejectedError{Reason: reason, Object: title, Message: rejection.Message}
	case !rejection.Exists:
		return none, false, fmt.Errorf("create %s: %w", kind, err)
	}
	found, err := api.Get(ctx, object.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return none, false, fmt.Errorf("%w; it went away meanwhile", ErrOccupied)
	}
	if err != nil {
		return none, false, fmt.Errorf("get %s: %w", kind, err)
	}
	return found, true, nil
}

// Launch makes the pod, or finds the one that an earlier attempt of the same
// command made, and returns its UID. It returns [ErrOccupied], a
// [*RejectedError], or an error that may pass.
func (c *Cluster) Launch(ctx context.Context, pod *corev1.Pod) (uid string, err error) {
	found, existed, err := provide(ctx, creator[*corev1.Pod](c.client.CoreV1().Pods(c.namespace)), pod, "pod", "", kube.ReasonPodRejected)
	if err != nil {
		return "", err
	}
	if !existed || kube.SameLife(found, pod) {
		return string(found.UID), nil
	}
	owner, owned := kube.Owner(found)
	want, _ := kube.Owner(pod)
	switch {
	case !owned:
		owner = "nobody known to Berth"
	case owner != want:
		owner = "somebody else" // Another user's id is nobody's business.
	}
	return "", fmt.Errorf("%w (it belongs to %s)", ErrOccupied, owner)
}

// Belong makes what belongs to a pod, all at once, or finds what an earlier attempt of
// the same command made. It returns the objects in the order of b, services first,
// and the node port of the ssh service, 0 without one. The errors are those of
// [Cluster.Launch]; some of the objects may have been made.
func (c *Cluster) Belong(ctx context.Context, b render.Belongings) (objects []events.Object, sshPort int, err error) {
	objects = make([]events.Object, len(b.Services), len(b.Services)+1)
	ports, errs := make([]int, len(b.Services)), make([]error, len(b.Services)+1)
	var group sync.WaitGroup
	for i, service := range b.Services {
		group.Go(func() {
			made, err := belong(ctx, c.client.CoreV1().Services(c.namespace), service, "service")
			if err != nil {
				errs[i] = err
				return
			}
			objects[i] = events.Object{Kind: "Service", Name: made.Name, UID: string(made.UID)}
			ports[i] = sshNodePort(made)
		})
	}
	var ingress []events.Object
	if b.Ingress != nil {
		group.Go(func() {
			made, err := belong(ctx, c.client.NetworkingV1().Ingresses(c.namespace), b.Ingress, "ingress")
			if err != nil {
				errs[len(b.Services)] = err
				return
			}
			ingress = []events.Object{{Kind: "Ingress", Name: made.Name, UID: string(made.UID)}}
		})
	}
	group.Wait()
	if err := worst(errs); err != nil {
		return nil, 0, err
	}
	for _, port := range ports {
		sshPort = max(sshPort, port)
	}
	return append(objects, ingress...), sshPort, nil
}

// worst returns the error that decides: one that nothing mends before one that may pass.
func worst(errs []error) error {
	for _, err := range errs {
		if rejected := (*RejectedError)(nil); errors.As(err, &rejected) {
			return err
		}
	}
	return errors.Join(errs...)
}

// belong makes an object of a pod's. One that is there must be of the same life and
// owned by the same pod: the cluster would remove what an earlier pod owns.
func belong[T metav1.Object](ctx context.Context, api creator[T], object T, kind string) (T, error) {
	title := kind + " " + object.GetName()
	found, existed, err := provide(ctx, api, object, title, title, kube.ReasonPodRejected)
	if err != nil || !existed {
		return found, err
	}
	if !kube.SameLife(found, object) || !sameOwner(found, object) || found.GetDeletionTimestamp() != nil {
		return found, fmt.Errorf("%w: %s", ErrOccupied, title)
	}
	return found, nil
}

func sameOwner(a, b metav1.Object) bool {
	x, y := a.GetOwnerReferences(), b.GetOwnerReferences()
	return len(x) == 1 && len(y) == 1 && x[0].UID == y[0].UID
}

// sshNodePort is the node port of a service for ssh, 0 for another service.
func sshNodePort(service *corev1.Service) int {
	if service.Spec.Type != corev1.ServiceTypeNodePort {
		return 0
	}
	for _, port := range service.Spec.Ports {
		if port.Port == kube.SSHPort {
			return int(port.NodePort)
		}
	}
	return 0
}
