package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// floorNamespace is where the floor's pods are made: Berth's watcher, which would
// take them for its own, does not look there.
const floorNamespace = "berth-floor"

// namespaceLimit bounds the wait for a namespace in which pods can be made.
const namespaceLimit = time.Minute

// floor is the way to a pod straight through client-go, with the same
// connection settings as Berth's services: no queue, and one watch for all.
// It is safe for concurrent use.
type floor struct {
	clients  kubernetes.Interface
	watching kubernetes.Interface // For the watch.
	template string               // A pod of user 0 in JSON.
	ended    <-chan struct{}      // Closed when the round's watch has ended.

	mu    sync.Mutex
	lives map[string]*podLife // By name.
}

// podLife is what the watch tells about one pod.
type podLife struct {
	ready, gone chan struct{} // Closed by the watch alone.
	isReady     bool          // Only the watch uses it.
}

var _ side = (*floor)(nil)

// newFloor returns a floor whose pods are like one that Berth has made for user 0.
func newFloor(ctx context.Context, clients, watching kubernetes.Interface, like *corev1.Pod) (*floor, error) {
	template, err := templateOf(like)
	if err != nil {
		return nil, err
	}
	f := &floor{clients: clients, watching: watching, template: template, lives: map[string]*podLife{}}
	_, err = clients.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: floorNamespace},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("make the floor's namespace: %w", err)
	}
	err = wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, namespaceLimit, true, func(ctx context.Context) (bool, error) {
		_, err := clients.CoreV1().ServiceAccounts(floorNamespace).Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("wait for the floor's service account: %w", err)
	}
	return f, nil
}

// templateOf returns a pod as its maker sent it, in JSON: without what the API
// server and the scheduler have added, but for defaults.
func templateOf(like *corev1.Pod) (string, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: like.Name, Labels: like.Labels, Annotations: like.Annotations},
		Spec:       *like.Spec.DeepCopy(),
	}
	pod.Spec.NodeName = ""
	const token = "kube-api-access-" // The service account's; admission adds it.
	pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return strings.HasPrefix(v.Name, token) })
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i, c := range containers {
			containers[i].VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return strings.HasPrefix(m.Name, token) })
		}
	}
	text, err := json.Marshal(pod)
	if err != nil {
		return "", fmt.Errorf("encode the floor's pod: %w", err)
	}
	return string(text), nil
}

// podFor returns the pod of a user: user 0's with another name and owner.
func (f *floor) podFor(user string) (*corev1.Pod, error) {
	local := func(user string) string { return user[:strings.IndexByte(user, '@')] }
	text := strings.ReplaceAll(f.template, local(userID(0)), local(user))
	var pod corev1.Pod
	if err := json.Unmarshal([]byte(text), &pod); err != nil {
		return nil, fmt.Errorf("read the floor's pod: %w", err)
	}
	return &pod, nil
}

// open begins the watch that all lives of a round share.
func (f *floor) open(ctx context.Context) (end func(), err error) {
	end, f.ended, err = watchPods(ctx, f.watching, floorNamespace, f.see)
	return end, err
}

// watchPods calls see for every change of a pod from now on, until the function
// returned is called. ended is closed when the watch has ended.
func watchPods(
	ctx context.Context, clients kubernetes.Interface, namespace string, see func(watch.EventType, *corev1.Pod),
) (end func(), ended <-chan struct{}, err error) {
	pods, err := clients.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("list pods: %w", err)
	}
	// A busy API server closes watches that are slow; this one is opened again.
	watching, err := watchtools.NewRetryWatcherWithContext(ctx, pods.ResourceVersion, cache.ToWatcherWithContext(
		cache.NewListWatchFromClient(clients.CoreV1().RESTClient(), "pods", namespace, fields.Everything())))
	if err != nil {
		return nil, nil, fmt.Errorf("watch pods: %w", err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for event := range watching.ResultChan() {
			if pod, ok := event.Object.(*corev1.Pod); ok && event.Type != watch.Bookmark {
				see(event.Type, pod)
			}
		}
	}()
	return func() {
		watching.Stop()
		<-over
	}, over, nil
}

// see tells the life of a pod what the watch has seen of it.
func (f *floor) see(kind watch.EventType, pod *corev1.Pod) {
	f.mu.Lock()
	life := f.lives[pod.Name]
	f.mu.Unlock()
	switch {
	case life == nil:
	case kind == watch.Deleted:
		close(life.gone)
	case !life.isReady && ready(pod):
		life.isReady = true
		close(life.ready)
	}
}

func ready(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// life makes a pod, waits until it is ready, deletes it, and waits until it is gone.
func (f *floor) life(ctx context.Context, user string, t *times) error {
	pod, err := f.podFor(user)
	if err != nil {
		return err
	}
	life := &podLife{ready: make(chan struct{}), gone: make(chan struct{})}
	f.put(pod.Name, life)
	defer f.put(pod.Name, nil)

	pods, begun := f.clients.CoreV1().Pods(floorNamespace), time.Now()
	made, err := pods.Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create pod: %w", err)
	}
	if err := f.await(ctx, life.ready); err != nil {
		return fmt.Errorf("wait until %s is ready: %w", pod.Name, err)
	}
	t.ready.add(begun)
	begun = time.Now()
	if err := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(made.UID))}); err != nil {
		return fmt.Errorf("delete pod: %w", err)
	}
	if err := f.await(ctx, life.gone); err != nil {
		return fmt.Errorf("wait until %s is gone: %w", pod.Name, err)
	}
	t.gone.add(begun)
	// The same check as Berth's rounds have, so that it does not tell between the two.
	return absent(ctx, f.clients, floorNamespace, pod.Name)
}

func (f *floor) put(name string, life *podLife) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if life == nil {
		delete(f.lives, name)
		return
	}
	f.lives[name] = life
}

func (f *floor) await(ctx context.Context, ch <-chan struct{}) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, errors.New("it took too long"))
	defer cancel()
	select {
	case <-ch:
		return nil
	case <-f.ended:
		return errors.New("the watch has ended")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *floor) leftover(ctx context.Context) error {
	pods, err := f.clients.CoreV1().Pods(floorNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	if len(pods.Items) > 0 {
		return fmt.Errorf("%d pods are left on the floor", len(pods.Items))
	}
	return nil
}
