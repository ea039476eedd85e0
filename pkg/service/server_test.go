package service

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func listen(t *testing.T, handler http.Handler) *Server {
	t.Helper()
	s, err := Listen(t.Context(), "127.0.0.1:0", handler, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// request sends a request over a connection of its own and returns the body of the answer.
func request(t *testing.T, s *Server, method string) (string, error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+"/", http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := client.Do(r)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(response.Body)
	return string(body), errors.Join(err, response.Body.Close())
}

func TestServerDrains(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	s := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		if r.Context().Err() != nil {
			t.Errorf("the context of the request has ended: %v", context.Cause(r.Context()))
		}
		writeText(w, http.StatusOK, "answer")
	}))
	ctx, cancel := context.WithCancel(t.Context())
	served, answered := make(chan error, 1), make(chan string, 1)
	go func() { served <- s.Serve(ctx) }()
	go func() {
		body, err := request(t, s, http.MethodGet)
		if err != nil {
			t.Error(err)
		}
		answered <- body
	}()
	<-arrived
	cancel()
	// The listener goes first, so no new request comes in while the old one is under way.
	for refused := false; !refused; {
		connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Addr())
		if refused = err != nil; !refused {
			if err := connection.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	close(release)
	if body := <-answered; body != "answer" {
		t.Errorf("answer during the drain = %q", body)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestServerCutsAfterDrain(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	s := listen(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	}))
	s.drain = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	go func() {
		<-arrived
		cancel()
	}()
	if body, err := request(t, s, http.MethodPost); err == nil {
		t.Errorf("a request that did not end was answered: %q", body)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestServerClosesBeforeServe(t *testing.T) {
	t.Parallel()
	s := listen(t, http.NotFoundHandler())
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Serve(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestServerFails(t *testing.T) {
	t.Parallel()
	s := listen(t, http.NotFoundHandler())
	s.listener = brokenListener{s.listener}
	err := s.Serve(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "serve 127.0.0.1:") {
		t.Errorf("Serve = %v, want an error with the address", err)
	}
}

type brokenListener struct{ net.Listener }

func (brokenListener) Accept() (net.Conn, error) { return nil, errors.New("broken") }

func TestListenFails(t *testing.T) {
	t.Parallel()
	s := listen(t, http.NotFoundHandler())
	if _, err := Listen(t.Context(), s.Addr(), http.NotFoundHandler(), zerolog.Nop()); err == nil || !strings.HasPrefix(err.Error(), "listen on "+s.Addr()) {
		t.Errorf("Listen on a taken port = %v", err)
	}
}

func TestServerLimits(t *testing.T) {
	t.Parallel()
	s := listen(t, http.NotFoundHandler())
	if s.http.ReadTimeout > 10*time.Second {
		t.Errorf("a body may take %s", s.http.ReadTimeout)
	}
	if s.http.ReadHeaderTimeout <= 0 || s.http.ReadTimeout <= 0 || s.http.WriteTimeout <= 0 || s.http.IdleTimeout <= 0 {
		t.Errorf("a time limit is missing: %+v", s.http)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	// The server stops reading at its limit, so a write may fail; its answer tells.
	_, _ = io.WriteString(connection, "GET / HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("x", 2*maxHeaderBytes)+"\r\n\r\n")
	status, err := bufio.NewReader(connection).ReadString('\n')
	if !strings.Contains(status, "431") {
		t.Errorf("answer to long headers = %q, %v, want 431", status, err)
	}
	if err := connection.Close(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestServerLogsPanics(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log := NewLogger(&out, zerolog.InfoLevel, Identity{Service: "api"})
	s, err := Listen(t.Context(), "127.0.0.1:0", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic("a handler's fault")
	}), log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	if body, err := request(t, s, http.MethodPost); err == nil {
		t.Errorf("answer of a handler that panics = %q", body)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	fields := record(t, out.String())
	text, _ := fields["text"].(string)
	if fields["source"] != "net/http" || !strings.Contains(text, "a handler's fault") {
		t.Errorf("record of the panic = %v", fields)
	}
}
