package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth/pkg/events"
	"berth/pkg/kube"
)

// TestTour is the main job: create, watch, list, delete, watch.
func TestTour(t *testing.T) {
	t.Parallel()
	const user = "tour@example.org"
	begun := time.Now()
	name := shared.create(t, user, "notebook")
	if want := "notebook-tour-example-org"; name != want {
		t.Errorf("name = %q, want %q", name, want)
	}
	if !shared.ready(t, user, name) {
		t.Fatal("not ready")
	}
	pods := shared.list(t, user)
	if len(pods) != 1 {
		t.Fatalf("%d pods, want 1", len(pods))
	}
	made, err := shared.pod(t, name)
	if err != nil {
		t.Fatal(err)
	}
	p := pods[0]
	want := podInfo{
		Name: name, Container: "notebook", Image: "docker.io/jupyter/base-notebook:python-3.11", IP: made.Status.PodIP,
		NodeIP: made.Status.HostIP, Owner: user, Age: p.Age, Event: "ready",
		Status: "Running:" + made.Status.StartTime.UTC().Format("2006-01-02T15:04:05Z"),
		Tokens: map[string]string{}, Kubernetes: map[string]string{},
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("get_pods (-want +got):\n%s", diff)
	}
	var hours, minutes, seconds int
	_, err = fmt.Sscanf(p.Age, "%d:%d:%d", &hours, &minutes, &seconds)
	if most := int(time.Since(begun).Seconds()) + 1; err != nil || hours != 0 || 60*minutes+seconds > most {
		t.Errorf("age = %q (%v), want 0:0:… up to %d s", p.Age, err, most)
	}
	for label, want := range map[string]string{"user": "tour", "domain": "example.org", "podName": name} {
		if got := made.Labels[label]; got != want {
			t.Errorf("label %s = %q, want %q", label, got, want)
		}
	}
	if made.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		t.Errorf("restart policy %q", made.Spec.RestartPolicy)
	}
	shared.remove(t, user, name)
	shared.gone(t, user, name)
	if rest := shared.list(t, user); len(rest) != 0 {
		t.Errorf("after delete: %v, want none", rest)
	}

	history := shared.history(t, name, events.Gone)
	got := slices.DeleteFunc(types(history), func(e events.Type) bool { return e == events.Waiting || e == events.Running })
	order := []events.Type{
		events.Claimed, events.Licensed, events.Launching, events.Launched, events.Ready, events.Deleting, events.Gone,
	}
	if diff := cmp.Diff(order, got); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	for _, e := range history {
		if e.Generation != history[0].Generation || e.User != user || e.Command != history[0].Command {
			t.Errorf("%s: generation %s of %s by %s, want those of the claim", e.Event, e.Generation, e.User, e.Command)
		}
	}
	command, generation := kube.Life(made)
	if command != history[0].Command || generation != history[0].Generation {
		t.Errorf("the pod was marked as %s of %s, the log says %s of %s", generation, command, history[0].Generation, history[0].Command)
	}
}

// TestReadyBeforeTheWatch: the old backend missed it, and deleted the pod.
func TestReadyBeforeTheWatch(t *testing.T) {
	t.Parallel()
	const user = "early@example.org"
	name := shared.create(t, user, "notebook")
	eventually(t, "ready in the list", func() bool { return shared.info(t, user, name).Event == "ready" })
	for range 3 {
		if !shared.ready(t, user, name) {
			t.Fatal("a pod that is ready is not told so")
		}
	}
	shared.remove(t, user, name)
	shared.gone(t, user, name)
}

// TestManyUsers: every watcher is answered, and no object is left.
func TestManyUsers(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	places := make(chan struct{}, 10)
	for i := range 20 {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			user := fmt.Sprintf("many%02d@example.org", i)
			name := shared.create(t, user, "notebook")
			if !shared.ready(t, user, name) {
				t.Errorf("%s is not ready", name)
			}
			for range 5 {
				if shared.info(t, user, name).Name != name {
					t.Errorf("%s is not listed", name)
				}
			}
			shared.remove(t, user, name)
			shared.gone(t, user, name)
		})
	}
	all.Wait()
}

// TestNames: an own name, nine alternatives, then an error; and users whose ids
// look alike share nothing.
func TestNames(t *testing.T) {
	t.Parallel()
	const user = "a.b@names.org"
	var names []string
	for range 10 {
		names = append(names, shared.create(t, user, "notebook"))
	}
	a := shared.tryCreate(t, user, "notebook", nil)
	if a.Status != http.StatusConflict || a.Error.Code != string(events.NameExhausted) || a.Pod != "" {
		t.Errorf("the eleventh: %d %s, want 409 NAME_EXHAUSTED", a.Status, a.Text)
	}
	const lookAlike = "a-b@names.org"
	other := shared.create(t, lookAlike, "notebook")
	slices.Sort(names)
	if len(slices.Compact(slices.Clone(names))) != 10 {
		t.Errorf("names repeat: %v", names)
	}
	if pods := shared.list(t, lookAlike); len(pods) != 1 || pods[0].Name != other || slices.Contains(names, other) {
		t.Errorf("the pods of a user whose id looks alike: %v, want just %s", pods, other)
	}
	shared.remove(t, lookAlike, other)
	shared.gone(t, lookAlike, other)
	for _, name := range names {
		shared.remove(t, user, name)
	}
	for _, name := range names {
		shared.gone(t, user, name)
	}
}

// TestForeign: what is another user's answers like what does not exist.
func TestForeign(t *testing.T) {
	t.Parallel()
	const owner, stranger = "owner@foreign.org", "stranger@foreign.org"
	name := shared.create(t, owner, "notebook")
	for _, endpoint := range []string{"watch_create_pod", "delete_pod", "watch_delete_pod"} {
		foreign := shared.ask(t, endpoint, map[string]any{"user_id": stranger, "pod_name": name})
		missing := shared.ask(t, endpoint, map[string]any{"user_id": stranger, "pod_name": "never-was"})
		if diff := cmp.Diff(missing, foreign); diff != "" {
			t.Errorf("%s tells a foreign pod from a missing one (-missing +foreign):\n%s", endpoint, diff)
		}
	}
	if !shared.ready(t, owner, name) {
		t.Error("the owner's pod is not ready")
	}
	shared.remove(t, owner, name)
	// Being deleted already is no fault; by now it may have come to its end.
	again := shared.ask(t, "delete_pod", map[string]any{"user_id": owner, "pod_name": name})
	if again.Status != http.StatusOK && again.Status != http.StatusNotFound {
		t.Errorf("delete_pod once more: %d %s", again.Status, again.Text)
	}
	shared.gone(t, owner, name)
}

// TestSettings: variables are set and added, and Berth's own win.
func TestSettings(t *testing.T) {
	t.Parallel()
	const user = "settings@example.org"
	a := shared.tryCreate(t, user, "notebook", map[string]map[string]string{
		"notebook": {"WORKING_DIRECTORY": "thesis", "NEW": "1"}, "missing": {"X": "y"},
	})
	if a.Status != http.StatusOK {
		t.Fatalf("create: %d %s", a.Status, a.Text)
	}
	shared.ready(t, user, a.Pod)
	made, err := shared.pod(t, a.Pod)
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, v := range made.Spec.Containers[0].Env {
		env[v.Name] = v.Value
	}
	want := map[string]string{
		"WORKING_DIRECTORY": "thesis", "NEW": "1", "SD_UID": user, "HOME_SERVER_IP": "10.2.0.12", "HOME_SERVER_HOSTNAME": "silo1.example.org",
	}
	if diff := cmp.Diff(want, env); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
	for _, e := range shared.history(t, a.Pod, events.Ready) {
		if text, err := json.Marshal(e.Record); err != nil || strings.Contains(string(text), "thesis") {
			t.Errorf("%s has a variable in the log: %s (%v)", e.Event, text, err)
		}
	}
	if w := shared.info(t, user, a.Pod).Warnings; len(w) != 1 || !strings.Contains(w[0], "missing") {
		t.Errorf("warnings = %q, want one that names the container", w)
	}
	shared.remove(t, user, a.Pod)
	shared.gone(t, user, a.Pod)
}
