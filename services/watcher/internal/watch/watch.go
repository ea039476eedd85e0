// Package watch follows the pods of a namespace, the Kubernetes events about them,
// and the claims and volumes of the users' storage, over one watch each. It opens a
// watch that ended or fell silent again where it left off, without a LIST as long as
// the API server allows.
package watch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"berth/pkg/kube"
)

// The times of a watch.
const (
	// silence is how long a watch may say nothing. The API server sends a
	// bookmark about once a minute. There are none for events, which it does not
	// cache; that their connection lives shows by its pings (package client).
	silence = 90 * time.Second
	// giveUp is how long a watch may fail to open before [Watch.Run] returns.
	giveUp = 15 * time.Second
	// retry is the pause before a watch is opened again after a failure.
	retry = 500 * time.Millisecond
	// serverTimeout is when the API server ends a watch by itself.
	serverTimeout = 10 * time.Minute
)

// Sink takes what the watch of one kind of objects sees. Its methods are called by
// one goroutine and must not block for long.
type Sink[T any] interface {
	// Listed is called with all objects when a watch begins or begins anew.
	Listed(all []T)
	// Seen is called for each object that is new or has changed.
	Seen(object *T)
	// Removed is called with the last state of an object that is no more.
	Removed(object *T)
}

// SignalSink takes what the watch of events sees, like [Sink].
type SignalSink interface {
	// Signalled is called for a Kubernetes event about the pod with a UID.
	Signalled(name, uid string, signal kube.Signal)
}

// Watch follows one namespace. It is safe for concurrent use; Run is called once.
type Watch struct {
	client    kubernetes.Interface
	namespace string
	log       zerolog.Logger

	// heard is when the watch of pods last heard anything, in Unix nanoseconds.
	heard atomic.Int64
	// blind says that volumes cannot be seen.
	blind atomic.Bool
}

// New returns a Watch of a namespace.
func New(client kubernetes.Interface, namespace string, log zerolog.Logger) *Watch {
	return &Watch{client: client, namespace: namespace, log: log}
}

// Age is how long ago the watch of pods has last heard anything; zero before it
// is open.
func (w *Watch) Age() time.Duration {
	heard := w.heard.Load()
	if heard == 0 {
		return 0
	}
	return time.Since(time.Unix(0, heard))
}

// List asks for all pods that may be Berth's, as the cluster has them now.
func (w *Watch) List(ctx context.Context) (*corev1.PodList, error) {
	pods, err := w.client.CoreV1().Pods(w.namespace).List(ctx, metav1.ListOptions{LabelSelector: kube.Selector})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return pods, nil
}

// Exists asks whether the pod of a name with a UID is in the cluster.
func (w *Watch) Exists(ctx context.Context, name, uid string) (bool, error) {
	pod, err := w.client.CoreV1().Pods(w.namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("get pod: %w", err)
	}
	return uid == "" || string(pod.UID) == uid, nil
}

// Pods follows the pods from a list on until ctx ends, or returns an error when
// a watch cannot be opened for a while.
func (w *Watch) Pods(ctx context.Context, from string, sink Sink[corev1.Pod]) error {
	stream := &stream{
		name: "pods", log: w.log, heard: &w.heard, silence: silence, version: from,
		open: func(ctx context.Context, opts metav1.ListOptions) (apiwatch.Interface, error) {
			opts.LabelSelector = kube.Selector
			return w.client.CoreV1().Pods(w.namespace).Watch(ctx, opts)
		},
		list: func(ctx context.Context) (string, error) {
			pods, err := w.List(ctx)
			if err != nil {
				return "", err
			}
			sink.Listed(pods.Items)
			return pods.ResourceVersion, nil
		},
		take: into(sink),
	}
	return stream.run(ctx)
}

// into hands what a watch says to a sink.
func into[T any, P interface {
	*T
	runtime.Object
}](sink Sink[T]) func(apiwatch.EventType, runtime.Object) {
	return func(kind apiwatch.EventType, object runtime.Object) {
		o, ok := object.(P)
		switch {
		case !ok:
		case kind == apiwatch.Deleted:
			sink.Removed(o)
		default:
			sink.Seen(o)
		}
	}
}

// Events follows the Kubernetes events about pods like [Watch.Pods]. It begins
// with those that the API server still has.
func (w *Watch) Events(ctx context.Context, sink SignalSink) error {
	stream := &stream{
		name: "events", log: w.log, heard: new(atomic.Int64), silence: serverTimeout + silence,
		open: func(ctx context.Context, opts metav1.ListOptions) (apiwatch.Interface, error) {
			opts.FieldSelector = kube.SignalSelector
			return w.client.CoreV1().Events(w.namespace).Watch(ctx, opts)
		},
		// Without a version a watch begins with what there is.
		list: func(context.Context) (string, error) { return "", nil },
		take: func(kind apiwatch.EventType, object runtime.Object) {
			event, ok := object.(*corev1.Event)
			if !ok || kind == apiwatch.Deleted {
				return
			}
			if signal, ok := kube.SignalOf(event); ok {
				sink.Signalled(event.InvolvedObject.Name, string(event.InvolvedObject.UID), signal)
			}
		},
	}
	return stream.run(ctx)
}

// stream is one kind's watch, opened as often as it takes.
type stream struct {
	name    string
	log     zerolog.Logger
	heard   *atomic.Int64
	silence time.Duration // How long it may say nothing.
	version string
	open    func(context.Context, metav1.ListOptions) (apiwatch.Interface, error)
	list    func(context.Context) (version string, err error)
	take    func(apiwatch.EventType, runtime.Object)
	// fatal, if set, says that there is no use in trying again.
	fatal func(error) bool
	// taken counts what came. An API server under load ends a watch whose client
	// it cannot keep up with, and that is no reason to pause.
	taken uint64
}

// errExpired says that the API server has forgotten the version to go on from.
var errExpired = errors.New("the resource version has expired")

func (s *stream) run(ctx context.Context) error {
	working := time.Now()
	relisted := false // The watch has not been open since the last list.
	for ctx.Err() == nil {
		begun, taken := time.Now(), s.taken
		opened, err := s.follow(ctx)
		if opened {
			working = time.Now()
		}
		if err == nil && s.taken == taken && time.Since(begun) < retry {
			err = errors.New("the watch ended as soon as it was open")
		}
		if errors.Is(err, errExpired) {
			s.log.Info().Str("kind", s.name).Msg("The watch cannot go on where it left off; listing anew")
			// Without a new list it must not go on at all: it would miss what has gone.
			var version string
			if version, err = s.list(ctx); err == nil {
				s.version, working = version, time.Now()
				if opened || !relisted {
					relisted = !opened
					continue
				}
				err = errors.New("the version of the list that was just made has expired, too")
			}
		}
		relisted = relisted && !opened
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		if time.Since(working) > giveUp || s.fatal != nil && s.fatal(err) {
			return fmt.Errorf("watch %s: %w", s.name, err)
		}
		s.log.Warn().Err(err).Str("kind", s.name).Msg("Watch failed; opening it again")
		wait(ctx, retry)
	}
	return nil
}

// follow opens the watch once and takes what comes until it ends. opened says
// whether it got that far.
func (s *stream) follow(ctx context.Context) (opened bool, err error) {
	timeout := int64(serverTimeout / time.Second)
	watching, err := s.open(ctx, metav1.ListOptions{
		ResourceVersion: s.version, AllowWatchBookmarks: true, TimeoutSeconds: &timeout,
	})
	if err != nil {
		if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
			return false, errExpired
		}
		return false, fmt.Errorf("open watch: %w", err)
	}
	defer watching.Stop()
	s.heard.Store(time.Now().UnixNano())
	quiet := time.NewTimer(s.silence)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return true, nil
		case <-quiet.C:
			return true, fmt.Errorf("nothing heard for %s", s.silence)
		case event, ok := <-watching.ResultChan():
			if !ok {
				return true, nil
			}
			s.heard.Store(time.Now().UnixNano())
			quiet.Reset(s.silence)
			if event.Type == apiwatch.Error {
				err := apierrors.FromObject(event.Object)
				if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
					return true, errExpired
				}
				return true, fmt.Errorf("watch ended: %w", err)
			}
			if object, ok := event.Object.(metav1.Object); ok {
				s.version = object.GetResourceVersion()
			}
			s.taken++
			if event.Type != apiwatch.Bookmark {
				s.take(event.Type, event.Object)
			}
		}
	}
}
