// Package client is the Go client of Berth's HTTP API, below /v1. It needs the
// standard library alone.
//
// A [Client] repeats what is safe to repeat while the service is busy or away: reads,
// deletes, saves, and creates, starts and restarts, which it gives an Idempotency-Key. Failures that the service
// tells about are a [*Problem], to be found with errors.As.
package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Options are what a [Client] is made with. All may be left out.
type Options struct {
	// Token returns the bearer token, and is asked before each request, so that a
	// token in a file can be replaced; see [Token] and [TokenFile]. Nil is for none.
	Token func() (string, error)
	// TLS is for https: certificate authorities, and the client certificate.
	TLS *tls.Config
	// UserAgent is what the client calls itself.
	UserAgent string
	// Attempts is how often a request is made at the most; 0 means 5, 1 never
	// repeats one.
	Attempts int
	// FailFast means that a request that cannot reach the service, because nobody
	// listens there, is not made again.
	FailFast bool
	// OnRetry, if set, is called before the client waits to repeat a request, or to
	// connect a stream again.
	OnRetry func(err error, wait time.Duration)
	// RoundTripper takes the place of the client's own transport, with TLS; it is
	// the caller's to close.
	RoundTripper http.RoundTripper
}

// Client asks one service. It is safe for concurrent use.
type Client struct {
	base *url.URL
	opts Options
	http *http.Client
}

const (
	defaultAttempts = 5
	// The bounds of a wait before a request is repeated, whatever the service asks for.
	minWait = 200 * time.Millisecond
	maxWait = 30 * time.Second
	// maxAnswer is the size of an answer, in bytes, at the most.
	maxAnswer = 64 << 20
	// maxToken is the size of a file with a token, in bytes, at the most.
	maxToken = 4096
)

// New returns a client of the service at a URL, like https://berth.example.org or
// a prefix of it. A user and password in the URL are for a proxy in front of the service,
// and are sent where there is no token. Close ends the client's connections.
func New(base string, opts Options) (*Client, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("the URL of the service must be like https://berth.example.org")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the URL of the service has a query or fragment: leave it out")
	}
	opts.Attempts = cmp.Or(opts.Attempts, defaultAttempts)
	opts.UserAgent = cmp.Or(opts.UserAgent, "berth-client")
	transport := opts.RoundTripper
	if transport == nil {
		transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			TLSClientConfig:     opts.TLS,
			ForceAttemptHTTP2:   true,
			IdleConnTimeout:     30 * time.Second,
		}
	}
	return &Client{base: u, opts: opts, http: &http.Client{
		Transport: transport,
		// Nothing of Berth redirects; who does would get the token.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close ends the connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// URL is where the service is asked, without a password.
func (c *Client) URL() string { return c.base.Redacted() }

// Token is a token that does not change, for [Options].
func Token(token string) func() (string, error) {
	return func() (string, error) { return token, nil }
}

// TokenFile is the token that a file holds at the time of each request, for
// [Options]. White space around it does not count.
func TokenFile(path string) func() (string, error) {
	return func() (string, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("read token: %w", err)
		}
		token := strings.TrimSpace(string(text))
		if token == "" || len(token) > maxToken || strings.ContainsAny(token, " \t\r\n") {
			return "", fmt.Errorf("read token: %s must hold one token, of at most %d bytes, and nothing else", path, maxToken)
		}
		return token, nil
	}
}

// wait sleeps before something is tried again; it returns false when ctx ends
// before. attempt counts from 1, asked is what the service asks for, 0 for nothing.
func (c *Client) wait(ctx context.Context, err error, attempt int, asked time.Duration) bool {
	pause := asked
	if pause == 0 {
		pause = minWait << min(attempt-1, 8)
	}
	pause = min(max(pause, minWait), maxWait)
	// Those who were sent away together shall not come back together.
	pause += rand.N(pause/4 + 1) //nolint:gosec // Not a secret.
	if c.opts.OnRetry != nil {
		c.opts.OnRetry(err, pause)
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
