package client

import (
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Pod is a pod as the newest record of the log has it. Members that do not apply
// have their zero values.
type Pod struct {
	Name       string `json:"name"`
	User       string `json:"user_id"`
	Generation string `json:"generation"`
	// Event is the newest thing that happened, like waiting, ready or failed.
	Event string `json:"event"`
	// Reason and Message say why the pod waits, failed or ended.
	Reason      string    `json:"reason,omitempty"`
	Message     string    `json:"message,omitempty"`
	Warnings    []string  `json:"warnings,omitempty"`
	Silo        string    `json:"silo,omitempty"`
	Manifest    string    `json:"manifest_url,omitempty"`
	Container   string    `json:"container,omitempty"`
	Image       string    `json:"image,omitempty"`
	Licenses    []License `json:"licenses,omitempty"`
	Phase       string    `json:"phase,omitempty"`
	Node        string    `json:"node,omitempty"`
	NodeAddress string    `json:"node_address,omitempty"`
	Addresses   []string  `json:"addresses,omitempty"`
	Restarts    int       `json:"restarts,omitempty"`
	URL         string    `json:"url,omitempty"`
	SSH         string    `json:"ssh_url,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	LaunchedAt  time.Time `json:"launched_at,omitzero"`
	StartedAt   time.Time `json:"started_at,omitzero"`
	ReadyAt     time.Time `json:"ready_at,omitzero"`
	DeletingAt  time.Time `json:"deleting_at,omitzero"`
	// Restarting says that another pod of the project follows this one, which is deleted for it.
	Restarting bool `json:"restarting,omitempty"`
	// IdleStopAt is when the project will be stopped unless somebody uses it.
	IdleStopAt time.Time `json:"idle_stop_at,omitzero"`
	UpdatedAt  time.Time `json:"updated_at"`
	// Position is where in the log the newest thing stands; a stream resumes after it.
	Position string `json:"position"`
}

// License is what became of one site license when a pod was made.
type License struct {
	ID string `json:"id"`
	// Title is what people call it.
	Title  string `json:"title,omitempty"`
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
	// Patched says that operations of its patch are in the pod.
	Patched bool `json:"patched,omitempty"`
	// Machine says that its gpu or dedicated_vm has changed the pod.
	Machine bool `json:"machine,omitempty"`
}

// Create asks for a pod.
type Create struct {
	User        string
	ManifestURL string
	// Settings are variables by container and name.
	Settings map[string]map[string]string
	// Key is the Idempotency-Key: within an hour, the same key yields the same pod.
	// Without one the client makes one for this call.
	Key string
	// WaitReady waits until the pod is ready. What makes it fail is then a [*Problem]
	// with the reason and the name of the pod.
	WaitReady bool
}

// CreatePod makes a pod. Without WaitReady it returns when the pod has a name.
// While the service is busy or away the same request is made again, which never
// makes a second pod. After an error that is [Uncertain] one may be on its way.
func (c *Client) CreatePod(ctx context.Context, create Create) (Pod, error) {
	if create.Key == "" {
		create.Key = rand.Text()
	}
	query := url.Values{}
	if create.WaitReady {
		query.Set("wait", "ready")
	}
	body := struct {
		User        string                       `json:"user_id"`
		ManifestURL string                       `json:"manifest_url"`
		Settings    map[string]map[string]string `json:"settings,omitempty"`
	}{create.User, create.ManifestURL, create.Settings}
	var pod Pod
	err := c.ask(ctx, request{method: http.MethodPost, path: []string{"pods"}, query: query, body: body, key: create.Key, waits: create.WaitReady}, &pod)
	if err == nil && pod.Name == "" {
		err = foreign(errNoName)
	}
	return pod, err
}

var errNoName = errors.New("it has no name of a pod")

// Pod returns one pod of a user.
func (c *Client) Pod(ctx context.Context, user, name string) (Pod, error) {
	var pod Pod
	err := c.ask(ctx, request{path: []string{"pods", name}, query: ofUser(user)}, &pod)
	return pod, err
}

// Query says which pods are listed. Its zero value lists all that the caller may see.
type Query struct {
	// User is whose pods are listed, empty for all users that the caller may name.
	User string
	// Events keeps only pods whose newest event is one of these.
	Events []string
	// Ready, where set, keeps only pods that are ready, or only the others.
	Ready *bool
	// Limit is how many pods a page has; 0 leaves it to the service.
	Limit int
	// After is the [Page]'s Next, for the page after it.
	After string
}

// Page is a part of a list.
type Page struct {
	Pods []Pod `json:"pods"`
	// Next is for the next page; empty on the last one.
	Next string `json:"next_page_token"`
}

// ListPods returns one page of pods, by name.
func (c *Client) ListPods(ctx context.Context, q Query) (Page, error) {
	query := url.Values{}
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	set("user_id", q.User)
	set("event", strings.Join(q.Events, ","))
	set("page_token", q.After)
	if q.Ready != nil {
		set("ready", strconv.FormatBool(*q.Ready))
	}
	if q.Limit != 0 {
		set("limit", strconv.Itoa(q.Limit))
	}
	var page Page
	err := c.ask(ctx, request{path: []string{"pods"}, query: query}, &page)
	return page, err
}

// Pods returns all pods of a query, page after page. An error ends it.
func (c *Client) Pods(ctx context.Context, q Query) iter.Seq2[Pod, error] {
	return func(yield func(Pod, error) bool) {
		for {
			page, err := c.ListPods(ctx, q)
			if err != nil {
				yield(Pod{}, err)
				return
			}
			for _, pod := range page.Pods {
				if !yield(pod, nil) {
					return
				}
			}
			if page.Next == "" || page.Next == q.After {
				return
			}
			q.After = page.Next
		}
	}
}

// DeletePod asks for a pod to be deleted, and returns when it is certain that it
// will be; with wait when nothing of it is left. Where the service has done it but
// its answer was lost, the repeated request finds nothing: that is no error.
func (c *Client) DeletePod(ctx context.Context, user, name string, wait bool) error {
	query := ofUser(user)
	if wait {
		query.Set("wait", "gone")
	}
	r := request{method: http.MethodDelete, path: []string{"pods", name}, query: query, waits: wait}
	err := c.ask(ctx, r, nil)
	if _, repeated := errors.AsType[*repeatedError](err); repeated && NotFound(err) {
		return nil
	}
	return err
}

// Tokens returns the tokens that were copied out of a pod, by key. They are secrets.
func (c *Client) Tokens(ctx context.Context, user, name string) (map[string]string, error) {
	var answer struct {
		Tokens map[string]string `json:"tokens"`
	}
	err := c.ask(ctx, request{path: []string{"pods", name, "tokens"}, query: ofUser(user)}, &answer)
	return answer.Tokens, err
}

// Timeline is what happened to a pod.
type Timeline struct {
	Name       string  `json:"name"`
	User       string  `json:"user_id"`
	Generation string  `json:"generation"`
	Phases     []Phase `json:"phases"`
	// ReadyAfter is how long it took until the pod was ready, in seconds; nil if it
	// never was.
	ReadyAfter *float64 `json:"ready_after_seconds,omitempty"`
	// Total is how long the pod has been there, in seconds.
	Total float64 `json:"total_seconds"`
	// Incomplete says that phases may be missing, which the log has forgotten: then one
	// may seem to last longer than it did.
	Incomplete bool `json:"incomplete,omitempty"`
}

// Phase is a time in which a pod was in one state.
type Phase struct {
	Event   string `json:"event"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// By is the service that said so.
	By      string    `json:"by"`
	Started time.Time `json:"started_at"`
	// Duration is how long the phase took, or has taken so far, in seconds.
	Duration float64 `json:"duration_seconds"`
	Position string  `json:"position"`
}

// Timeline returns what happened to a pod of a user, also to one that is gone. An
// empty generation stands for the newest.
func (c *Client) Timeline(ctx context.Context, user, name, generation string) (Timeline, error) {
	query := ofUser(user)
	if generation != "" {
		query.Set("generation", generation)
	}
	var timeline Timeline
	err := c.ask(ctx, request{path: []string{"pods", name, "timeline"}, query: query}, &timeline)
	return timeline, err
}

func ofUser(user string) url.Values { return url.Values{"user_id": {user}} }
