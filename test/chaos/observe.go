package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"berth/pkg/events"
	"berth/pkg/kube"
	"berth/test/chaos/verdict"
)

// observer sees everything that happens, over connections of its own that no
// fault touches but the death of a server. It is safe for concurrent use.
type observer struct {
	js   jetstream.JetStream
	nc   *nats.Conn
	kube kubernetes.Interface

	mu       sync.Mutex
	log      []verdict.Entry
	pods     []verdict.PodEvent
	probes   []verdict.Probe
	created  time.Time              // Of the stream.
	last     map[string]events.Type // Of each generation.
	claims   int
	ready    int
	failed   int
	owners   map[string]string // Of the pods that are not gone, by name.
	subjects map[string]int
	at       map[uint64]string // Subjects by sequence.
	alive    map[string]verdict.PodEvent
	moved    time.Time // When something was seen last.
	looking  sync.WaitGroup
}

func newObserver(natsURL string, clients kubernetes.Interface) (*observer, error) {
	nc, err := nats.Connect(natsURL, nats.UserInfo(observerUser, password(observerUser)), nats.Name("chaos-observer"), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.RetryOnFailedConnect(true), nats.ReconnectBufSize(-1))
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	return &observer{
		js: js, nc: nc, kube: clients, last: map[string]events.Type{}, owners: map[string]string{}, subjects: map[string]int{},
		at: map[uint64]string{}, alive: map[string]verdict.PodEvent{}, moved: time.Now(),
	}, nil
}

// run observes until ctx ends.
func (o *observer) run(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { o.readLog(ctx) })
	both.Go(func() { o.watchPods(ctx) })
	both.Wait()
	o.looking.Wait()
	o.nc.Close()
}

// The pauses of the observer.
const (
	idlePause  = 30 * time.Millisecond
	faultPause = 100 * time.Millisecond
	askTimeout = 2 * time.Second
)

// readLog reads message by message, each from the stream's leader: no consumer
// has to survive the death of the server.
func (o *observer) readLog(ctx context.Context) {
	next := uint64(1)
	for ctx.Err() == nil {
		message, err := o.message(ctx, next)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			pause(ctx, idlePause)
		case err != nil:
			pause(ctx, faultPause)
		default:
			o.take(ctx, message)
			next = message.Sequence + 1
		}
	}
}

// message returns the first message of the log at a sequence or after it.
func (o *observer) message(ctx context.Context, sequence uint64) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	stream, err := o.js.Stream(ctx, events.LogStream)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	o.created = stream.CachedInfo().Created
	o.mu.Unlock()
	return stream.GetMsg(ctx, sequence, jetstream.WithGetMsgSubject(">"))
}

// take notes a message.
func (o *observer) take(ctx context.Context, m *jetstream.RawStreamMsg) {
	entry := verdict.Entry{Sequence: m.Sequence, At: m.Time}
	event, err := events.Parse(m.Data)
	if err != nil {
		entry.Unreadable = err.Error()
	}
	entry.Trace, entry.Source = traceID(event.Traceparent), event.Source
	entry.Record, entry.Outcome, entry.Mark = event.Record, event.Outcome, event.Mark
	o.mu.Lock()
	defer o.mu.Unlock()
	if r := entry.Record; r != nil {
		if r.Generation == "" {
			r.Generation = events.At(o.created, m.Sequence).String()
			o.claims++
		}
		if r.Event == events.Ready && o.last[r.Generation] != events.Unready {
			o.ready++
		}
		if r.Event == events.Failed {
			o.failed++
		}
		o.last[r.Generation], o.owners[r.Pod] = r.Event, r.User
		if r.Event == events.Gone {
			delete(o.last, r.Generation)
			delete(o.owners, r.Pod)
			o.looking.Go(func() { o.probe(ctx, r.Pod, r.Generation) })
		}
		o.moved = time.Now()
	}
	o.log = append(o.log, entry)
	o.subjects[m.Subject]++
	o.at[m.Sequence] = m.Subject
}

// probe looks for a pod that was said to be gone, as soon as the API server answers.
func (o *observer) probe(ctx context.Context, pod, generation string) {
	for ctx.Err() == nil {
		found, err := o.look(ctx, pod, generation)
		if err == nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.probes = append(o.probes, verdict.Probe{At: time.Now(), Pod: pod, Generation: generation, Found: found})
			return
		}
		pause(ctx, faultPause)
	}
}

// look says whether anything is there of a life of a pod; found is its generation
// then.
func (o *observer) look(ctx context.Context, pod, was string) (found string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	core := o.kube.CoreV1()
	// What belongs to the pod must be gone, too.
	for _, get := range []func() (metav1.Object, error){
		func() (metav1.Object, error) { return core.Pods(namespace).Get(ctx, pod, metav1.GetOptions{}) },
		func() (metav1.Object, error) {
			return core.Services(namespace).Get(ctx, pod+kube.SuffixHTTP, metav1.GetOptions{})
		},
		func() (metav1.Object, error) {
			return core.Services(namespace).Get(ctx, pod+kube.SuffixSSH, metav1.GetOptions{})
		},
		func() (metav1.Object, error) {
			return o.kube.NetworkingV1().Ingresses(namespace).Get(ctx, pod+kube.SuffixIngress, metav1.GetOptions{})
		},
	} {
		object, err := get()
		switch {
		case err == nil && object.GetAnnotations()[kube.AnnotationGeneration] == was:
			return was, nil
		case err != nil && !apierrors.IsNotFound(err):
			return "", err
		}
	}
	return "", nil
}

// watchPods follows the pods of the namespace, and lists them again where the
// watch cannot go on.
func (o *observer) watchPods(ctx context.Context) {
	version := ""
	for ctx.Err() == nil {
		if version == "" {
			list, err := o.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				pause(ctx, faultPause)
				continue
			}
			o.listed(list.Items)
			version = list.ResourceVersion
		}
		version = o.follow(ctx, version)
		pause(ctx, faultPause)
	}
}

// follow returns the version from which to go on, or none where that is not possible.
func (o *observer) follow(ctx context.Context, version string) string {
	w, err := o.kube.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: version, AllowWatchBookmarks: true})
	if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
		return ""
	}
	if err != nil {
		return version
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		pod, ok := event.Object.(*corev1.Pod)
		if !ok {
			return ""
		}
		version = pod.ResourceVersion
		switch event.Type {
		case watch.Added:
			o.pod(verdict.Added, pod)
		case watch.Modified:
			o.pod(verdict.Changed, pod)
		case watch.Deleted:
			o.pod(verdict.Deleted, pod)
		case watch.Bookmark, watch.Error:
		}
	}
	return version
}

// listed notes what changed while nothing could be watched.
func (o *observer) listed(pods []corev1.Pod) {
	there := map[string]bool{}
	for _, pod := range pods {
		there[string(pod.UID)] = true
	}
	o.vanished(there)
	for _, pod := range pods {
		o.mu.Lock()
		_, known := o.alive[string(pod.UID)]
		o.mu.Unlock()
		if known {
			o.pod(verdict.Changed, &pod)
		} else {
			o.pod(verdict.Added, &pod)
		}
	}
}

// vanished notes the end of the pods that are not there any more.
func (o *observer) vanished(there map[string]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for uid, event := range o.alive {
		if !there[uid] {
			event.At, event.Kind = time.Now(), verdict.Deleted
			o.pods = append(o.pods, event)
			delete(o.alive, uid)
		}
	}
}

func (o *observer) pod(kind string, pod *corev1.Pod) {
	state := []string{string(pod.Status.Phase)}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			state = append(state, "ready="+string(c.Status))
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		if c.State.Waiting != nil {
			state = append(state, c.State.Waiting.Reason)
		}
	}
	if pod.DeletionTimestamp != nil {
		state = append(state, "terminating")
	}
	event := verdict.PodEvent{
		At: time.Now(), Kind: kind, Pod: pod.Name, UID: string(pod.UID), Command: pod.Annotations[kube.AnnotationCommand],
		Generation: pod.Annotations[kube.AnnotationGeneration], User: pod.Annotations[kube.AnnotationUser],
		Created: pod.CreationTimestamp.Time, State: strings.Join(state, " ") + " at " + pod.ResourceVersion,
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pods = append(o.pods, event)
	o.moved = event.At
	if kind == verdict.Deleted {
		delete(o.alive, event.UID)
	} else {
		o.alive[event.UID] = event
	}
}

// count is how far a run is.
type count struct{ claims, ready, failed, open int }

func (o *observer) count() count {
	o.mu.Lock()
	defer o.mu.Unlock()
	return count{claims: o.claims, ready: o.ready, failed: o.failed, open: len(o.last)}
}

// position is the sequence of the log's last message.
func (o *observer) position(ctx context.Context) (uint64, error) {
	stream, err := o.js.Stream(ctx, events.LogStream)
	if err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// read is the sequence of the last message that has been seen.
func (o *observer) read() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.log) == 0 {
		return 0
	}
	return o.log[len(o.log)-1].Sequence
}

// still is how long nothing has been seen to change.
func (o *observer) still() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Since(o.moved)
}

// owned returns the pods that the log says are not gone, with their users.
func (o *observer) owned() map[string]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.owners)
}

// traceID is the trace of a traceparent, empty for none.
func traceID(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(parts) != 4 {
		return ""
	}
	return parts[1]
}

// pause waits for d, or less if ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
