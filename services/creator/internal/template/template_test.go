package template_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"berth/services/creator/internal/template"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	namespace, name, key = "berth", "project-pod", "project.json"
	first                = `{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"main","image":"{PROJECT_IMAGE}:{PROJECT_TAG}"}]}}`
	second               = `{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"other"}]}}`
	patience             = time.Minute
)

func config(text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string]string{key: text}}
}

// run follows the template of an API server until the test ends.
func run(t *testing.T, client *fake.Clientset) *template.Watch {
	t.Helper()
	return runTelling(t, client, nil)
}

func runTelling(t *testing.T, client *fake.Clientset, told func(error)) *template.Watch {
	t.Helper()
	w := template.New(client, namespace, name, key, told)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

// becomes waits until the template is a text, or its error says something.
func becomes(t *testing.T, w *template.Watch, text, says string) {
	t.Helper()
	var got json.RawMessage
	var err error
	until(t, func() bool {
		got, err = w.Text()
		return string(got) == text && (err == nil) == (says == "") && (err == nil || strings.Contains(err.Error(), says))
	}, func() { t.Fatalf("the template is %q, %v; want %q, %q", got, err, text, says) })
}

// until waits until a condition holds; where it does not in time, what happens then is told.
func until(t *testing.T, condition func() bool, otherwise func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			otherwise()
			return
		}
	}
}

// watched waits until the template is watched: unlike an API server, the made-up one forgets what has changed since the
// list.
func watched(t *testing.T, client *fake.Clientset) {
	t.Helper()
	until(t, func() bool {
		return slices.ContainsFunc(client.Actions(), func(a clienttesting.Action) bool { return a.GetVerb() == "watch" })
	}, func() { t.Fatal("the template is not watched") })
}

func TestText(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		config *corev1.ConfigMap
		text   string
		says   string
	}{
		"usable":        {config(first), first, ""},
		"missing":       {nil, "", `make the ConfigMap "project-pod" in namespace "berth", with a Pod as JSON under the key "project.json"`},
		"no key":        {&corev1.ConfigMap{ObjectMeta: config("").ObjectMeta}, "", "the key is missing or empty"},
		"no JSON":       {config("kind: Pod"), "", `(ConfigMap "project-pod", key "project.json", in namespace "berth") cannot be used: it is no Pod as JSON`},
		"no object":     {config(`[]`), "", "it is no Pod as JSON"},
		"null":          {config(`null`), "", "must be v1 and Pod"},
		"two objects":   {config(first + first), "", "it is no Pod as JSON"},
		"another kind":  {config(strings.Replace(first, `"Pod"`, `"Deployment"`, 1)), "", `"v1" and "Deployment"`},
		"no containers": {config(`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[]}}`), "", "spec.containers is empty"},
		"another type":  {config(`{"apiVersion":"v1","kind":"Pod","spec":{"containers":"x"}}`), "", "spec.containers"},
		"too large":     {config(first + strings.Repeat(" ", template.MaxSize)), "", "bytes, more than 262144"},
		"another's":     {&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "other"}, Data: map[string]string{key: first}}, "", "missing"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := fake.NewClientset()
			if tt.config != nil {
				client = fake.NewClientset(tt.config)
			}
			w := run(t, client)
			becomes(t, w, tt.text, tt.says)
			_, err := w.Text()
			if fault := (*template.Error)(nil); errors.As(err, &fault) != (tt.says != "") {
				t.Errorf("%T: %v", err, err)
			}
			if err := w.Synced(t.Context()); err != nil {
				t.Errorf("synced: %v", err)
			}
		})
	}
}

// TestChanges: what is changed holds from then on.
func TestChanges(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	var mu sync.Mutex
	var told []string
	w := runTelling(t, client, func(err error) {
		mu.Lock()
		defer mu.Unlock()
		what := "usable"
		if fault := (*template.Error)(nil); errors.As(err, &fault) {
			what = fmt.Sprintf("missing %t", fault.Missing)
		}
		told = append(told, what)
	})
	becomes(t, w, "", "is missing")
	watched(t, client)
	maps := client.CoreV1().ConfigMaps(namespace)
	for _, step := range []struct {
		change     func() error
		text, says string
	}{
		{func() error { _, err := maps.Create(t.Context(), config(first), metav1.CreateOptions{}); return err }, first, ""},
		{func() error { _, err := maps.Update(t.Context(), config(second), metav1.UpdateOptions{}); return err }, second, ""},
		{func() error { _, err := maps.Update(t.Context(), config("x"), metav1.UpdateOptions{}); return err }, "", "cannot be used"},
		{func() error { return maps.Delete(t.Context(), name, metav1.DeleteOptions{}) }, "", "is missing"},
		{func() error { _, err := maps.Create(t.Context(), config(second), metav1.CreateOptions{}); return err }, second, ""},
	} {
		if err := step.change(); err != nil {
			t.Fatal(err)
		}
		becomes(t, w, step.text, step.says)
	}
	// It is told after it holds.
	want := []string{"missing true", "usable", "missing false", "missing true", "usable"}
	until(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(told) >= len(want)
	}, func() { t.Fatalf("told %d times, want %d", len(told), len(want)) })
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestAway: an API server that is away for a while, forgets where the watch was, or ends it, is
// asked again; the last template holds meanwhile.
func TestAway(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	var mu sync.Mutex
	listed, away, watching := config(first), errors.New("connection refused"), make(chan *apiwatch.FakeWatcher, 16)
	set := func(c *corev1.ConfigMap, err error) {
		mu.Lock()
		defer mu.Unlock()
		listed, away = c, err
	}
	client.PrependReactor("list", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		return true, &corev1.ConfigMapList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []corev1.ConfigMap{*listed}}, away
	})
	client.PrependWatchReactor("configmaps", func(clienttesting.Action) (bool, apiwatch.Interface, error) {
		mu.Lock()
		defer mu.Unlock()
		if away != nil {
			return true, nil, away
		}
		watch := apiwatch.NewFakeWithOptions(apiwatch.FakeOptions{ChannelSize: 4})
		watching <- watch
		return true, watch, nil
	})
	w := run(t, client)
	becomes(t, w, "", "connection refused")
	if err := w.Synced(t.Context()); !errors.Is(err, template.ErrUnknown) || !strings.Contains(err.Error(), name) {
		t.Errorf("synced while the API server has never answered: %v", err)
	}
	set(config(first), nil)
	becomes(t, w, first, "")
	// It comes back without a memory.
	set(config(second), nil)
	gone := apierrors.NewResourceExpired("too old").Status()
	gone.Code = http.StatusGone
	(<-watching).Error(&gone)
	becomes(t, w, second, "")
	// It goes away, and comes back.
	set(config(second), errors.New("connection refused"))
	(<-watching).Stop()
	becomes(t, w, second, "")
	if err := w.Synced(t.Context()); err != nil {
		t.Errorf("synced: %v", err)
	}
	set(config(first), nil)
	becomes(t, w, first, "")
}
