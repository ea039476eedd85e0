package service

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/rs/zerolog"
)

const (
	// headerTimeout bounds the reading of the headers, requestTimeout that of a request with its body.
	headerTimeout  = 5 * time.Second
	requestTimeout = 10 * time.Second
	// answerTimeout bounds the writing of an answer, from the end of the headers on. Handlers that
	// wait for longer set their own with [http.ResponseController.SetWriteDeadline].
	answerTimeout = time.Minute
	// idleTimeout is longer than that of the usual load balancers, so that they close first.
	idleTimeout = 2 * time.Minute
	// maxHeaderBytes bounds the headers of a request.
	maxHeaderBytes = 32 << 10
	// drainTimeout is what requests under way get at the end. It leaves room in [StopBudget].
	drainTimeout = 5 * time.Second
)

// Server is an HTTP server whose address is open before it serves.
type Server struct {
	http     *http.Server
	listener net.Listener
	log      zerolog.Logger
	drain    time.Duration
}

// Listen opens the TCP address, like 127.0.0.1:0 for a free port of loopback. Clients can connect
// from then on, and wait until [Server.Serve]. The caller closes the server if it never serves.
//
// Headers, requests, answers and idle connections have time limits; bodies have none of size
// (see [http.MaxBytesReader]). Of connections that wait for their client there are so many at the most;
// then the oldest one of the address with most of them is closed for another. Where there are as many
// connections as there may be at all, whoever has fewer than others gets in: one goes of the address with most,
// also one that a request is being answered on. Handlers see the values of the context, but not its end.
func Listen(ctx context.Context, address string, handler http.Handler, log zerolog.Logger) (*Server, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	base, conns := context.WithoutCancel(ctx), newConns()
	s := &Server{http: newHTTPServer(base, conns.handler(handler), log), listener: conns.listener(listener), log: log, drain: drainTimeout}
	s.http.ConnContext = withConn
	return s, nil
}

// ListenTLS is [Listen] over TLS 1.2 and later. Clients are asked for a certificate; whether they show
// one, and whose it is, is for the handler to judge: the handshake proves only that they have its key.
func ListenTLS(ctx context.Context, address string, certificate *Certificate, handler http.Handler, log zerolog.Logger) (*Server, error) {
	s, err := Listen(ctx, address, handler, log)
	if err != nil {
		return nil, err
	}
	s.http.TLSConfig = certificate.config()
	return s, nil
}

func newHTTPServer(base context.Context, handler http.Handler, logger zerolog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          log.New(warnings{log: logger, source: "net/http"}, "", 0),
	}
}

// Addr returns the address with the port that was bound, as host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Serve answers requests until the context ends, then lets those under way finish for up to five
// seconds, cuts the others, and closes the listener. It returns nil after that or after Close, and an error
// when the listener fails. It is called once.
func (s *Server) Serve(ctx context.Context) error {
	served := make(chan error, 1)
	go func() {
		if s.http.TLSConfig != nil {
			served <- s.http.ServeTLS(s.listener, "", "")
			return
		}
		served <- s.http.Serve(s.listener)
	}()
	select {
	case err := <-served:
		if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		return fmt.Errorf("serve %s: %w", s.Addr(), errors.Join(err, s.Close()))
	case <-ctx.Done():
	}
	drained, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drain)
	defer cancel()
	err := s.http.Shutdown(drained)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn().Str("address", s.Addr()).Msg("Connections cut that did not finish in time")
		err = nil
	}
	err = errors.Join(err, s.Close())
	<-served //nolint:errcheck // It says that the server was closed, which it was.
	return err
}

// Close closes the listener and cuts every connection. It may be called at any time and often.
func (s *Server) Close() error {
	err := s.http.Close()
	if closeErr := s.listener.Close(); !errors.Is(closeErr, net.ErrClosed) {
		err = errors.Join(err, closeErr)
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close %s: %w", s.Addr(), err)
	}
	return nil
}
