package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// ProjectUser is the user id of a project, a UUID in lower case: its pod is found, followed and has its
// timeline under it.
func ProjectUser(project string) string { return "project:" + project }

// ProjectPod is the name of a project's pod.
func ProjectPod(project string) string { return "project-" + project }

// Project is what is known of a project.
type Project struct {
	ID string `json:"project_id"`
	// Event is the newest thing that happened to its pod, empty where the log knows of none;
	// Reason and Message say why.
	Event    string    `json:"event,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Message  string    `json:"message,omitempty"`
	IdleStop time.Time `json:"idle_stop_at,omitzero"`
	// Licenses is what became of each license when the pod was made, or last.
	Licenses []License `json:"licenses,omitempty"`
	// Pod is its pod, nil where it has none.
	Pod *Pod `json:"pod,omitempty"`
	// Start is how its pod was made last, nil where the log does not say.
	Start    *ProjectStart  `json:"last_start,omitempty"`
	Database ProjectDetails `json:"database"`
}

// ProjectStart is how a project's pod was made. Explanation is an [Explanation] without values of variables.
type ProjectStart struct {
	Generation  string          `json:"generation"`
	At          time.Time       `json:"at"`
	Quota       json.RawMessage `json:"quota,omitempty"`
	Explanation json.RawMessage `json:"explanation,omitempty"`
	Settings    string          `json:"settings_digest,omitempty"`
	Template    string          `json:"template_digest,omitempty"`
	Made        string          `json:"pod_digest,omitempty"`
}

// ProjectDetails is what the database knows of a project.
type ProjectDetails struct {
	// Unavailable says why the database cannot be asked now.
	Unavailable string `json:"unavailable,omitempty"`
	// Project is nil where the database does not know it.
	Project *ProjectRow `json:"project,omitempty"`
}

// ProjectRow is a project as the database has it.
type ProjectRow struct {
	ID string `json:"project_id"`
	// State is opened, starting, running or stopping; Error says why it does not run where it should.
	State string `json:"state,omitempty"`
	Error string `json:"error,omitempty"`
	// Licenses are those attached to it, as the last check found them.
	Licenses     []License       `json:"licenses"`
	RunQuota     json.RawMessage `json:"run_quota,omitempty"`
	LastActivity time.Time       `json:"last_activity,omitzero"`
	// IdleTimeout is after how many seconds without activity it is stopped, 0 for never.
	IdleTimeout float64 `json:"idle_timeout_seconds,omitempty"`
	// AlwaysRunning says that it is started again when it dies; Failures is how often in a row
	// that did not help, and RetryAt when it is tried next.
	AlwaysRunning bool      `json:"always_running,omitempty"`
	Failures      int       `json:"failures,omitempty"`
	RetryAt       time.Time `json:"retry_at,omitzero"`
}

// StartProject asks for a project to run. What is left out is as at the last start.
type StartProject struct {
	// ID is the project's, a UUID.
	ID string
	// Image and Tag are those of its pod, Env its variables, Config a JSON object.
	Image, Tag string
	Env        map[string]string
	Config     json.RawMessage
	// Reset names what is to be as the site gives it, in place of as at the last start: image, tag, env
	// and config. One that is set all the same is as it is set.
	Reset []string
	// Key is the Idempotency-Key; without one the client makes one for this call.
	Key string
	// WaitReady waits until the pod is ready. What makes it fail is then a [*Problem].
	WaitReady bool
}

// StartProject starts a project and returns its pod: the one that is being made, the one that runs, or, of a
// project that is being stopped, the one that is being deleted, with Restarting set. While the service is busy or away
// the same request is made again.
func (c *Client) StartProject(ctx context.Context, s StartProject) (Pod, error) {
	body := struct {
		Image  *string           `json:"image,omitempty"`
		Tag    *string           `json:"tag,omitempty"`
		Env    map[string]string `json:"env,omitzero"`
		Config json.RawMessage   `json:"config,omitempty"`
	}{Config: s.Config}
	if s.Image != "" || slices.Contains(s.Reset, "image") {
		body.Image = &s.Image
	}
	if s.Tag != "" || slices.Contains(s.Reset, "tag") {
		body.Tag = &s.Tag
	}
	switch {
	case len(s.Env) > 0:
		body.Env = s.Env
	case slices.Contains(s.Reset, "env"):
		body.Env = map[string]string{}
	}
	if len(s.Config) == 0 && slices.Contains(s.Reset, "config") {
		body.Config = json.RawMessage("{}")
	}
	return c.bringUp(ctx, s.ID, "start", body, s.Key, s.WaitReady)
}

// RestartProject has the pod of a project replaced, and returns the one that is being deleted, with Restarting set, or
// with wait the next one when it is ready. A project that does not run is started.
func (c *Client) RestartProject(ctx context.Context, id string, wait bool) (Pod, error) {
	return c.bringUp(ctx, id, "restart", nil, "", wait)
}

func (c *Client) bringUp(ctx context.Context, id, action string, body any, key string, wait bool) (Pod, error) {
	if key == "" {
		key = rand.Text()
	}
	r := request{method: http.MethodPost, path: []string{"projects", id, action}, query: url.Values{}, body: body, key: key, waits: wait}
	if wait {
		r.query.Set("wait", "ready")
	}
	var pod Pod
	err := c.ask(ctx, r, &pod)
	if err == nil && pod.Name == "" {
		err = foreign(errNoName)
	}
	return pod, err
}

// StopProject has the pod of a project deleted, and none made after it. It returns the pod when that is certain, nil
// where it does not run; with wait when nothing of it is left.
func (c *Client) StopProject(ctx context.Context, id string, wait bool) (*Pod, error) {
	r := request{method: http.MethodPost, path: []string{"projects", id, "stop"}, query: url.Values{}, waits: wait}
	if wait {
		r.query.Set("wait", "gone")
	}
	var pod Pod
	if err := c.ask(ctx, r, &pod); err != nil || pod.Name == "" {
		return nil, err
	}
	return &pod, nil
}

// Project returns what is known of a project.
func (c *Client) Project(ctx context.Context, id string) (Project, error) {
	var p Project
	err := c.ask(ctx, request{path: []string{"projects", id}}, &p)
	return p, err
}

// ProjectActivity says that a project is used: its idle timeout begins anew.
func (c *Client) ProjectActivity(ctx context.Context, id string) error {
	return c.ask(ctx, request{method: http.MethodPost, path: []string{"projects", id, "activity"}}, nil)
}
