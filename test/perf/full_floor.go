package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/remotecommand"
	watchtools "k8s.io/client-go/tools/watch"
)

// fullFloor makes the same objects as Berth for a full pod, straight through
// client-go: volume and claim, then, when the claim is bound, the pod, then service
// and ingress; and reads the token. It is safe for concurrent use.
type fullFloor struct {
	*floor
	config   *rest.Config
	token    string
	volume   string // Templates of user 0, in JSON.
	claim    string
	service  string
	ingress  string
	mu       sync.Mutex
	storages map[string]*storageLife // By name.
}

// storageLife is what the watches tell about one claim and its volume.
type storageLife struct {
	bound, claimGone, volumeGone chan struct{} // Closed by the watch of the kind alone.
	isBound                      bool
}

var _ side = (*fullFloor)(nil)

// open begins the watches that all lives of a round share.
func (f *fullFloor) open(ctx context.Context) (end func(), err error) {
	endPods, err := f.floor.open(ctx)
	if err != nil {
		return nil, err
	}
	core := f.watching.CoreV1()
	claims, err := core.PersistentVolumeClaims(floorNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list claims: %w", err)
	}
	volumes, err := core.PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	endClaims, err := f.follow(ctx, "persistentvolumeclaims", floorNamespace, claims.ResourceVersion, f.seeClaim)
	if err != nil {
		return nil, err
	}
	endVolumes, err := f.follow(ctx, "persistentvolumes", "", volumes.ResourceVersion, f.seeVolume)
	if err != nil {
		return nil, err
	}
	return func() {
		endPods()
		endClaims()
		endVolumes()
	}, nil
}

func (f *fullFloor) follow(ctx context.Context, kind, namespace, version string, see func(watch.Event)) (end func(), err error) {
	watching, err := watchtools.NewRetryWatcherWithContext(ctx, version, cache.ToWatcherWithContext(
		cache.NewListWatchFromClient(f.watching.CoreV1().RESTClient(), kind, namespace, fields.Everything())))
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", kind, err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for event := range watching.ResultChan() {
			see(event)
		}
	}()
	return func() {
		watching.Stop()
		<-over
	}, nil
}

func (f *fullFloor) storage(name string) *storageLife {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.storages[name]
}

func (f *fullFloor) seeClaim(event watch.Event) {
	claim, ok := event.Object.(*corev1.PersistentVolumeClaim)
	if !ok || event.Type == watch.Bookmark {
		return
	}
	life := f.storage(claim.Name)
	switch {
	case life == nil:
	case event.Type == watch.Deleted:
		close(life.claimGone)
	case !life.isBound && claim.Status.Phase == corev1.ClaimBound:
		life.isBound = true
		close(life.bound)
	}
}

func (f *fullFloor) seeVolume(event watch.Event) {
	volume, ok := event.Object.(*corev1.PersistentVolume)
	if life := f.storageOf(volume, ok); life != nil && event.Type == watch.Deleted {
		close(life.volumeGone)
	}
}

func (f *fullFloor) storageOf(volume *corev1.PersistentVolume, ok bool) *storageLife {
	if !ok {
		return nil
	}
	return f.storage(volume.Name)
}

// life makes a full pod, waits until it is ready, reads its token, deletes
// everything, and waits until it is gone.
func (f *fullFloor) life(ctx context.Context, user string, t *times) error {
	pod, err := f.podFor(user)
	if err != nil {
		return err
	}
	storage := &storageLife{bound: make(chan struct{}), claimGone: make(chan struct{}), volumeGone: make(chan struct{})}
	life := &podLife{ready: make(chan struct{}), gone: make(chan struct{})}
	f.put(pod.Name, life)
	defer f.put(pod.Name, nil)
	begun := time.Now()
	claim, err := f.makeStorage(ctx, user, storage)
	if err != nil {
		return err
	}
	made, err := f.clients.CoreV1().Pods(floorNamespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create pod: %w", err)
	}
	undo, err := f.makeBelongings(ctx, user)
	if err != nil {
		return err
	}
	if err := f.await(ctx, life.ready); err != nil {
		return fmt.Errorf("wait until %s is ready: %w", pod.Name, err)
	}
	if err := f.readToken(ctx, made); err != nil {
		return err
	}
	t.ready.add(begun)
	begun = time.Now()
	if err := f.clients.CoreV1().Pods(floorNamespace).Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(made.UID))}); err != nil {
		return fmt.Errorf("delete pod: %w", err)
	}
	if err := f.await(ctx, life.gone); err != nil {
		return fmt.Errorf("wait until %s is gone: %w", pod.Name, err)
	}
	if err := undo(ctx); err != nil {
		return err
	}
	if err := f.removeStorage(ctx, claim, storage); err != nil {
		return err
	}
	t.gone.add(begun)
	return absent(ctx, f.clients, floorNamespace, pod.Name)
}

// makeStorage makes volume and claim and waits until the claim is bound: a pod that
// is made before is parked by the scheduler for seconds.
func (f *fullFloor) makeStorage(ctx context.Context, user string, life *storageLife) (name string, err error) {
	volume, err := forUser[corev1.PersistentVolume](f.volume, user)
	if err != nil {
		return "", err
	}
	claim, err := forUser[corev1.PersistentVolumeClaim](f.claim, user)
	if err != nil {
		return "", err
	}
	f.mu.Lock()
	f.storages[claim.Name] = life
	f.mu.Unlock()
	core := f.clients.CoreV1()
	if _, err := core.PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{}); err != nil {
		return "", fmt.Errorf("create volume: %w", err)
	}
	if _, err := core.PersistentVolumeClaims(floorNamespace).Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		return "", fmt.Errorf("create claim: %w", err)
	}
	if err := f.await(ctx, life.bound); err != nil {
		return "", fmt.Errorf("wait until %s is bound: %w", claim.Name, err)
	}
	return claim.Name, nil
}

func (f *fullFloor) removeStorage(ctx context.Context, name string, life *storageLife) error {
	core := f.clients.CoreV1()
	err := errors.Join(
		core.PersistentVolumeClaims(floorNamespace).Delete(ctx, name, metav1.DeleteOptions{}),
		core.PersistentVolumes().Delete(ctx, name, metav1.DeleteOptions{}),
	)
	if err != nil {
		return fmt.Errorf("delete storage: %w", err)
	}
	if err := errors.Join(f.await(ctx, life.claimGone), f.await(ctx, life.volumeGone)); err != nil {
		return fmt.Errorf("wait until %s is gone: %w", name, err)
	}
	f.mu.Lock()
	delete(f.storages, name)
	f.mu.Unlock()
	return nil
}

// makeBelongings makes service and ingress; the function returned removes them.
func (f *fullFloor) makeBelongings(ctx context.Context, user string) (undo func(context.Context) error, err error) {
	service, err := forUser[corev1.Service](f.service, user)
	if err != nil {
		return nil, err
	}
	ingress, err := forUser[networkingv1.Ingress](f.ingress, user)
	if err != nil {
		return nil, err
	}
	// Their owner is another pod, of which the garbage collector would find nothing.
	service.OwnerReferences, ingress.OwnerReferences = nil, nil
	services, ingresses := f.clients.CoreV1().Services(floorNamespace), f.clients.NetworkingV1().Ingresses(floorNamespace)
	both := func(ctx context.Context, first, second func(context.Context) error) error {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return first(ctx) })
		group.Go(func() error { return second(ctx) })
		return group.Wait()
	}
	err = both(ctx, func(ctx context.Context) error {
		_, err := services.Create(ctx, service, metav1.CreateOptions{})
		return err
	}, func(ctx context.Context) error {
		_, err := ingresses.Create(ctx, ingress, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create service and ingress: %w", err)
	}
	return func(ctx context.Context) error {
		return both(ctx, func(ctx context.Context) error {
			return services.Delete(ctx, service.Name, metav1.DeleteOptions{})
		}, func(ctx context.Context) error {
			return ingresses.Delete(ctx, ingress.Name, metav1.DeleteOptions{})
		})
	}, nil
}

// readToken runs a command in the pod, as Berth does.
func (f *fullFloor) readToken(ctx context.Context, pod *corev1.Pod) error {
	request := f.clients.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: pod.Spec.Containers[0].Name, Command: []string{"head", "-c", "4096", "/tmp/" + f.token}, Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	executor, err := execInto(f.config, request.URL())
	if err != nil {
		return err
	}
	var out strings.Builder
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: io.Discard}); err != nil {
		return fmt.Errorf("read token: %w", err)
	}
	if out.Len() == 0 {
		return errors.New("read token: it is empty")
	}
	return nil
}

func execInto(config *rest.Config, address *url.URL) (remotecommand.Executor, error) {
	executor, err := remotecommand.NewWebSocketExecutor(config, "GET", address.String())
	if err != nil {
		return nil, fmt.Errorf("open exec: %w", err)
	}
	return executor, nil
}

func (f *fullFloor) leftover(ctx context.Context) error {
	return errors.Join(f.floor.leftover(ctx), nothingLeft(ctx, f.clients, floorNamespace))
}
