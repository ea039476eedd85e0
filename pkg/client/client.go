// Package client is the Go client of Berth's HTTP API, below /v1. It needs the
// standard library alone.
//
// A [Client] repeats what is safe to repeat while the service is busy or away: reads,
// deletes, saves, and creates, starts and restarts, which it gives an Idempotency-Key. Failures that the service
// tells about are a [*Problem], to be found with errors.As.
package client

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
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
	// Attempts is how often a request is made at the most that the service is too busy
	// for, or that it does not answer; 0 means 5, 1 never repeats any.
	Attempts int
	// Patience is for how long a request is made again that does not reach the service,
	// because nobody listens there yet or any more: these attempts do not count. 0 means
	// 5 s; less than 0 gives up at once. What waiting does not mend, as a host that does not
	// exist or a certificate that nobody vouches for, fails at once in any case.
	Patience time.Duration
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
	defaultPatience = 5 * time.Second
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
	opts.Patience = cmp.Or(opts.Patience, defaultPatience)
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
