package link

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog" //nolint:depguard // For net/http, which must not tell of what is meant to break.
	"maps"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Answer is a wrong answer of the API server.
type Answer string

// The wrong answers.
const (
	// TooMany is 429 with Retry-After, without asking the server.
	TooMany Answer = "429"
	// Internal is 500, without asking the server.
	Internal Answer = "500"
	// Timeout is 504 after the server has done what was asked.
	Timeout Answer = "504"
	// Expired is 410 to a watch, without asking the server.
	Expired Answer = "410"
	// Truncated is the half of what the server says; the connection goes on.
	Truncated Answer = "truncated"
	// Broken is the half of what the server says; then the stream is reset.
	Broken Answer = "broken"
)

// API is a link to a Kubernetes API server that can also answer in its place.
// Programs speak TLS and HTTP/2 to it, as to the server.
type API struct {
	*Link
	// Kubeconfig is what a program needs to use the link.
	Kubeconfig []byte

	proxy   *httputil.ReverseProxy
	server  *http.Server
	serving sync.WaitGroup
	idle    func()

	mu     sync.Mutex
	answer Answer
	share  float64
	random *mathrand.Rand
	counts map[string]int
}

// NewAPI returns a link to the API server of config, whose credentials all that
// comes through it has. seed decides which requests are answered wrongly. The
// caller closes it.
func NewAPI(ctx context.Context, config *rest.Config, seed uint64) (*API, error) {
	target, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("parse address of the API server: %w", err)
	}
	upstream, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	transport := &http.Transport{TLSClientConfig: upstream, ForceAttemptHTTP2: true}
	// Commands in pods take a connection over (RFC 9110, section 7.8), which HTTP/2 has not.
	plain := upstream.Clone()
	plain.NextProtos = []string{"http/1.1"}
	upgrades := &http.Transport{TLSClientConfig: plain, DisableKeepAlives: true}
	a := &API{
		Link: New(), random: mathrand.New(mathrand.NewPCG(seed, 1)), counts: map[string]int{}, idle: transport.CloseIdleConnections,
	}
	a.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Del("Authorization")
		},
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("Upgrade") != "" {
				return upgrades.RoundTrip(r)
			}
			return transport.RoundTrip(r)
		}), FlushInterval: -1, ModifyResponse: a.spoil, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil && !errors.Is(err, errSpoiled) {
				a.Cut() // The server is away: so are its connections.
			}
			panic(http.ErrAbortHandler) //nolint:forbidigo // It is how net/http is told to reset a stream.
		},
	}
	certificate, authority, err := identity()
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	listener, err := listen(ctx, a.Link)
	if err != nil {
		return nil, err
	}
	if a.Kubeconfig, err = kubeconfig("https://"+listener.Addr().String(), authority); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	a.server = &http.Server{
		Handler: a, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	a.serving.Go(func() { _ = a.server.ServeTLS(listener, "", "") })
	return a, nil
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements [http.RoundTripper].
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Close ends all connections and waits until nothing runs any more.
func (a *API) Close() error {
	err := a.server.Close()
	a.Cut()
	a.serving.Wait()
	a.idle()
	return err
}

// Answer makes the link answer a share of the requests wrongly, until it is
// told otherwise; an empty answer ends that.
func (a *API) Answer(answer Answer, share float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer, a.share = answer, share
}

// Counts returns how many requests have come through the link so far, by verb
// and resource: "LIST pods".
func (a *API) Counts() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.counts)
}

// choose counts a request and says how to answer it.
func (a *API) choose(r *http.Request) Answer {
	verb, resource := describe(r)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts[verb+" "+resource]++
	if a.answer == "" || a.random.Float64() >= a.share || a.answer == Expired && verb != "WATCH" {
		return ""
	}
	return a.answer
}

// describe returns verb and resource, as in "LIST pods".
func describe(r *http.Request) (verb, resource string) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	named := false
	for i, part := range parts {
		if part == "namespaces" && i+2 < len(parts) {
			resource, named = parts[i+2], i+3 < len(parts)
		}
	}
	if len(parts) > 2 && parts[0] == "api" && parts[2] == "persistentvolumes" {
		resource, named = parts[2], len(parts) > 3 // They are in no namespace.
	}
	verb = r.Method
	watch := r.URL.Query().Get("watch")
	if r.Method == http.MethodGet && !named && resource != "" {
		verb = "LIST"
		if watch == "true" || watch == "1" {
			verb = "WATCH"
		}
	}
	return verb, resource
}

type answerKey struct{}

// ServeHTTP hands a request on, or answers it wrongly.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := a.choose(r)
	switch answer {
	case TooMany:
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusTooManyRequests, "TooManyRequests")
	case Internal:
		refuse(w, http.StatusInternalServerError, "InternalError")
	case Expired:
		refuse(w, http.StatusGone, "Expired")
	case Timeout, Truncated, Broken, "":
		a.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), answerKey{}, answer)))
	}
}

// refuse answers as an API server does.
func refuse(w http.ResponseWriter, status int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprint(w, statusObject(status, reason))
}

func statusObject(status int, reason string) string {
	return fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"chaos","reason":%q,"code":%d}`, reason, status)
}

var errSpoiled = errors.New("the answer was spoiled")

// spoil changes what the server answered.
func (a *API) spoil(r *http.Response) error {
	answer, _ := r.Request.Context().Value(answerKey{}).(Answer)
	verb, _ := describe(r.Request)
	switch {
	case answer == "", r.StatusCode == http.StatusSwitchingProtocols:
		return nil
	case answer == Timeout && verb != "WATCH":
		r.StatusCode, r.Status = http.StatusGatewayTimeout, ""
		replace(r, []byte(statusObject(http.StatusGatewayTimeout, "Timeout")))
		r.Header.Set("Content-Type", "application/json")
		return nil
	case verb == "WATCH":
		// Some events, then the half of one.
		a.mu.Lock()
		most := 1 + a.random.Int64N(4096)
		a.mu.Unlock()
		r.Body = &half{ReadCloser: r.Body, left: most, abort: answer == Broken}
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if answer == Broken {
		r.Body = &half{ReadCloser: io.NopCloser(bytes.NewReader(body)), left: int64(len(body) / 2), abort: true}
		return nil
	}
	replace(r, body[:len(body)/2])
	return nil
}

// replace gives an answer another body, of the right length.
func replace(r *http.Response, body []byte) {
	_ = r.Body.Close()
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	r.Header.Del("Content-Encoding")
}

// half ends a body before its time.
type half struct {
	io.ReadCloser
	left  int64
	abort bool
}

// Read reads until the half is over.
func (h *half) Read(p []byte) (int, error) {
	if h.left <= 0 {
		if h.abort {
			return 0, errSpoiled
		}
		return 0, io.EOF
	}
	if int64(len(p)) > h.left {
		p = p[:h.left]
	}
	n, err := h.ReadCloser.Read(p)
	h.left -= int64(n)
	return n, err
}

// identity makes a certificate for this machine's own address, and what it is
// checked with.
func identity() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "chaos"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, authority, nil
}

func kubeconfig(address string, authority []byte) ([]byte, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters["chaos"] = &clientcmdapi.Cluster{Server: address, CertificateAuthorityData: authority}
	config.AuthInfos["chaos"] = &clientcmdapi.AuthInfo{}
	config.Contexts["chaos"] = &clientcmdapi.Context{Cluster: "chaos", AuthInfo: "chaos"}
	config.CurrentContext = "chaos"
	data, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("write kubeconfig: %w", err)
	}
	return data, nil
}
