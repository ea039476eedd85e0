package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/pkg/client"
)

// replica is a service that can be away, whose address is its own whether it is or not: nobody else can listen there.
type replica struct {
	tb testing.TB
	// dies makes it go away with the next request, unanswered.
	dies bool

	mu     sync.Mutex
	server *httptest.Server
	// keys has the Idempotency-Key of each request that has reached it.
	keys []string
}

// newReplica returns a replica that is away.
func newReplica(tb testing.TB) *replica {
	tb.Helper()
	r := &replica{tb: tb}
	tb.Cleanup(r.stop)
	return r
}

// transport connects to the replica, whatever the URL.
func (r *replica) transport() *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		r.mu.Lock()
		address := "127.0.0.1:1" // Nobody listens there.
		if r.server != nil {
			address = r.server.Listener.Addr().String()
		}
		r.mu.Unlock()
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
}

func (r *replica) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = httptest.NewServer(r)
}

// stop cuts what is under way.
func (r *replica) stop() {
	r.mu.Lock()
	server := r.server
	r.server = nil
	r.mu.Unlock()
	if server != nil {
		_ = server.Config.Close()
	}
}

// ServeHTTP implements http.Handler.
func (r *replica) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	r.keys = append(r.keys, request.Header.Get("Idempotency-Key"))
	dies := r.dies
	r.dies = false
	r.mu.Unlock()
	if dies {
		r.stop()
		return
	}
	_, _ = io.WriteString(w, `{"name":"p","user_id":"`+user+`"}`)
}

func start(ctx context.Context, c *client.Client) error {
	_, err := c.StartProject(ctx, client.StartProject{ID: "p"})
	return err
}

func restart(ctx context.Context, c *client.Client) error {
	_, err := c.RestartProject(ctx, "p", false)
	return err
}

func halt(ctx context.Context, c *client.Client) error {
	_, err := c.StopProject(ctx, "p", false)
	return err
}

// TestReplicaAway: a replica that is away for a moment, or dies with a request, is waited for.
func TestReplicaAway(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		call      func(context.Context, *client.Client) error
		dies      bool // It is there at first, and dies with the request.
		away      int  // After so many failures it is there.
		reached   int
		keys      int
		uncertain bool
	}{
		"a read":                 {call: get, away: 3, reached: 1},
		"a create":               {call: create, away: 3, reached: 1, keys: 1},
		"a delete":               {call: remove, away: 2, reached: 1},
		"a start":                {call: start, away: 2, reached: 1, keys: 1},
		"a restart":              {call: restart, away: 1, reached: 1, keys: 1},
		"a stop":                 {call: halt, away: 2, reached: 1},
		"it dies with a create":  {call: create, dies: true, away: 3, reached: 2, keys: 1},
		"it dies with a start":   {call: start, dies: true, away: 3, reached: 2, keys: 1},
		"it dies with a restart": {call: restart, dies: true, away: 1, reached: 2, keys: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReplica(t)
			if r.dies = tt.dies; tt.dies {
				r.start()
			}
			failures := 0
			transport := r.transport()
			defer transport.CloseIdleConnections()
			c, err := client.New("http://berth.example.org", client.Options{RoundTripper: transport, Patience: time.Minute, OnRetry: func(err error, _ time.Duration) {
				failures++
				if unsent := failures > 1 || !tt.dies; client.Unsent(err) != unsent {
					t.Errorf("failure %d is %v", failures, err)
				}
				if failures == tt.away {
					r.start()
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.call(t.Context(), c); err != nil {
				t.Error(err)
			}
			keys := map[string]bool{}
			for _, key := range r.keys {
				keys[key] = true
			}
			if len(r.keys) != tt.reached || failures != tt.away || len(keys) != 1 || keys[""] != (tt.keys == 0) {
				t.Errorf("after %d failures it got requests with the keys %q; want %d failures, %d requests", failures, r.keys, tt.away, tt.reached)
			}
		})
	}
}

// TestPatience has for how long a service that cannot be reached is waited for.
func TestPatience(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	proxy := &net.OpError{Op: "proxyconnect", Err: refused}
	lost := &net.OpError{Op: "read", Err: errors.New("connection reset")}
	tests := map[string]struct {
		fails     func(attempt int) error
		patience  time.Duration
		attempts  int
		timeout   time.Duration
		least     time.Duration
		most      time.Duration
		uncertain bool
	}{
		"for some seconds":      {fails: always(refused), least: 5 * time.Second, most: 6 * time.Second},
		"behind a proxy":        {fails: always(proxy), least: 5 * time.Second, most: 6 * time.Second},
		"for as long as asked":  {fails: always(refused), patience: time.Minute, least: time.Minute, most: 62 * time.Second},
		"not at all":            {fails: always(refused), patience: -1},
		"only one attempt":      {fails: always(refused), attempts: 1},
		"until the context end": {fails: always(refused), timeout: time.Second, least: time.Second, most: time.Second},
		"away after it was lost": {fails: func(attempt int) error {
			if attempt == 1 {
				return lost
			}
			return refused
		}, least: 5 * time.Second, most: 7 * time.Second, uncertain: true},
		"there now and then": {fails: func(attempt int) error {
			if attempt%3 == 0 {
				return lost
			}
			return refused
		}, least: 5 * time.Second, most: 10 * time.Second, uncertain: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				attempt, began := 0, time.Now()
				c := newClient(t, func(*http.Request) (*http.Response, error) {
					attempt++
					return nil, tt.fails(attempt)
				}, func(o *client.Options) { o.Patience, o.Attempts = tt.patience, tt.attempts })
				ctx := t.Context()
				if tt.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.timeout)
					defer cancel()
				}
				err := create(ctx, c)
				if took := time.Since(began); err == nil || took < tt.least || took > tt.most || client.Uncertain(err) != tt.uncertain {
					t.Errorf("%d attempts, %s, %v, uncertain %v; want %s to %s", attempt, took, err, client.Uncertain(err), tt.least, tt.most)
				}
			})
		})
	}
}

func always(err error) func(int) error { return func(int) error { return err } }

// TestWrongURL: what waiting does not mend fails at once, a stream too, and has changed nothing.
func TestWrongURL(t *testing.T) {
	t.Parallel()
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	plain, secret := httptest.NewServer(hello), httptest.NewTLSServer(hello)
	t.Cleanup(plain.Close)
	t.Cleanup(secret.Close)
	picky := httptest.NewUnstartedServer(hello)
	picky.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	picky.StartTLS()
	t.Cleanup(picky.Close)
	trusted := picky.Client().Transport.(*http.Transport).TLSClientConfig
	nobody := service(func(*http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "berth.example.org", IsNotFound: true}}
	})
	tests := map[string]struct {
		url       string
		opts      client.Options
		uncertain bool
	}{
		"no such host":             {"http://berth.example.org", client.Options{RoundTripper: nobody}, false},
		"no such port":             {"http://127.0.0.1:99999", client.Options{}, false},
		"no TLS there":             {"https://" + plain.Listener.Addr().String(), client.Options{}, false},
		"TLS there":                {"http://" + secret.Listener.Addr().String(), client.Options{}, false},
		"nobody vouches for it":    {secret.URL, client.Options{}, false},
		"it wants a certificate":   {picky.URL, client.Options{TLS: trusted}, true},
		"nothing of Berth's there": {plain.URL + "/prefix", client.Options{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.opts.OnRetry = func(err error, _ time.Duration) { t.Errorf("repeated after %v", err) }
			c, err := client.New(tt.url, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := create(t.Context(), c); err == nil || client.Uncertain(err) != tt.uncertain {
				t.Errorf("a create: %v, uncertain %v", err, client.Uncertain(err))
			}
			for e, err := range c.Events(t.Context(), client.Stream{}) {
				if err == nil {
					t.Errorf("event %+v", e)
				}
			}
		})
	}
}
