package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// gets is how often each user asks for the list of pods.
	gets = 5
	// answerLimit bounds one answer; it is above the time-outs of Berth itself.
	answerLimit = 2 * time.Minute
	// againAfter is the pause after a 503.
	againAfter = 100 * time.Millisecond
)

// berth is the way to a pod through Berth's API. It is safe for concurrent use.
type berth struct {
	url, manifest string
	token         string // The key that every pod must have a token of; empty for none.
	admin         string // The administrator's token; empty for none.
	http          *http.Client
	clients       kubernetes.Interface
	namespace     string
}

var _ side = (*berth)(nil)

// newBerth returns a client that keeps as many connections alive as there are
// requests at once.
func newBerth(url, manifest string, clients kubernetes.Interface, namespace string, connections int) *berth {
	transport := &http.Transport{MaxIdleConns: connections, MaxIdleConnsPerHost: connections}
	return &berth{
		url: url, manifest: manifest, clients: clients, namespace: namespace,
		http: &http.Client{Transport: transport, Timeout: answerLimit},
	}
}

func (b *berth) open(context.Context) (func(), error) { return b.close, nil }

func (b *berth) close() { b.http.CloseIdleConnections() }

// life is what a silo does for a user: create, watch, list, delete, watch.
func (b *berth) life(ctx context.Context, user string, t *times) error {
	begun := time.Now()
	name, err := b.create(ctx, user)
	if err != nil {
		return err
	}
	t.ready.add(begun)
	for range gets {
		asked := time.Now()
		if err := b.list(ctx, user, name); err != nil {
			return err
		}
		t.list.add(asked)
	}
	begun = time.Now()
	if err := b.remove(ctx, user, name); err != nil {
		return err
	}
	t.gone.add(begun)
	return absent(ctx, b.clients, b.namespace, name)
}

// create asks for a pod and waits until it is ready.
func (b *berth) create(ctx context.Context, user string) (name string, err error) {
	if name, err = b.launch(ctx, user); err != nil {
		return "", err
	}
	return name, b.awaitReady(ctx, user, name)
}

// launch asks for a pod.
func (b *berth) launch(ctx context.Context, user string) (name string, err error) {
	var created struct {
		Pod string `json:"pod_name"`
	}
	if err := b.post(ctx, "/create_pod", map[string]any{"user_id": user, "yaml_url": b.manifest}, &created); err != nil {
		return "", err
	}
	if created.Pod == "" {
		return "", errors.New("/create_pod: no pod_name")
	}
	return created.Pod, nil
}

// awaitReady waits until a pod is ready.
func (b *berth) awaitReady(ctx context.Context, user, pod string) error {
	var watched struct {
		Ready bool `json:"ready"`
	}
	if err := b.post(ctx, "/watch_create_pod", podOf(user, pod), &watched); err != nil {
		return err
	}
	if !watched.Ready {
		return fmt.Errorf("/watch_create_pod: %s is not ready", pod)
	}
	return nil
}

// list asks for the user's pods; the one pod must be there, and running.
func (b *berth) list(ctx context.Context, user, name string) error {
	var pods []struct {
		Name   string `json:"pod_name"`
		Owner  string `json:"owner"`
		Status string `json:"status"`

		Tokens map[string]string `json:"tokens"`
	}
	if err := b.post(ctx, "/get_pods", map[string]any{"user_id": user}, &pods); err != nil {
		return err
	}
	if len(pods) != 1 || pods[0].Name != name || pods[0].Owner != user || !strings.HasPrefix(pods[0].Status, "Running:") {
		return fmt.Errorf("/get_pods: %d pods, want just %s of %s, running", len(pods), name, user)
	}
	if b.token != "" && pods[0].Tokens[b.token] == "" {
		return fmt.Errorf("/get_pods: %s has no token %s", name, b.token)
	}
	return nil
}

// remove asks for the end of a pod and waits until it is gone.
func (b *berth) remove(ctx context.Context, user, name string) error {
	var answer struct {
		Requested bool `json:"requested"`
		Deleted   bool `json:"deleted"`
	}
	if err := b.post(ctx, "/delete_pod", podOf(user, name), &answer); err != nil {
		return err
	}
	if !answer.Requested {
		return fmt.Errorf("/delete_pod: the delete of %s was not requested", name)
	}
	if err := b.post(ctx, "/watch_delete_pod", podOf(user, name), &answer); err != nil {
		return err
	}
	if !answer.Deleted {
		return fmt.Errorf("/watch_delete_pod: %s is not deleted", name)
	}
	return nil
}

func podOf(user, name string) map[string]any {
	return map[string]any{"user_id": user, "pod_name": name}
}

// post sends a request and reads its answer, which must be 200.
func (b *berth) post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	answer, err := b.do(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: read answer: %w", path, err)
	}
	return nil
}

// get reads a page, which must be 200.
func (b *berth) get(ctx context.Context, path string) (string, error) {
	answer, err := b.do(ctx, http.MethodGet, path, nil)
	return string(answer), err
}

// do asks as a silo does: again while it is told that nobody knows, as on a machine that is too busy.
func (b *berth) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	for begun := time.Now(); ; {
		answer, status, err := b.once(ctx, method, path, body)
		switch {
		case err != nil:
			return nil, err
		case status/100 == 2:
			return answer, nil
		case status == http.StatusServiceUnavailable && time.Since(begun) < answerLimit && pause(ctx, againAfter):
		default:
			return nil, fmt.Errorf("%s: status %d: %s", path, status, bytes.TrimSpace(answer))
		}
	}
}

func (b *berth) once(ctx context.Context, method, path string, body []byte) (answer []byte, status int, err error) {
	request, err := http.NewRequestWithContext(ctx, method, b.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	request.Header.Set("Content-Type", "application/json")
	if b.admin != "" {
		request.Header.Set("Authorization", "Bearer "+b.admin)
	}
	response, err := b.http.Do(request)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	defer response.Body.Close()
	// To its end, or the connection is not kept alive.
	if answer, err = io.ReadAll(response.Body); err != nil {
		return nil, 0, fmt.Errorf("%s: read answer: %w", path, err)
	}
	return answer, response.StatusCode, nil
}

// learn makes a pod for user 0 and returns it as the API server has it.
func (b *berth) learn(ctx context.Context) (*corev1.Pod, error) {
	name, err := b.create(ctx, userID(0))
	if err != nil {
		return nil, err
	}
	pod, err := b.clients.CoreV1().Pods(b.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get pod: %w", err)
	}
	return pod, b.remove(ctx, userID(0), name)
}

// leftover asks for everything that Berth may make.
func (b *berth) leftover(ctx context.Context) error {
	pods, err := b.clients.CoreV1().Pods(b.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	if n := len(pods.Items); n > 0 {
		err = fmt.Errorf("%d pods are left in the cluster", n)
	}
	return errors.Join(err, nothingLeft(ctx, b.clients, b.namespace))
}

// absent returns an error unless the API server says that there is no such pod.
func absent(ctx context.Context, clients kubernetes.Interface, namespace, name string) error {
	_, err := clients.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("look for %s: %w", name, err)
	}
	return fmt.Errorf("%s is said to be gone, but the API server has it", name)
}
