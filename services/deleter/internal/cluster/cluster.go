// Package cluster removes from Kubernetes the objects of pods and of the users'
// storage. Whatever it removes it removes by UID, and nothing that is not Berth's or
// the old backend's by its labels and its name.
package cluster

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"berth/pkg/kube"
	"berth/services/deleter/internal/reap"
)

// Cluster removes pods and what belongs to them from one namespace. It is safe for
// concurrent use.
type Cluster struct {
	client    kubernetes.Interface
	namespace string
}

// New returns a Cluster that removes the pods of a namespace.
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

// Exists says whether the pod of that name with a UID is in the cluster.
func (c *Cluster) Exists(ctx context.Context, name, uid string) (bool, error) {
	pod, err := c.client.CoreV1().Pods(c.namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("get pod: %w", err)
	}
	return string(pod.UID) == uid, nil
}

// Delete asks for the removal of the pod with a UID, and of no other of that
// name. It returns true when there is no such pod (any more), false when the pod
// is being terminated.
func (c *Cluster) Delete(ctx context.Context, name, uid string) (vanished bool, err error) {
	err = c.client.CoreV1().Pods(c.namespace).Delete(ctx, name, *precondition(uid))
	switch {
	case err == nil:
		return false, nil
	case absent(err):
		return true, nil
	default:
		return false, fmt.Errorf("delete pod: %w", err)
	}
}

// Remove asks for the removal of a service, an ingress, a claim or a volume. It
// returns true when it is not there (any more), false when something keeps it for a
// while: a finalizer.
func (c *Cluster) Remove(ctx context.Context, o reap.Object) (vanished bool, err error) {
	request, err := c.request(o.Kind)
	if err != nil {
		return false, err
	}
	// The typed clients throw the answer away, which says whether it is gone.
	answer, err := request.Name(o.Name).Body(precondition(o.UID)).Do(ctx).Get()
	switch {
	case err == nil:
		return !kept(answer), nil
	case absent(err):
		return true, nil
	default:
		return false, fmt.Errorf("delete %s %s: %w", o.Kind, o.Name, err)
	}
}

// request begins a DELETE of an object of a kind.
func (c *Cluster) request(kind string) (*rest.Request, error) {
	core := c.client.CoreV1().RESTClient()
	switch kind {
	case reap.KindService:
		return core.Delete().Namespace(c.namespace).Resource("services"), nil
	case reap.KindIngress:
		return c.client.NetworkingV1().RESTClient().Delete().Namespace(c.namespace).Resource("ingresses"), nil
	case reap.KindClaim:
		return core.Delete().Namespace(c.namespace).Resource("persistentvolumeclaims"), nil
	case reap.KindVolume:
		return core.Delete().Resource("persistentvolumes"), nil
	}
	return nil, fmt.Errorf("delete %q: it is of no kind that Berth removes", kind)
}

func precondition(uid string) *metav1.DeleteOptions {
	id := types.UID(uid)
	return &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &id}}
}

// absent says that an object with a UID is not there. A conflict is the API server's
// word for another UID; see Preconditions in
// https://kubernetes.io/docs/reference/using-api/api-concepts/.
func absent(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }

// kept says that what a DELETE answers is an object that stays until its finalizers
// have been carried out. Else it is a status, or the object as it was at its end.
func kept(answer runtime.Object) bool {
	object, err := meta.Accessor(answer)
	return err == nil && len(object.GetFinalizers()) > 0
}

// Belonging returns the services and the ingress that have the names of those of a
// pod and say that they are a pod's of that name, of whatever life.
func (c *Cluster) Belonging(ctx context.Context, pod string) ([]reap.Object, error) {
	var found []reap.Object
	for _, suffix := range []string{kube.SuffixHTTP, kube.SuffixSSH} {
		s, err := c.client.CoreV1().Services(c.namespace).Get(ctx, pod+suffix, metav1.GetOptions{})
		if err := take(&found, reap.KindService, pod, s, err); err != nil {
			return nil, err
		}
	}
	i, err := c.client.NetworkingV1().Ingresses(c.namespace).Get(ctx, pod+kube.SuffixIngress, metav1.GetOptions{})
	if err := take(&found, reap.KindIngress, pod, i, err); err != nil {
		return nil, err
	}
	return found, nil
}

// take adds what a GET has found, if it belongs to a pod of that name.
func take(found *[]reap.Object, kind, pod string, obj metav1.Object, err error) error {
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("get %s: %w", kind, err)
	}
	if o, ok := belonging(kind, obj); ok && o.Pod == pod {
		*found = append(*found, o)
	}
	return nil
}

// Storage returns the claim and the volume of a user under a name; none of those
// that are another user's, or nobody's.
func (c *Cluster) Storage(ctx context.Context, user, name string) ([]reap.Object, error) {
	var claim *corev1.PersistentVolumeClaim
	var volume *corev1.PersistentVolume
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		claim, err = c.client.CoreV1().PersistentVolumeClaims(c.namespace).Get(groupCtx, name, metav1.GetOptions{})
		return there(&claim, err, "get claim")
	})
	group.Go(func() (err error) {
		volume, err = c.client.CoreV1().PersistentVolumes().Get(groupCtx, name, metav1.GetOptions{})
		return there(&volume, err, "get volume")
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var found []reap.Object
	if claim != nil {
		if o, ok := storage(reap.KindClaim, claim); ok && o.User == user {
			found = append(found, o)
		}
	}
	if volume != nil {
		if o, ok := c.volume(volume); ok && o.User == user {
			found = append(found, o)
		}
	}
	return found, nil
}

// there makes nil of an object that a GET has not found: clients return an empty one.
func there[T any](object **T, err error, what string) error {
	if err == nil {
		return nil
	}
	*object = nil
	if apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// belonging reads a service or an ingress of a pod's.
func belonging(kind string, obj metav1.Object) (reap.Object, bool) {
	pod, generation, ok := kube.BelongsTo(obj)
	o := object(kind, obj)
	o.Pod, o.Generation, o.User = pod, generation, obj.GetAnnotations()[kube.AnnotationUser]
	return o, ok
}

// storage reads a claim or a volume of a user's storage.
func storage(kind string, obj metav1.Object) (reap.Object, bool) {
	user, ok := kube.StorageOwner(obj)
	o := object(kind, obj)
	o.User = user
	return o, ok
}

// volume reads a volume of a user's storage in this namespace: volumes belong to no
// namespace, so the claim that it is for says whose it is.
func (c *Cluster) volume(v *corev1.PersistentVolume) (reap.Object, bool) {
	o, ok := storage(reap.KindVolume, v)
	ref := v.Spec.ClaimRef
	o.Useless = v.Status.Phase == corev1.VolumeReleased || v.Status.Phase == corev1.VolumeFailed
	return o, ok && ref != nil && ref.Namespace == c.namespace && ref.Name == v.Name
}

func object(kind string, obj metav1.Object) reap.Object {
	return reap.Object{
		Kind: kind, Name: obj.GetName(), UID: string(obj.GetUID()), Created: obj.GetCreationTimestamp().Time,
		Terminating: obj.GetDeletionTimestamp() != nil,
	}
}
