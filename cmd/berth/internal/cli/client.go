package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"berth/cmd/berth/internal/progress"
	"berth/pkg/client"
)

// retried is who is told that a request is made again. It is safe for concurrent use.
type retried struct {
	mu   sync.Mutex
	told func(err error, wait time.Duration)
}

// onRetry says who is told from now on that a request is made again, or a stream
// connected again; nil for nobody.
func (a *app) onRetry(told func(err error, wait time.Duration)) {
	a.retried.mu.Lock()
	defer a.retried.mu.Unlock()
	a.retried.told = told
}

func (r *retried) tell(err error, wait time.Duration) {
	r.mu.Lock()
	told := r.told
	r.mu.Unlock()
	if told != nil {
		told(err, wait)
	}
}

// client returns a client of the service; its Close is the caller's to call.
func (a *app) client() (*client.Client, error) {
	base, err := a.baseURL()
	if err != nil {
		return nil, err
	}
	opts := client.Options{UserAgent: "berth/" + version(), Patience: knocking, OnRetry: a.retried.tell}
	if a.tokenFile != "" {
		opts.Token = client.TokenFile(a.tokenFile)
		if _, err := a.token(); err != nil {
			return nil, err
		}
	}
	if opts.TLS, err = a.tls(); err != nil {
		return nil, err
	}
	api, err := client.New(base.String(), opts)
	if err != nil {
		return nil, usage("--url or BERTH_URL: %s", err)
	}
	return api, nil
}

// token reads the token that the service asks for, empty for none.
func (a *app) token() (string, error) {
	if a.tokenFile == "" {
		return "", nil
	}
	token, err := client.TokenFile(a.tokenFile)()
	if err != nil {
		return "", usage("--token-file or BERTH_TOKEN_FILE: %s", err)
	}
	return token, nil
}

// tls is what the flags say about certificates.
func (a *app) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.ca != "" {
		text, err := os.ReadFile(a.ca)
		if err != nil {
			return nil, usage("--cacert or BERTH_CACERT: %s", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, usage("--cacert or BERTH_CACERT: %s holds no certificate in PEM form", a.ca)
		}
	}
	switch {
	case (a.cert == "") != (a.key == ""):
		return nil, usage("a client certificate needs both --cert and --key")
	case a.cert != "":
		pair, err := tls.LoadX509KeyPair(a.cert, a.key)
		if err != nil {
			return nil, usage("--cert and --key: %s", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// knocking is for how long a request is made again that does not reach the service, as one
// of which a replica has just been stopped.
const knocking = 5 * time.Second

// withService does something with the service within a time, 0 for any; d tells what it waits for.
func (a *app) withService(ctx context.Context, timeout time.Duration, d *display, do func(ctx context.Context, api *client.Client) error) error {
	if timeout < 0 {
		return usage("--timeout must not be negative: give a time like 5m, or 0 for ever")
	}
	api, err := a.client()
	if err != nil {
		return err
	}
	defer api.Close()
	ctx, cancel := withTimeout(ctx, timeout)
	defer cancel()
	a.busy(api, d)
	return do(ctx, api)
}

// busy has it told that a request is made again: each time that the service has answered, or
// may have; once while it cannot be reached.
func (a *app) busy(api *client.Client, d *display) {
	var once sync.Once
	a.onRetry(func(err error, wait time.Duration) {
		if client.Unsent(err) {
			once.Do(func() { d.notice(unreached(api.URL(), err)) })
			return
		}
		what := "cannot be reached"
		if p, ok := errors.AsType[*client.Problem](err); ok && p.Busy() {
			what = "is busy"
		}
		d.notice(fmt.Sprintf("the service %s (%v); trying again in %s", what, err, progress.Duration(wait)))
	})
}

// unreached says that the service at a URL cannot be reached so far.
func unreached(url string, err error) string {
	why := err.Error()
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		// The URL says the rest.
		why = op.Err.Error()
		if call, ok := errors.AsType[*os.SyscallError](op.Err); ok {
			why = call.Err.Error()
		}
	}
	return fmt.Sprintf("cannot reach %s yet: %s; trying for %s", url, why, knocking)
}
