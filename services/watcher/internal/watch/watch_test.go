package watch_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"berth/pkg/kube"
	"berth/services/watcher/internal/watch"
)

const namespace = "berth"

// server is an API server whose watches the test plays.
type server struct {
	*fake.Clientset

	mu      sync.Mutex
	opened  []metav1.ListOptions // One for each watch that was asked for.
	current chan apiwatch.Event  // The watch that is open.
	refuse  func(n int) error    // Says why the n-th watch is not opened, or nothing.
	lists   int
	list    func(n int) (version string, pods []corev1.Pod, err error)
}

func newServer() *server {
	s := &server{Clientset: fake.NewClientset(), refuse: func(int) error { return nil }}
	s.PrependWatchReactor("*", func(action clienttesting.Action) (bool, apiwatch.Interface, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.opened = append(s.opened, action.(clienttesting.WatchActionImpl).ListOptions)
		if err := s.refuse(len(s.opened)); err != nil {
			return true, nil, err
		}
		s.current = make(chan apiwatch.Event, 10)
		return true, apiwatch.NewProxyWatcher(s.current), nil
	})
	s.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lists++
		version, pods, err := s.list(s.lists)
		return true, &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: version}, Items: pods}, err
	})
	return s
}

// send sends an event on the watch that is open, once the reader has nothing to do.
func (s *server) send(kind apiwatch.EventType, object runtime.Object) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current <- apiwatch.Event{Type: kind, Object: object}
}

// end ends the watch that is open.
func (s *server) end() {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.current)
}

// versions are what the watches that were asked for began at.
func (s *server) versions() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	var versions []string
	for _, o := range s.opened {
		versions = append(versions, o.ResourceVersion)
	}
	return versions
}

// sink notes what it is told.
type sink struct{ told []string }

func (s *sink) Listed(pods []corev1.Pod) {
	told := []string{"listed"}
	for i := range pods {
		told = append(told, pods[i].Name)
	}
	s.told = append(s.told, strings.Join(told, " "))
}
func (s *sink) Seen(pod *corev1.Pod)    { s.told = append(s.told, "seen "+pod.Name) }
func (s *sink) Removed(pod *corev1.Pod) { s.told = append(s.told, "removed "+pod.Name) }
func (s *sink) Signalled(name, uid string, signal kube.Signal) {
	s.told = append(s.told, "signalled "+name+"/"+uid+" "+signal.Reason)
}

var (
	_ watch.Sink[corev1.Pod] = (*sink)(nil)
	_ watch.SignalSink       = (*sink)(nil)
)

func pod(name, version string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: name, ResourceVersion: version, UID: types.UID("uid-" + name), Labels: kube.Labels(name, "alice@example.org"),
	}}
}

func expired() error { return apierrors.NewResourceExpired("too old resource version: 1 (7)") }

func status(err error) *metav1.Status {
	var api apierrors.APIStatus
	if !errors.As(err, &api) {
		return &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError}
	}
	s := api.Status()
	return &s
}

// pass lets fake time pass.
func pass(d time.Duration) { <-time.After(d) }

// followed is a watch of pods from version 5 on, in a bubble of fake time.
type followed struct {
	*server
	*sink
	watch *watch.Watch
	err   chan error
	stop  context.CancelFunc
}

func follow(t *testing.T, change func(*server), test func(t *testing.T, f followed)) {
	t.Helper()
	s := newServer()
	synctest.Test(t, func(t *testing.T) {
		if change != nil {
			change(s)
		}
		f := followed{server: s, sink: &sink{}, watch: watch.New(s, namespace, zerolog.Nop()), err: make(chan error, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		f.stop = cancel
		defer cancel()
		go func() { f.err <- f.watch.Pods(ctx, "5", f.sink) }()
		test(t, f)
	})
}

// ends stops the watch, which must return nil.
func (f followed) ends(t *testing.T) {
	t.Helper()
	f.stop()
	if err := <-f.err; err != nil {
		t.Errorf("Pods = %v after the end of its context", err)
	}
}

func TestPodsFollows(t *testing.T) {
	t.Parallel()
	follow(t, nil, func(t *testing.T, f followed) {
		f.send(apiwatch.Added, pod("a", "6"))
		f.send(apiwatch.Bookmark, pod("", "7"))
		f.send(apiwatch.Modified, pod("a", "8"))
		f.send(apiwatch.Deleted, pod("a", "9"))
		f.send(apiwatch.Added, &corev1.Node{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "10"}})
		f.ends(t)
		if d := cmp.Diff([]string{"seen a", "seen a", "removed a"}, f.told); d != "" {
			t.Errorf("told (-want +got):\n%s", d)
		}
		timeout := int64(600)
		want := []metav1.ListOptions{{
			LabelSelector: kube.Selector, ResourceVersion: "5", AllowWatchBookmarks: true, TimeoutSeconds: &timeout,
		}}
		ignoreWatch := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Watch" }, cmp.Ignore())
		if d := cmp.Diff(want, f.opened, ignoreWatch); d != "" {
			t.Errorf("watches asked for (-want +got):\n%s", d)
		}
		if f.lists != 0 {
			t.Errorf("%d lists, want none", f.lists)
		}
	})
}

func TestPodsGoesOnWhereItLeftOff(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, f followed){
		"the server ends the watch in time": func(_ *testing.T, f followed) {
			pass(10 * time.Second)
			f.end()
		},
		"the server ends the watch at once": func(_ *testing.T, f followed) {
			f.end()
			pass(time.Second)
		},
		"an error that passes": func(_ *testing.T, f followed) {
			f.send(apiwatch.Error, status(apierrors.NewInternalError(errors.New("etcd has no leader"))))
			pass(time.Second)
		},
		"silence": func(t *testing.T, f followed) {
			synctest.Wait()
			pass(89 * time.Second)
			if age := f.watch.Age(); age != 89*time.Second {
				t.Errorf("age = %s, want 1m29s", age)
			}
			pass(2 * time.Second)
		},
	}
	for name, happens := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			follow(t, nil, func(t *testing.T, f followed) {
				f.send(apiwatch.Added, pod("a", "6"))
				f.send(apiwatch.Bookmark, pod("", "8"))
				synctest.Wait()
				happens(t, f)
				f.send(apiwatch.Added, pod("b", "9"))
				if d := cmp.Diff([]string{"5", "8"}, f.versions()); d != "" {
					t.Errorf("watches began at (-want +got):\n%s", d)
				}
				if f.lists != 0 {
					t.Errorf("%d lists, want none", f.lists)
				}
				f.ends(t)
				if d := cmp.Diff([]string{"seen a", "seen b"}, f.told); d != "" {
					t.Errorf("told (-want +got):\n%s", d)
				}
			})
		})
	}
}

// TestPodsBookmarksKeepAWatchAlive: what says nothing new still says something.
func TestPodsBookmarksKeepAWatchAlive(t *testing.T) {
	t.Parallel()
	follow(t, nil, func(t *testing.T, f followed) {
		for range 5 {
			f.send(apiwatch.Bookmark, pod("", "6"))
			synctest.Wait()
			pass(time.Minute)
		}
		if n := len(f.versions()); n != 1 {
			t.Errorf("%d watches were opened, want 1", n)
		}
		f.ends(t)
	})
}

func TestPodsListsAnew(t *testing.T) {
	t.Parallel()
	listed := func(int) (string, []corev1.Pod, error) { return "20", []corev1.Pod{*pod("a", "15")}, nil }
	tests := map[string]struct {
		change  func(*server)
		happens func(f followed)
		want    []string // What the watches began at.
		lists   int
	}{
		"the version is too old when the watch is opened": {
			change: func(s *server) {
				s.list = listed
				s.refuse = func(n int) error {
					if n == 1 {
						return expired()
					}
					return nil
				}
			},
			happens: func(followed) {}, want: []string{"5", "20"}, lists: 1,
		},
		"the watch says so later": {
			change:  func(s *server) { s.list = listed },
			happens: func(f followed) { f.send(apiwatch.Error, status(expired())) },
			want:    []string{"5", "20"}, lists: 1,
		},
		"the list fails at first: nothing may be watched without it": {
			change: func(s *server) {
				s.list = func(n int) (string, []corev1.Pod, error) {
					if n < 3 {
						return "", nil, apierrors.NewInternalError(errors.New("etcd has no leader"))
					}
					return listed(n)
				}
				s.refuse = func(n int) error {
					if n < 4 {
						return expired()
					}
					return nil
				}
			},
			happens: func(followed) { pass(2 * time.Second) }, want: []string{"5", "5", "5", "20"}, lists: 3,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			follow(t, tt.change, func(t *testing.T, f followed) {
				synctest.Wait()
				tt.happens(f)
				f.send(apiwatch.Added, pod("b", "21"))
				if d := cmp.Diff(tt.want, f.versions()); d != "" {
					t.Errorf("watches began at (-want +got):\n%s", d)
				}
				if f.lists != tt.lists {
					t.Errorf("%d lists, want %d", f.lists, tt.lists)
				}
				f.ends(t)
				if d := cmp.Diff([]string{"listed a", "seen b"}, f.told); d != "" {
					t.Errorf("told (-want +got):\n%s", d)
				}
			})
		})
	}
}

// TestPodsGoesEasyOnTheServer: whatever the API server answers, it is asked no
// more than twice a second.
func TestPodsGoesEasyOnTheServer(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change  func(*server)
		wantErr bool
	}{
		"watches that end as soon as they are open": {change: func(s *server) {
			s.PrependWatchReactor("*", func(action clienttesting.Action) (bool, apiwatch.Interface, error) {
				s.opened = append(s.opened, action.(clienttesting.WatchActionImpl).ListOptions)
				ended := make(chan apiwatch.Event)
				close(ended)
				return true, apiwatch.NewProxyWatcher(ended), nil
			})
		}},
		"versions that have always expired": {change: func(s *server) {
			s.refuse = func(int) error { return expired() }
			s.list = func(int) (string, []corev1.Pod, error) { return "20", nil, nil }
		}},
		"watches that cannot be opened": {wantErr: true, change: func(s *server) {
			s.refuse = func(int) error { return errors.New("connection refused") }
		}},
		"expired versions and lists that fail": {wantErr: true, change: func(s *server) {
			s.refuse = func(int) error { return expired() }
			s.list = func(int) (string, []corev1.Pod, error) { return "", nil, errors.New("connection refused") }
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			follow(t, tt.change, func(t *testing.T, f followed) {
				begun := time.Now()
				pass(20 * time.Second)
				asked := len(f.versions())
				if asked > 45 || f.lists > 45 {
					t.Errorf("%d watches and %d lists in %s", asked, f.lists, time.Since(begun))
				}
				if !tt.wantErr {
					f.ends(t)
					return
				}
				select {
				case err := <-f.err:
					if err == nil {
						t.Error("Pods = nil; want what keeps it from watching")
					}
				default:
					t.Error("Pods still tries after 20 s; somebody else should have his turn")
				}
			})
		})
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	event := func(reason, version string) *corev1.Event {
		return &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{ResourceVersion: version},
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "a", UID: "uid-a"}, Reason: reason,
		}
	}
	s := newServer()
	synctest.Test(t, func(t *testing.T) {
		told := &sink{}
		w := watch.New(s, namespace, zerolog.Nop())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- w.Events(ctx, told) }()
		s.send(apiwatch.Added, event("Pulling", "6"))
		s.send(apiwatch.Added, event("LeaderElection", "7"))
		s.send(apiwatch.Deleted, event("Pulled", "8"))
		s.send(apiwatch.Error, status(expired()))
		s.send(apiwatch.Modified, event("Failed", "9"))
		if d := cmp.Diff([]string{"", ""}, s.versions()); d != "" {
			t.Errorf("watches began at (-want +got):\n%s", d)
		}
		if got := s.opened[0].FieldSelector; got != kube.SignalSelector {
			t.Errorf("field selector = %q; other events are nobody's business", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Events = %v after the end of its context", err)
		}
		if d := cmp.Diff([]string{"signalled a/uid-a Pulling", "signalled a/uid-a Failed"}, told.told); d != "" {
			t.Errorf("told (-want +got):\n%s", d)
		}
	})
}

// TestAge is that of the watch of pods. That of events may be silent for ever: it
// is not opened again before the API server ends it.
func TestAge(t *testing.T) {
	t.Parallel()
	pods, events := newServer(), newServer()
	synctest.Test(t, func(t *testing.T) {
		w := watch.New(pods, namespace, zerolog.Nop())
		if age := w.Age(); age != 0 {
			t.Errorf("age = %s before anything was opened", age)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		// Both watches of one client would share the channel of the test's server.
		pods.PrependWatchReactor("events", func(clienttesting.Action) (bool, apiwatch.Interface, error) {
			i, err := events.CoreV1().Events(namespace).Watch(ctx, metav1.ListOptions{})
			return true, i, err
		})
		done := make(chan error, 2)
		go func() { done <- w.Pods(ctx, "5", &sink{}) }()
		go func() { done <- w.Events(ctx, &sink{}) }()
		synctest.Wait()
		pass(30 * time.Second)
		pods.send(apiwatch.Bookmark, pod("", "6"))
		synctest.Wait()
		pass(10 * time.Second)
		if age := w.Age(); age != 10*time.Second {
			t.Errorf("age = %s, want 10s", age)
		}
		for range 8 {
			pass(time.Minute)
			pods.send(apiwatch.Bookmark, pod("", "7"))
			synctest.Wait()
		}
		if n := len(events.versions()); n != 1 {
			t.Errorf("the events' watch was opened %d times in 8 minutes", n)
		}
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestListAndExists(t *testing.T) {
	t.Parallel()
	down := errors.New("connection refused")
	s := newServer()
	s.list = func(n int) (string, []corev1.Pod, error) {
		if n == 1 {
			return "", nil, down
		}
		return "7", []corev1.Pod{*pod("a", "6")}, nil
	}
	w := watch.New(s, namespace, zerolog.Nop())
	if _, err := w.List(t.Context()); !errors.Is(err, down) {
		t.Errorf("List = %v, want %v: no list is not an empty list", err, down)
	}
	if list, err := w.List(t.Context()); err != nil || len(list.Items) != 1 || list.ResourceVersion != "7" {
		t.Errorf("List = %v, %v", list, err)
	}

	objects := fake.NewClientset(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: namespace, UID: "uid-a"}})
	objects.PrependReactor("get", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		return action.(clienttesting.GetAction).GetName() == "unknown", nil, down
	})
	w = watch.New(objects, namespace, zerolog.Nop())
	tests := []struct {
		name, uid string
		want      bool
		wantErr   error
	}{
		{"a", "uid-a", true, nil},
		{"a", "", true, nil},
		{"a", "uid-b", false, nil},
		{"b", "uid-b", false, nil},
		{"unknown", "uid-a", false, down},
	}
	for _, tt := range tests {
		if got, err := w.Exists(t.Context(), tt.name, tt.uid); got != tt.want || !errors.Is(err, tt.wantErr) {
			t.Errorf("Exists(%q, %q) = %t, %v, want %t, %v", tt.name, tt.uid, got, err, tt.want, tt.wantErr)
		}
	}
}
