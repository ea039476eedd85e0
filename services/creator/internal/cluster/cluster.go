// Package cluster makes the objects of a pod in Kubernetes.
package cluster

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"berth/pkg/kube"
)

// ErrOccupied is returned when an object of the name exists that belongs to
// another command or generation. It is never adopted.
var ErrOccupied = errors.New("an object of this name exists that is not this pod's")

// RejectedError is the API server's refusal of a pod that no repetition mends.
type RejectedError struct {
	// Reason is kube.ReasonPodRejected or kube.ReasonQuotaExceeded.
	Reason string
	// Message is the API server's own.
	Message string
}

// Error returns the API server's message.
func (e *RejectedError) Error() string { return e.Message }

// Cluster makes pods in one namespace. It is safe for concurrent use.
type Cluster struct {
	client    kubernetes.Interface
	namespace string
}

// New returns a Cluster that makes pods in a namespace.
func New(client kubernetes.Interface, namespace string) *Cluster {
	return &Cluster{client: client, namespace: namespace}
}

// Launch makes the pod, or finds the one that an earlier attempt of the same
// command made, and returns its UID. It returns [ErrOccupied], a
// [*RejectedError], or an error that may pass.
func (c *Cluster) Launch(ctx context.Context, pod *corev1.Pod) (uid string, err error) {
	pods := c.client.CoreV1().Pods(c.namespace)
	made, err := pods.Create(ctx, pod, metav1.CreateOptions{})
	if err == nil {
		return string(made.UID), nil
	}
	rejection := kube.Reject(err)
	switch {
	case rejection.Permanent:
		return "", &RejectedError{Reason: rejection.Reason, Message: rejection.Message}
	case !rejection.Exists:
		return "", fmt.Errorf("create pod: %w", err)
	}
	found, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", fmt.Errorf("%w; it went away meanwhile", ErrOccupied)
	}
	if err != nil {
		return "", fmt.Errorf("get pod: %w", err)
	}
	if kube.SameLife(found, pod) {
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
