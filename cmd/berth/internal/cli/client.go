package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
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
	opts := client.Options{UserAgent: "berth/" + version(), FailFast: true, OnRetry: a.retried.tell}
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

// busy tells that a request is made again.
func (a *app) busy(d *display) {
	a.onRetry(func(err error, wait time.Duration) {
		what := "cannot be reached"
		if p, ok := errors.AsType[*client.Problem](err); ok && p.Busy() {
			what = "is busy"
		}
		d.notice(fmt.Sprintf("the service %s (%v); trying again in %s", what, err, progress.Duration(wait)))
	})
}
