package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// request is one request, which may be made several times.
type request struct {
	method string // GET where empty.
	path   []string
	query  url.Values
	body   any
	key    string
	// match makes a save conditional: an If-Match header, "*" an If-None-Match one.
	match string
	// waits says that only the context ends it: the service waits for something.
	waits bool
}

// slow is how long an answer may take that does not wait for anything. A create is
// answered when the pod is launched, or at the deadline of the site.
const slow = 90 * time.Second

var errSlow = errors.New("the service takes too long")

// ask makes a request and reads the answer, nil for none. It repeats the request
// while the service is busy or away; every request here may be.
func (c *Client) ask(ctx context.Context, r request, answer any) error {
	again := repetition{attempts: c.opts.Attempts, patience: c.opts.Patience}
	for {
		began := time.Now()
		err := c.once(ctx, r, answer)
		if err == nil {
			return nil
		}
		pause, worth := again.after(err, began, time.Now())
		if !worth || ctx.Err() != nil || !c.wait(ctx, err, pause) {
			return again.last(err)
		}
	}
}

// once makes a request once.
func (c *Client) once(ctx context.Context, r request, answer any) error {
	if !r.waits {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, slow, errSlow)
		defer cancel()
	}
	response, err := c.send(ctx, r, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch {
	case err != nil:
		return noAnswer(err)
	case response.StatusCode >= http.StatusMultipleChoices:
		return problemOf(response, data)
	case answer == nil || response.StatusCode == http.StatusNoContent:
		return nil
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return foreign(err)
	}
	return nil
}

// send sends a request. The caller closes the body.
func (c *Client) send(ctx context.Context, r request, header http.Header) (*http.Response, error) {
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		body = bytes.NewReader(text)
	}
	target := c.base.JoinPath("v1")
	for _, part := range r.path {
		target = target.JoinPath(url.PathEscape(part))
	}
	target.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	maps.Copy(req.Header, header)
	req.Header.Set("User-Agent", c.opts.UserAgent)
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json, application/problem+json")
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	switch r.match {
	case "":
	case "*":
		req.Header.Set("If-None-Match", r.match)
	default:
		req.Header.Set("If-Match", strconv.Quote(r.match))
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	if c.opts.Token != nil {
		token, err := c.opts.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.http.Do(req)
	if err != nil {
		return nil, noAnswer(err)
	}
	return response, nil
}
