package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/remotecommand"
	watchtools "k8s.io/client-go/tools/watch"

	"berth/cmd/devstack/stack/project"
	"berth/pkg/kube"
)

// fullManifest is a pod with everything that one can ask for, and one token, whose
// file is %s in /tmp: a command in a simulated pod runs on this machine.
const fullManifest = `apiVersion: v1
kind: Pod
metadata:
  name: full
  annotations:
    sciencedata.dk/ingress-port: "8888"
    sciencedata.dk/copy-token: %s
spec:
  containers:
    - name: notebook
      image: docker.io/jupyter/base-notebook:python-3.11
      ports:
        - containerPort: 8888
      volumeMounts:
        - name: sciencedata
          mountPath: /home/jovyan/work
      resources:
        requests:
          cpu: 10m
          memory: 16Mi
`

// The most that Berth may ask of the API server for a full pod (issue 4): 5 objects
// are made and removed, and one command is run.
const (
	mostFullWrites = 10
	mostExecs      = 1
)

// measureFull is measurePods with pods that have storage, a service, an ingress and
// a token.
func measureFull(ctx context.Context, l lab, r *report) (err error) {
	token := fmt.Sprintf("berth-perf-%d.token", os.Getpid())
	manifests := filepath.Join(l.plan.Dir, "manifests")
	err = errors.Join(
		os.Mkdir(manifests, 0o700),
		os.WriteFile(filepath.Join(manifests, "full.yaml"), fmt.Appendf(nil, fullManifest, token), 0o600),
	)
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	file := filepath.Join("/tmp", token)
	if err := writeForAll(file, "0123456789abcdef0123456789abcdef"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(file)) }()
	return l.withSite(ctx, manifests, func(ctx context.Context, s *site) error {
		berth := newBerth(s.URL, s.ManifestsURL+"/full.yaml", s.clients, s.namespace, l.plan.Concurrency)
		defer berth.close()
		berth.token = token
		floor, err := s.fullFloor(ctx, berth, token)
		if err != nil {
			return fmt.Errorf("make a first pod: %w", err)
		}
		b := bench{
			plan: l.plan, meter: newMeter(s.clients), progress: l.progress, floor: floor, berth: berth,
			overspent: overspentFull,
		}
		got, failures, err := b.run(ctx)
		r.Full, r.Failures = got, append(r.Failures, failures...)
		return err
	})
}

// writeForAll writes a file that the commands of simulated pods, which run as
// nobody, can read.
func writeForAll(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(0o644))
	if err != nil {
		return fmt.Errorf("write token: %w", err)
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

// overspentFull is overspent for full pods.
func overspentFull(own map[string]int, pods int) (faults []string) {
	written, execs := 0, 0
	for key, n := range own {
		_, resource, _ := strings.Cut(key, " ")
		switch {
		case resource == "leases":
		case strings.HasSuffix(resource, "/exec"):
			execs += n
		case writes(key):
			written += n
		case strings.HasPrefix(key, "LIST "):
			faults = append(faults, fmt.Sprintf("Berth sent %s %d times; its watches tell it that", key, n))
		}
	}
	if written == 0 && pods > 0 {
		faults = append(faults, "no request of Berth was seen: it does not run in this process")
	}
	if written > mostFullWrites*pods {
		faults = append(faults, fmt.Sprintf("Berth sent %d writes for %d full pods; %d for each are the most", written, pods, mostFullWrites))
	}
	if execs > mostExecs*pods {
		faults = append(faults, fmt.Sprintf("Berth ran %d commands in %d pods; %d in each are the most", execs, pods, mostExecs))
	}
	return faults
}

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

// fullFloor makes user 0's pod through Berth, copies what there is of it, and
// removes it.
func (s *site) fullFloor(ctx context.Context, b *berth, token string) (*fullFloor, error) {
	name, err := b.create(ctx, userID(0))
	if err != nil {
		return nil, err
	}
	core := s.clients.CoreV1()
	pod, err := core.Pods(s.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get pod: %w", err)
	}
	storage := kube.StorageName(userID(0), false)
	claim, errClaim := core.PersistentVolumeClaims(s.namespace).Get(ctx, storage, metav1.GetOptions{})
	volume, errVolume := core.PersistentVolumes().Get(ctx, storage, metav1.GetOptions{})
	service, errService := core.Services(s.namespace).Get(ctx, name+kube.SuffixHTTP, metav1.GetOptions{})
	ingress, errIngress := s.clients.NetworkingV1().Ingresses(s.namespace).Get(ctx, name+kube.SuffixIngress, metav1.GetOptions{})
	if err := errors.Join(errClaim, errVolume, errService, errIngress); err != nil {
		return nil, fmt.Errorf("look at the first pod's objects: %w", err)
	}
	plain, err := newFloor(ctx, s.clients, s.watching, pod)
	if err != nil {
		return nil, err
	}
	f := &fullFloor{floor: plain, config: s.config, token: token, storages: map[string]*storageLife{}}
	// The names and labels of the floor's volumes are others, or Berth, whose they are not, would look at them.
	f.floor.template = floorNames(f.floor.template)
	volume.Spec.ClaimRef = &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: floorNamespace, Name: claim.Name}
	volume.Status, claim.Status = corev1.PersistentVolumeStatus{}, corev1.PersistentVolumeClaimStatus{}
	service.Spec.ClusterIP, service.Spec.ClusterIPs = "", nil
	for _, labels := range []map[string]string{volume.Labels, claim.Labels} {
		labels["floor-server"] = labels[kube.LabelServer]
		delete(labels, kube.LabelServer)
	}
	for _, one := range []struct {
		object metav1.Object
		to     *string
	}{{volume, &f.volume}, {claim, &f.claim}, {service, &f.service}, {ingress, &f.ingress}} {
		text, err := objectTemplate(one.object)
		if err != nil {
			return nil, err
		}
		*one.to = floorNames(text)
	}
	return f, b.remove(ctx, userID(0), name)
}

// objectTemplate is an object as its maker sent it, in JSON.
func objectTemplate(object metav1.Object) (string, error) {
	object.SetNamespace("")
	object.SetUID("")
	object.SetResourceVersion("")
	object.SetGeneration(0)
	object.SetCreationTimestamp(metav1.Time{})
	object.SetManagedFields(nil)
	object.SetFinalizers(nil)
	annotations := object.GetAnnotations()
	for key := range annotations {
		if strings.HasPrefix(key, "pv.kubernetes.io/") {
			delete(annotations, key)
		}
	}
	object.SetAnnotations(annotations)
	text, err := json.Marshal(object)
	if err != nil {
		return "", fmt.Errorf("encode a template: %w", err)
	}
	return string(text), nil
}

func floorNames(text string) string {
	return strings.ReplaceAll(text, "user-storage-", "floor-storage-")
}

// forUser fills a template for a user.
func forUser[T any](template, user string) (*T, error) {
	local := func(user string) string { return user[:strings.IndexByte(user, '@')] }
	into := new(T)
	if err := json.Unmarshal([]byte(strings.ReplaceAll(template, local(userID(0)), local(user))), into); err != nil {
		return nil, fmt.Errorf("read a template: %w", err)
	}
	return into, nil
}

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

// nothingLeft returns an error unless all the namespace's services, ingresses and
// claims, and all volumes, are gone, but for those of the projects.
func nothingLeft(ctx context.Context, clients kubernetes.Interface, namespace string) error {
	var errs []error
	count := func(kind string, list runtime.Object, err error) {
		switch {
		case err != nil && !apierrors.IsNotFound(err):
			errs = append(errs, fmt.Errorf("list %s: %w", kind, err))
		case err == nil && meta.LenList(list) > 0:
			errs = append(errs, fmt.Errorf("%d %s are left in the cluster", meta.LenList(list), kind))
		}
	}
	core, all := clients.CoreV1(), metav1.ListOptions{LabelSelector: project.Others}
	services, err := core.Services(namespace).List(ctx, all)
	count("services", services, err)
	ingresses, err := clients.NetworkingV1().Ingresses(namespace).List(ctx, all)
	count("ingresses", ingresses, err)
	claims, err := core.PersistentVolumeClaims(namespace).List(ctx, all)
	count("claims", claims, err)
	volumes, err := core.PersistentVolumes().List(ctx, all)
	count("volumes", volumes, err)
	return errors.Join(errs...)
}
