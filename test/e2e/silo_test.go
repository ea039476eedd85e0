package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

// limit bounds everything that a test waits for: a machine that does other things as well may take minutes for what
// takes a second.
const limit = 3 * time.Minute

// answer is what any endpoint says.
type answer struct {
	// Again says that it was asked for before, and nobody could say what came of that.
	Again bool `json:"-"`

	Status    int    `json:"-"`
	Text      string `json:"-"`
	Pod       string `json:"pod_name"`
	Ready     bool   `json:"ready"`
	Requested bool   `json:"requested"`
	Deleted   bool   `json:"deleted"`
	Error     struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

type podInfo struct {
	Name       string            `json:"pod_name"`
	Container  string            `json:"container_name"`
	Image      string            `json:"image_name"`
	IP         string            `json:"pod_ip"`
	NodeIP     string            `json:"node_ip"`
	Owner      string            `json:"owner"`
	Age        string            `json:"age"`
	Status     string            `json:"status"`
	Event      string            `json:"event"`
	Reason     string            `json:"reason"`
	Message    string            `json:"message"`
	Warnings   []string          `json:"warnings"`
	Tokens     map[string]string `json:"tokens"`
	Kubernetes map[string]string `json:"k8s_pod_info"`
	URL        string            `json:"url"`
	SSHURL     string            `json:"ssh_url"`
}

// post sends a body as it is.
func (s *site) post(t *testing.T, endpoint, body string) (int, []byte, http.Header) {
	t.Helper()
	status, text, header, err := s.send(t, endpoint, body)
	if err != nil {
		t.Fatalf("POST /%s: %v", endpoint, err)
	}
	return status, text, header
}

// try is post to a replica that may go away; the status is 0 then.
func (s *site) try(t *testing.T, endpoint, body string) (status int, text string, err error) {
	t.Helper()
	status, read, _, err := s.send(t, endpoint, body)
	return status, string(read), err
}

func (s *site) send(t *testing.T, endpoint, body string) (int, []byte, http.Header, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/"+endpoint, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := shared.http.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, nil, err
	}
	return resp.StatusCode, text, resp.Header, nil
}

// ask asks as a silo does: again, as long as it is told that nobody knows. That is so
// where services are stopped and killed, and on a machine that is too busy for a replica
// to hear of its log for some seconds.
func (s *site) ask(t *testing.T, endpoint string, request map[string]any) answer {
	t.Helper()
	var a answer
	eventually(t, "/"+endpoint+" is answered", func() bool {
		again := a.Status != 0
		a = s.once(t, endpoint, request)
		a.Again = again
		return a.Status != http.StatusServiceUnavailable
	})
	return a
}

// once takes whatever is answered.
func (s *site) once(t *testing.T, endpoint string, request map[string]any) answer {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	status, text, _ := s.post(t, endpoint, string(body))
	a := answer{Status: status, Text: string(text)}
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatalf("POST /%s: %v in %q", endpoint, err, text)
	}
	return a
}

// create asks for a pod from a manifest of testdata and returns its name.
func (s *site) create(t *testing.T, user, manifest string) string {
	t.Helper()
	a := s.tryCreate(t, user, manifest, nil)
	if a.Status != http.StatusOK || a.Pod == "" {
		t.Fatalf("create %s: %d %s", manifest, a.Status, a.Text)
	}
	return a.Pod
}

func (s *site) tryCreate(t *testing.T, user, manifest string, settings map[string]map[string]string) answer {
	t.Helper()
	return s.ask(t, "create_pod", map[string]any{
		"user_id": user, "yaml_url": s.ManifestsURL + "/" + manifest + ".yaml", "settings": settings,
	})
}

func (s *site) ready(t *testing.T, user, pod string) bool {
	t.Helper()
	a := s.ask(t, "watch_create_pod", map[string]any{"user_id": user, "pod_name": pod})
	if a.Status != http.StatusOK {
		t.Fatalf("watch_create_pod %s: %d %s", pod, a.Status, a.Text)
	}
	return a.Ready
}

func (s *site) remove(t *testing.T, user, pod string) {
	t.Helper()
	a := s.ask(t, "delete_pod", map[string]any{"user_id": user, "pod_name": pod})
	if a.Again && a.Status == http.StatusNotFound {
		return
	}
	if a.Status != http.StatusOK || !a.Requested {
		t.Fatalf("delete_pod %s: %d %s", pod, a.Status, a.Text)
	}
}

// gone waits for the pod's end and checks that nothing of it is left. A delete that takes longer than timeoutDelete is
// watched again.
func (s *site) gone(t *testing.T, user, pod string) {
	t.Helper()
	eventually(t, pod+" is gone", func() bool {
		a := s.ask(t, "watch_delete_pod", map[string]any{"user_id": user, "pod_name": pod})
		if a.Status != http.StatusOK {
			t.Fatalf("watch_delete_pod %s: %d %s", pod, a.Status, a.Text)
		}
		return a.Deleted
	})
	if _, err := s.pod(t, pod); !apierrors.IsNotFound(err) {
		t.Errorf("pod %s after deleted:true: %v, want not found", pod, err)
	}
}

func (s *site) list(t *testing.T, user string) []podInfo {
	t.Helper()
	var pods []podInfo
	eventually(t, "/get_pods is answered", func() bool {
		status, text, _ := s.post(t, "get_pods", fmt.Sprintf(`{"user_id":%q}`, user))
		if status == http.StatusServiceUnavailable {
			return false
		}
		if err := json.Unmarshal(text, &pods); err != nil || status != http.StatusOK || bytes.Equal(text, []byte("null")) {
			t.Fatalf("get_pods: %d %s (%v)", status, text, err)
		}
		return true
	})
	return pods
}

// info returns what is shown of one pod.
func (s *site) info(t *testing.T, user, pod string) podInfo {
	t.Helper()
	for _, p := range s.list(t, user) {
		if p.Name == pod {
			return p
		}
	}
	return podInfo{}
}

// pod asks the API server.
func (s *site) pod(t *testing.T, name string) (*corev1.Pod, error) {
	t.Helper()
	return s.kube.CoreV1().Pods(s.namespace).Get(t.Context(), name, metav1.GetOptions{})
}

// history follows the log of a pod from its beginning until an event, and
// returns all records.
func (s *site) history(t *testing.T, pod string, until events.Type) []natsbus.Entry {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	bus := s.bus(t)
	var entries []natsbus.Entry
	eventually(t, fmt.Sprintf("%s is %s", pod, until), func() bool {
		var err error
		if entries, err = bus.History(ctx, pod); err != nil && !errors.Is(err, natsbus.ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil && len(entries) > 0 && entries[len(entries)-1].Event == until
	})
	return entries
}

// known asks the log until it answers: on a busy machine its leader may be silent for some seconds.
func known[T any](t *testing.T, what string, ask func() (T, error)) T {
	t.Helper()
	var answer T
	eventually(t, "the log tells of "+what, func() bool {
		var err error
		if answer, err = ask(); err != nil && !errors.Is(err, natsbus.ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	return answer
}

// past is what the log has of a pod.
func (s *site) past(t *testing.T, pod string) []natsbus.Entry {
	t.Helper()
	bus := s.bus(t)
	return known(t, pod, func() ([]natsbus.Entry, error) { return bus.History(t.Context(), pod) })
}

// bus is a connection to the log, as a third party has it.
func (s *site) bus(t *testing.T) *natsbus.Bus {
	t.Helper()
	opts := s.log
	opts.Service, opts.Instance, opts.Cluster = natsbus.Operator, "test", s.cluster
	bus, err := natsbus.Connect(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	return bus
}

// eventually polls until cond is true.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", limit, what)
		case <-tick.C:
		}
	}
}

// types is the history as a list of events.
func types(entries []natsbus.Entry) []events.Type {
	out := make([]events.Type, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Event)
	}
	return out
}

// receive takes a value from a channel within the limit.
func receive[T any](t *testing.T, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(limit):
		t.Fatalf("not within %s: %s", limit, what)
	}
	return v
}
