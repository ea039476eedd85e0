package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/service/config"
)

// TestWipedLog: JetStream is lost under running pods. Until the log has been
// rebuilt from the cluster nobody is told "no"; then everything goes on, and no
// pod was touched.
func TestWipedLog(t *testing.T) {
	t.Parallel()
	const user, other = "erin@wiped.org", "frank@wiped.org"
	p, services := whole(t)
	ready := p.create(t, user, "notebook")
	if !p.ready(t, user, ready) {
		t.Fatal("not ready")
	}
	foreign := p.create(t, other, "notebook")
	if !p.ready(t, other, foreign) {
		t.Fatal("not ready")
	}
	uids := map[string]*corev1.Pod{}
	for _, name := range p.objects(t) {
		uids[name], _ = p.pod(t, name)
	}
	waiting := p.create(t, user, "slow-start")
	p.reaches(t, waiting, events.Waiting)

	// Without a watcher nobody can rebuild it: what is missing stays unknown.
	services["watcher"].stop(t)
	p.nats.Wipe()
	eventually(t, "the api has noticed", func() bool {
		status, _, _ := p.post(t, "get_pods", `{"user_id":"`+user+`"}`)
		return status == http.StatusServiceUnavailable
	})
	for endpoint, body := range map[string]map[string]any{
		"get_pods":         {"user_id": user},
		"watch_create_pod": {"user_id": user, "pod_name": ready},
		"watch_delete_pod": {"user_id": user, "pod_name": ready},
		"delete_pod":       {"user_id": user, "pod_name": ready},
		"create_pod":       {"user_id": user, "yaml_url": p.ManifestsURL + "/notebook.yaml"},
	} {
		if a := p.once(t, endpoint, body); a.Status != http.StatusServiceUnavailable || a.Error.Code != string(events.Unavailable) {
			t.Errorf("%s: %d %s, want 503 UNAVAILABLE", endpoint, a.Status, a.Text)
		}
	}
	p.replica(t, "watcher")
	p.compared(t)

	for name, of := range map[string]string{ready: user, foreign: other} {
		info := p.info(t, of, name)
		want := podInfo{
			Name: name, Container: "notebook", Image: "docker.io/jupyter/base-notebook:python-3.11", IP: uids[name].Status.PodIP,
			NodeIP: uids[name].Status.HostIP, Owner: of, Age: info.Age, Status: info.Status, Event: "ready",
			Tokens: map[string]string{}, Kubernetes: map[string]string{},
		}
		if d := cmp.Diff(want, info); d != "" {
			t.Errorf("get_pods of %s (-want +got):\n%s", of, d)
		}
		if !p.ready(t, of, name) {
			t.Errorf("%s is not ready", name)
		}
		if now, err := p.pod(t, name); err != nil || now.UID != uids[name].UID {
			t.Errorf("%s is not the pod that it was: %v", name, err)
		}
	}
	// What was on its way still is, and has its time.
	if !p.ready(t, user, waiting) {
		t.Errorf("%s is not ready; history %v", waiting, types(p.history(t, waiting, events.Gone)))
	}
	// Its generation is still the one that its objects carry.
	for _, name := range p.objects(t) {
		history := p.history(t, name, events.Ready)
		made, err := p.pod(t, name)
		if err != nil {
			t.Fatal(err)
		}
		if got := made.Annotations["berth.dev/generation"]; got != history[0].Generation || history[0].Event != events.Launched {
			t.Errorf("%s: %s of generation %s begins the new log, and the pod carries %s", name, history[0].Event, history[0].Generation, got)
		}
	}
	for name, of := range map[string]string{ready: user, foreign: other, waiting: user} {
		p.remove(t, of, name)
		p.gone(t, of, name)
	}
	again := p.create(t, user, "notebook")
	if again != ready || !p.ready(t, user, again) {
		t.Errorf("%s cannot be made again", ready)
	}
}

// TestReplacedServer: NATS is replaced by an empty server while 100 pods run, and
// nothing else is restarted. Nobody hears a "no", nothing is removed, and then
// all is as it was, timers included.
func TestReplacedServer(t *testing.T) {
	t.Parallel()
	const users, each = 20, 5
	p, _ := whole(t, func(c *config.Config) { c.TimeoutCreate = 25 * time.Second })
	for _, service := range all() {
		p.replica(t, service)
	}
	p.compared(t)
	owner := func(n int) string { return fmt.Sprintf("user%d@replaced.org", n) }
	var making sync.WaitGroup
	for n := range users {
		making.Go(func() {
			for range each {
				if pod := p.create(t, owner(n), "notebook"); !p.ready(t, owner(n), pod) {
					t.Errorf("%s is not ready", pod)
				}
			}
		})
	}
	making.Wait()
	stuck := p.create(t, "stuck@replaced.org", "never-ready")
	p.reaches(t, stuck, events.Running)
	before := p.uids(t)
	bus := p.bus(t)
	// rebuilt says that the watcher has begun the new log: it begins with what runs.
	rebuilt := func() bool {
		history, err := bus.History(t.Context(), stuck)
		return err == nil && len(history) > 0 && history[0].Event == events.Launched
	}

	p.nats.Wipe()
	deadline := time.After(limit)
	for refused, right := 0, false; !right; {
		select {
		case <-deadline:
			t.Fatal("it is not right again")
		default:
		}
		right = true
		for n := range users {
			status, text, err := p.try(t, "get_pods", fmt.Sprintf(`{"user_id":%q}`, owner(n)))
			switch {
			case err == nil && status == http.StatusServiceUnavailable:
				refused++
				right = false
			case err != nil || status != http.StatusOK || strings.Count(text, `"pod_name"`) != each:
				t.Fatalf("after %d times 503: %d %s, error %v", refused, status, text, err)
			}
		}
		if right && refused == 0 {
			right = rebuilt() // Else nobody has noticed yet.
		}
	}
	if d := cmp.Diff(before, p.uids(t)); d != "" {
		t.Errorf("pods (-before +after):\n%s", d)
	}
	p.fails(t, stuck, events.Timeout, "NOT_READY")
	for n := range users {
		making.Go(func() {
			for _, info := range p.list(t, owner(n)) {
				p.remove(t, owner(n), info.Name)
				p.gone(t, owner(n), info.Name)
			}
			if pod := p.create(t, owner(n), "notebook"); !p.ready(t, owner(n), pod) {
				t.Errorf("%s is not ready after the rebuild", pod)
			}
		})
	}
	making.Wait()
}

// uids are the pods in the namespace by name.
func (s *site) uids(t *testing.T) map[string]string {
	t.Helper()
	list, err := s.kube.CoreV1().Pods(s.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	uids := map[string]string{}
	for i := range list.Items {
		uids[list.Items[i].Name] = string(list.Items[i].UID)
	}
	return uids
}

// TestWipedLogForgetsNoTimer: a pod that never gets ready is not kept for ever
// because its timer was lost.
func TestWipedLogForgetsNoTimer(t *testing.T) {
	t.Parallel()
	const user = "grace@wiped.org"
	p, _ := whole(t, hasty)
	pod := p.create(t, user, "never-ready")
	p.reaches(t, pod, events.Running)
	p.nats.Wipe()
	p.fails(t, pod, events.Timeout, "NOT_READY")
}

// TestRestartedLog: the server is away for a moment, and comes back with what it had.
func TestRestartedLog(t *testing.T) {
	t.Parallel()
	const user = "heidi@restarted.org"
	p, _ := whole(t)
	pod := p.create(t, user, "unready")
	watched := make(chan answer, 1)
	go func() { watched <- p.ask(t, "watch_create_pod", map[string]any{"user_id": user, "pod_name": pod}) }()
	p.reaches(t, pod, events.Running)
	p.nats.Restart()
	if a := receive(t, "the answer to the watcher", watched); a.Status == http.StatusOK && !a.Ready {
		t.Errorf("it was told %s; the pod is being made", a.Text)
	}
	p.compared(t)
	if !p.ready(t, user, pod) {
		t.Error("not ready")
	}
	p.remove(t, user, pod)
	p.gone(t, user, pod)
	p.lives(t, pod)
}

// TestExpired: no creator takes the command. The answer says that nothing will
// be made, and a creator that comes later obeys.
func TestExpired(t *testing.T) {
	t.Parallel()
	const user = "ivan@expired.org"
	p := newParts(t, func(c *config.Config) { c.CreateDeadline = time.Second })
	p.start(t, "watcher", "licenser", "deleter", "api")
	p.compared(t)
	status, text, header := p.post(t, "create_pod", `{"user_id":"`+user+`","yaml_url":"`+p.ManifestsURL+`/notebook.yaml"}`)
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("create: %d %s, Retry-After %q", status, text, header.Get("Retry-After"))
	}
	queued := eventstest.Queued(t, p.nats, events.StageCreate)
	if len(queued) != 1 {
		t.Fatalf("%d creates are queued, want the one that nobody took", len(queued))
	}
	outcome, err := p.bus(t).Outcome(t.Context(), queued[0].ID)
	if err != nil || outcome.Verdict != events.Expiry || outcome.Reason != events.Expired {
		t.Errorf("outcome = %+v, %v", outcome, err)
	}
	p.replica(t, "creator")
	p.idle(t)
	if pods := p.list(t, user); len(pods) > 0 {
		t.Errorf("made all the same: %+v", pods)
	}
	if left := p.objects(t); len(left) > 0 {
		t.Errorf("in the cluster: %v", left)
	}
}
