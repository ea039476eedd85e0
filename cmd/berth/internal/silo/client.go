// Package silo is a client of the endpoints that silos call: it makes, lists,
// watches and deletes the pods of a user.
package silo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"berth/pkg/events"
)

const (
	// requestTimeout bounds a request that the service answers at once. A create
	// is answered when the pod is launched, or at the deadline of the site.
	requestTimeout = 30 * time.Second
	createTimeout  = 90 * time.Second

	maxAnswer = 64 << 20
)

var errSlow = errors.New("the service takes too long")

// Client asks one service. It is safe for concurrent use. Its errors are
// [*Error]; none holds a password or the value of a setting. Requests are made
// once: [Retry] repeats them.
type Client struct {
	base  *url.URL
	agent string
	http  *http.Client
}

// New returns a client of the service at base, http://host:port or a prefix of
// it. agent is what it calls itself. Close ends its connections.
func New(base *url.URL, agent string) *Client {
	return &Client{
		base: base, agent: agent,
		http: &http.Client{
			Transport: &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
				TLSHandshakeTimeout: 5 * time.Second,
				ForceAttemptHTTP2:   true,
				IdleConnTimeout:     30 * time.Second,
			},
			// A POST that is redirected becomes a GET, which would do nothing.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Close ends the connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// URL is where the service is asked, without a password.
func (c *Client) URL() string { return c.base.Redacted() }

// Create asks for a pod from a manifest. settings are variables by container
// and name. It returns the pod's name.
func (c *Client) Create(ctx context.Context, user, manifest string, settings map[string]map[string]string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, createTimeout, errSlow)
	defer cancel()
	var answer struct {
		Name string `json:"pod_name"`
	}
	if settings == nil {
		settings = map[string]map[string]string{}
	}
	request := map[string]any{"yaml_url": manifest, "user_id": user, "settings": settings}
	if err := c.post(ctx, "/create_pod", request, &answer); err != nil {
		return "", err
	}
	if answer.Name == "" {
		return "", &Error{Status: http.StatusOK, Err: errors.New("no pod_name in the answer")}
	}
	return answer.Name, nil
}

// Pods returns the pods of a user, and the array as the service sent it.
func (c *Client) Pods(ctx context.Context, user string) ([]Pod, json.RawMessage, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, requestTimeout, errSlow)
	defer cancel()
	var raw json.RawMessage
	if err := c.post(ctx, "/get_pods", map[string]string{"user_id": user}, &raw); err != nil {
		return nil, nil, err
	}
	var pods []Pod
	if err := json.Unmarshal(raw, &pods); err != nil {
		return nil, nil, foreign(http.StatusOK, err)
	}
	if pods == nil { // The service of old says null for none.
		raw = json.RawMessage("[]")
	}
	return pods, raw, nil
}

// Pod returns one pod of a user, and whether there is one of the name.
func (c *Client) Pod(ctx context.Context, user, name string) (Pod, bool, error) {
	pods, _, err := c.Pods(ctx, user)
	for _, p := range pods {
		if p.Name == name {
			return p, true, nil
		}
	}
	return Pod{}, false, err
}

// WatchCreate waits until a pod is ready, then returns true; false when it will
// not be, or the user has none of the name.
func (c *Client) WatchCreate(ctx context.Context, user, name string) (bool, error) {
	var answer struct {
		Ready bool `json:"ready"`
	}
	err := c.post(ctx, "/watch_create_pod", map[string]string{"user_id": user, "pod_name": name}, &answer)
	return answer.Ready, err
}

// Delete asks for a pod to be deleted.
func (c *Client) Delete(ctx context.Context, user, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, requestTimeout, errSlow)
	defer cancel()
	var answer struct {
		Requested bool `json:"requested"`
	}
	if err := c.post(ctx, "/delete_pod", map[string]string{"user_id": user, "pod_name": name}, &answer); err != nil {
		return err
	}
	if !answer.Requested {
		return &Error{Status: http.StatusOK, Err: errors.New("requested is not true in the answer")}
	}
	return nil
}

// WatchDelete waits until a pod is gone, then returns true; false when the
// service has waited long enough or nobody deletes the pod.
func (c *Client) WatchDelete(ctx context.Context, user, name string) (bool, error) {
	var answer struct {
		Deleted bool `json:"deleted"`
	}
	err := c.post(ctx, "/watch_delete_pod", map[string]string{"user_id": user, "pod_name": name}, &answer)
	return answer.Deleted, err
}

func (c *Client) post(ctx context.Context, path string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return &Error{Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return &Error{Err: bare(err)}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.agent)
	res, err := c.http.Do(req)
	if err != nil {
		return &Error{Err: bare(err)}
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return &Error{Err: bare(err)}
	}
	if res.StatusCode != http.StatusOK {
		return failure(res, data)
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return foreign(res.StatusCode, err)
	}
	return nil
}

// failure reads what the service says about a request that it does not carry out.
func failure(res *http.Response, data []byte) error {
	var answer struct {
		Error struct {
			Code    events.Reason `json:"code"`
			Message string        `json:"message"`
		} `json:"error"`
	}
	e := &Error{Status: res.StatusCode}
	if seconds, err := strconv.Atoi(strings.TrimSpace(res.Header.Get("Retry-After"))); err == nil && seconds >= 0 {
		e.RetryAfter = max(time.Duration(min(seconds, int(maxWait/time.Second)))*time.Second, minWait)
	}
	// What cannot be read has no reason, which is a case of its own.
	_ = json.Unmarshal(data, &answer)
	e.Reason, e.Message = answer.Error.Code, answer.Error.Message
	if e.Reason == "" && !e.busy() {
		e.Err = errors.New("which is no answer of Berth")
	}
	return e
}

// foreign is the error of an answer that Berth would not give.
func foreign(status int, err error) error {
	return &Error{Status: status, Err: fmt.Errorf("which is no answer of Berth: %w", err)}
}

// bare takes the URL, which may hold a password, out of an error of net/http.
func bare(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
