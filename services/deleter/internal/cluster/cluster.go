// Package cluster removes the objects of a pod from Kubernetes.
package cluster

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"berth/pkg/kube"
)

// Cluster removes pods from one namespace. It is safe for concurrent use.
type Cluster struct {
	client    kubernetes.Interface
	namespace string
}

// New returns a Cluster that removes pods from a namespace.
func New(client kubernetes.Interface, namespace string) *Cluster {
	return &Cluster{client: client, namespace: namespace}
}

// Find returns the UID of the pod of that name if it was made for the
// generation, else the empty text: nothing of that name, or somebody else's.
func (c *Cluster) Find(ctx context.Context, name, generation string) (uid string, err error) {
	pod, err := c.client.CoreV1().Pods(c.namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("get pod: %w", err)
	}
	if _, g := kube.Life(pod); g != generation {
		return "", nil
	}
	return string(pod.UID), nil
}

// Delete asks for the removal of the pod with a UID, and of no other of that
// name. It returns true when there is no such pod (any more), false when the pod
// is being terminated.
func (c *Cluster) Delete(ctx context.Context, name, uid string) (vanished bool, err error) {
	id := types.UID(uid)
	err = c.client.CoreV1().Pods(c.namespace).Delete(ctx, name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &id},
	})
	switch {
	case err == nil:
		return false, nil
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		// A conflict is the API server's word for another UID; see Preconditions in
		// https://kubernetes.io/docs/reference/using-api/api-concepts/.
		return true, nil
	default:
		return false, fmt.Errorf("delete pod: %w", err)
	}
}
