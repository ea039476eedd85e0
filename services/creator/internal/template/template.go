// Package template watches the template of the projects' pods, which is a key of a
// ConfigMap.
package template

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	kubejson "sigs.k8s.io/json"
)

// MaxSize is how large a template may be, in bytes.
const MaxSize = 256 << 10

// ErrUnknown is returned as long as the API server has not said whether there is a
// template.
var ErrUnknown = errors.New("the template of the projects' pods is not known yet")

// Error says that there is no template that can be used, and where to make one.
type Error struct {
	// Message names ConfigMap, key and namespace.
	Message string
	// Missing says that there is no ConfigMap: what a site has that has no projects.
	Missing bool
}

func (e *Error) Error() string { return e.Message }

// Watch follows one ConfigMap. It is safe for concurrent use; Run is called once.
type Watch struct {
	client               kubernetes.Interface
	namespace, name, key string
	told                 func(error)

	// now is what the API server said last, nil before it has said anything.
	now atomic.Pointer[state]
	// failed is why it was not heard the last time.
	failed atomic.Pointer[error]
}

// state is the template, or why there is none.
type state struct {
	text json.RawMessage
	err  error
}

// New returns a Watch of a key of the ConfigMap of a name. told, which may be nil, is called by Run with the error that [Watch.Text]
// has from then on, nil for none, first of all and whenever that is another one; it must not wait for anything.
func New(client kubernetes.Interface, namespace, name, key string, told func(error)) *Watch {
	if told == nil {
		told = func(error) {}
	}
	return &Watch{client: client, namespace: namespace, name: name, key: key, told: told}
}

// Text returns the template as it is now: a Pod as JSON, whose placeholders are not
// filled. It must not be changed. The error is an [*Error], or wraps [ErrUnknown].
func (w *Watch) Text() (json.RawMessage, error) {
	if s := w.now.Load(); s != nil {
		return s.text, s.err
	}
	return nil, w.unknown()
}

// Synced returns an error that wraps [ErrUnknown] until the API server has been heard for the
// first time. That there is no template is none.
func (w *Watch) Synced(context.Context) error {
	if w.now.Load() == nil {
		return w.unknown()
	}
	return nil
}

func (w *Watch) unknown() error {
	if why := w.failed.Load(); why != nil {
		return fmt.Errorf("%w (%s): %w", ErrUnknown, w.Source(), *why)
	}
	return fmt.Errorf("%w (%s)", ErrUnknown, w.Source())
}

// Source says where the template is, for people.
func (w *Watch) Source() string {
	return fmt.Sprintf("ConfigMap %q, key %q, in namespace %q", w.name, w.key, w.namespace)
}

// pauses are those before an API server that is away is asked again. They stay short: until
// then nobody notices that the template has changed.
func pauses() *wait.Backoff {
	return &wait.Backoff{Duration: 250 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 3, Cap: time.Second}
}

// Run follows the ConfigMap until ctx ends, and returns nil then. An API server that is away,
// or has forgotten where the watch was, is asked again; meanwhile the last template holds.
func (w *Watch) Run(ctx context.Context) error {
	maps := w.client.CoreV1().ConfigMaps(w.namespace)
	only := fields.OneTermEqualSelector(metav1.ObjectNameField, w.name).String()
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			opts.FieldSelector = only
			list, err := maps.List(ctx, opts)
			return list, w.noted(err)
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (apiwatch.Interface, error) {
			opts.FieldSelector = only
			watching, err := maps.Watch(ctx, opts)
			return watching, w.noted(err)
		},
	}
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(source, w.client), &corev1.ConfigMap{}, store{w},
		cache.ReflectorOptions{Name: "template", Backoff: pauses()}).RunWithContext(ctx)
	return nil
}

// noted keeps why the API server was not heard.
func (w *Watch) noted(err error) error {
	if err != nil {
		w.failed.Store(&err)
	}
	return err
}

// take keeps what the API server says; nil means that there is no ConfigMap.
func (w *Watch) take(config *corev1.ConfigMap) {
	now := &state{}
	if config == nil {
		now.err = &Error{Missing: true, Message: fmt.Sprintf(
			"the template of the projects' pods is missing: make the ConfigMap %q in namespace %q, with a Pod as JSON under the key %q",
			w.name, w.namespace, w.key)}
	} else if err := check(config.Data[w.key]); err != nil {
		now.err = &Error{Message: fmt.Sprintf("the template of the projects' pods (%s) cannot be used: %s", w.Source(), err)}
	} else {
		now.text = json.RawMessage(config.Data[w.key])
	}
	if before := w.now.Swap(now); before == nil || !same(before.err, now.err) {
		w.told(now.err)
	}
}

// same says that two errors tell the same.
func same(a, b error) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Error() == b.Error()
}

// check says what keeps a text from being a template.
func check(text string) error {
	switch {
	case text == "":
		return errors.New("the key is missing or empty; it must have a Pod as JSON")
	case len(text) > MaxSize:
		return fmt.Errorf("it has %d bytes, more than %d", len(text), MaxSize)
	}
	var pod corev1.Pod
	if err := kubejson.UnmarshalCaseSensitivePreserveInts([]byte(text), &pod); err != nil {
		return fmt.Errorf("it is no Pod as JSON: %w", err)
	}
	switch {
	case pod.Kind != "Pod" || pod.APIVersion != "v1":
		return fmt.Errorf("apiVersion and kind are %q and %q; they must be v1 and Pod", clip(pod.APIVersion), clip(pod.Kind))
	case len(pod.Spec.Containers) == 0:
		return errors.New("spec.containers is empty; a pod has one at least")
	}
	return nil
}

// clip shortens what is quoted.
func clip(text string) string { return text[:min(len(text), 64)] }

// store is where client-go puts what it sees. It hands it on.
type store struct{ *Watch }

var _ cache.ReflectorStore = store{}

// Add implements [cache.ReflectorStore].
func (s store) Add(object any) error { return s.Update(object) }

// Update implements [cache.ReflectorStore].
func (s store) Update(object any) error {
	if config, ok := object.(*corev1.ConfigMap); ok && config.Name == s.name {
		s.take(config)
	}
	return nil
}

// Delete implements [cache.ReflectorStore].
func (s store) Delete(object any) error {
	if config, ok := object.(*corev1.ConfigMap); ok && config.Name == s.name {
		s.take(nil)
	}
	return nil
}

// Replace implements [cache.ReflectorStore].
func (s store) Replace(objects []any, _ string) error {
	for _, object := range objects {
		if config, ok := object.(*corev1.ConfigMap); ok && config.Name == s.name {
			s.take(config)
			return nil
		}
	}
	s.take(nil)
	return nil
}

// Resync implements [cache.ReflectorStore].
func (s store) Resync() error { return nil }
