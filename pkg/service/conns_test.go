package service

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// serve lets a server serve until the test ends.
func serve(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// dialFrom connects from an address of loopback.
func dialFrom(t *testing.T, from string, s *Server) net.Conn {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := dialer.DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// send sends a request over a connection and returns the status line of the answer.
func send(c net.Conn) (string, error) {
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return line, err
}

// closedByPeer waits until the other side has closed a connection.
func closedByPeer(c net.Conn) error {
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// TestIdleConnections: a stranger holds as many as there may be. Others get in, those that are being
// answered stay, and the stranger's go, the oldest first.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	s := listen(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			close(arrived)
			<-release
		}
	}))
	limits := s.listener.(tracked).conns
	limits.maxWaiting = 8
	var mu sync.Mutex
	ahead := time.Duration(0)
	limits.now = func() time.Time { // The clock runs fast: each connection has waited for long.
		mu.Lock()
		defer mu.Unlock()
		ahead += 2 * waitingGrace
		return time.Now().Add(ahead)
	}
	serve(t, s)

	poll := dialFrom(t, "127.0.0.2", s) // The oldest of the stranger's, but it is being answered.
	if _, err := io.WriteString(poll, "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-arrived
	silo := dialFrom(t, "127.0.0.3", s)
	if line, err := send(silo); err != nil || line != "HTTP/1.1 200 OK\r\n" {
		t.Fatalf("answer %q, %v", line, err)
	}
	var strangers []net.Conn
	for range 20 {
		c := dialFrom(t, "127.0.0.2", s)
		strangers = append(strangers, c)
		if _, err := io.WriteString(c, "GET "); err != nil { // A slow client: headers that do not end.
			t.Fatal(err)
		}
	}
	for i, c := range strangers[:12] {
		if err := closedByPeer(c); err != nil {
			t.Fatalf("connection %d of the stranger is kept: %v", i, err)
		}
	}
	if line, err := send(silo); err != nil || line != "HTTP/1.1 200 OK\r\n" {
		t.Errorf("the connection of another: answer %q, %v", line, err)
	}
	if line, err := send(dialFrom(t, "127.0.0.2", s)); err != nil || line != "HTTP/1.1 200 OK\r\n" {
		t.Errorf("another one from the same address: answer %q, %v", line, err)
	}
	close(release)
	if line, err := bufio.NewReader(poll).ReadString('\n'); err != nil || line != "HTTP/1.1 200 OK\r\n" {
		t.Errorf("the one that was being answered: answer %q, %v", line, err)
	}
}

// TestAllConnectionsBusy: where every place is taken by a request, another connection is closed at once.
func TestAllConnectionsBusy(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	s := listen(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	s.listener.(tracked).conns.maxOpen = 2
	serve(t, s)
	defer close(release)
	for range 2 {
		c := dialFrom(t, "127.0.0.1", s)
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-arrived
	}
	if err := closedByPeer(dialFrom(t, "127.0.0.1", s)); err != nil {
		t.Errorf("the third is kept: %v", err)
	}
}

// fill opens connections from an address, sends a text over each, and waits until the server knows of all.
func fill(t *testing.T, s *Server, from, text string, count int) []net.Conn {
	t.Helper()
	all := make([]net.Conn, count)
	for i := range all {
		all[i] = dialFrom(t, from, s)
		if _, err := io.WriteString(all[i], text); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestOneAddressTakesAllPlaces: two strangers have all places, with requests under way. Others get in all the same,
// as long as they have fewer; a stranger gets no more.
func TestOneAddressTakesAllPlaces(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	s := listen(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			arrived <- struct{}{}
			<-release
		}
	}))
	s.listener.(tracked).conns.maxOpen = 10
	serve(t, s)
	defer close(release)
	const long = "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"
	var strangers []net.Conn
	for i := range 10 {
		strangers = append(strangers, fill(t, s, []string{"127.0.0.2", "127.0.0.3"}[i%2], long, 1)...)
		<-arrived
	}
	for _, from := range []string{"127.0.0.4", "127.0.0.5"} {
		if line, err := send(dialFrom(t, from, s)); err != nil || line != "HTTP/1.1 200 OK\r\n" {
			t.Errorf("another from %s: answer %q, %v", from, line, err)
		}
	}
	if err := errors.Join(closedByPeer(strangers[0]), closedByPeer(strangers[1])); err != nil {
		t.Errorf("the oldest ones of the strangers are kept: %v", err)
	}
	// What goes for a stranger's next one is its own, or there is no place for it.
	if line, err := send(dialFrom(t, "127.0.0.2", s)); err == nil {
		t.Errorf("one more of a stranger: answer %q", line)
	}
}

// TestSlowClients: bodies that do not come and answers that are not read hold no more connections than idle ones do.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	const places = 8
	tests := map[string]string{
		"slow bodies":    "POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60\r\n\r\nx",
		"answers unread": "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			large := make([]byte, 16<<20) // More than the buffers of a connection hold.
			s := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/read":
					_, _ = io.Copy(io.Discard, r.Body)
				case "/large":
					_, _ = w.Write(large)
				}
			}))
			limits := s.listener.(tracked).conns
			limits.maxWaiting = places
			serve(t, s)
			strangers := fill(t, s, "127.0.0.2", text, 5*places)
			kept := func() int {
				limits.mu.Lock()
				defer limits.mu.Unlock()
				return limits.open
			}
			// Twice as many until they have had their grace, and those whose request has just come: they go when the next one comes.
			for until := time.Now().Add(30 * time.Second); ; {
				if line, err := send(dialFrom(t, "127.0.0.3", s)); err != nil || line != "HTTP/1.1 200 OK\r\n" {
					t.Errorf("another: answer %q, %v", line, err)
				}
				if kept() <= 3*places || time.Now().After(until) {
					break
				}
			}
			if got := kept(); got > 3*places {
				t.Errorf("%d connections are kept, want %d at the most", got, 3*places)
			}
			for _, c := range strangers {
				_ = c.Close()
			}
		})
	}
}

// TestUnreadMetrics: many clients ask for metrics and read none. They cost connections, not copies.
func TestUnreadMetrics(t *testing.T) { //nolint:paralleltest // It measures the heap.
	h := NewHealth(Identity{Service: "api"})
	many := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "berth_test", Help: "A test."}, []string{"of"})
	for i := range 20_000 {
		many.WithLabelValues(fmt.Sprint("label", i)).Set(1)
	}
	h.Registry().MustRegister(many)
	s := listen(t, h.Handler())
	serve(t, s)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const count = 200
	ask := strings.Repeat("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 60)
	for range count {
		dialer := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
			var set error
			err := c.Control(func(fd uintptr) { set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1) })
			return errors.Join(err, set)
		}}
		c, err := dialer.DialContext(t.Context(), "tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, ask); err != nil {
			t.Fatal(err)
		}
	}
	if line, err := send(dialFrom(t, "127.0.0.3", s)); err != nil || line != "HTTP/1.1 404 Not Found\r\n" {
		t.Errorf("another: answer %q, %v", line, err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 50<<20 {
		t.Errorf("the heap has grown by %d MB", grown>>20)
	}
}

// TestConnectionsAreForgotten: nothing is kept of a connection that is closed.
func TestConnectionsAreForgotten(t *testing.T) {
	t.Parallel()
	c := newConns()
	var all []*conn
	for range 10 {
		client, server := net.Pipe()
		t.Cleanup(func() { _ = client.Close() })
		all = append(all, c.enter(server))
	}
	all[0].count(+1, 0)
	all[1].count(+1, 0)
	all[1].count(+1, 0)
	all[1].count(-1, 0)
	for i, n := range all {
		if i%2 == 0 {
			_ = n.Close()
		}
		if err := n.Close(); err != nil && i%2 != 0 {
			t.Error(err)
		}
	}
	all[0].count(-1, 0)
	all[1].count(-1, 0)
	if c.open != 0 || c.waiting != 0 || len(c.sources) != 0 {
		t.Errorf("%d open, %d waiting, %d sources; want none", c.open, c.waiting, len(c.sources))
	}
	if c.maxOpen < reservedFiles || c.maxWaiting < 1 {
		t.Errorf("limits %d, %d", c.maxOpen, c.maxWaiting)
	}
}

func TestSourceOf(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"10.0.0.1:1": "10.0.0.1", "[::ffff:10.0.0.1]:1": "10.0.0.1", "[fd00:1:2:3:4:5:6:7]:1": "fd00:1:2:3::", "[fe80::1%lo]:1": "fe80::",
	} {
		tcp := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
		if got := sourceOf(tcp); got.String() != want {
			t.Errorf("source of %s = %s, want %s", address, got, want)
		}
	}
	if got := sourceOf(&net.UnixAddr{}); got.IsValid() {
		t.Errorf("source of no address = %s", got)
	}
}

// keyPair makes a certificate for localhost and writes it and its key to files.
func keyPair(t *testing.T, dir, name string) (certificate, key string, pair tls.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.ParseIP("127.0.0.1")},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for file, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: encoded}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if pair, err = tls.LoadX509KeyPair(certificate, key); err != nil {
		t.Fatal(err)
	}
	return certificate, key, pair
}

// TestTLS: clients show a certificate or none; the server's is replaced while it runs; what is too old is refused.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificateFile, keyFile, _ := keyPair(t, dir, "first")
	certificate, err := LoadCertificate(certificateFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ListenTLS(t.Context(), "127.0.0.1:0", certificate, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			who = fmt.Sprintf("%x", sha256.Sum256(r.TLS.PeerCertificates[0].Raw))
		}
		fmt.Fprint(w, who, " over HTTP/", r.ProtoMajor)
	}), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s)
	get := func(change func(*tls.Config)) (body, server string, err error) {
		settings := &tls.Config{InsecureSkipVerify: true}
		change(settings)
		transport := &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.Addr()+"/", http.NoBody)
		if err != nil {
			return "", "", err
		}
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			return "", "", err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return string(text), response.TLS.PeerCertificates[0].Subject.CommonName, err
	}
	if body, server, err := get(func(*tls.Config) {}); err != nil || body != "nobody over HTTP/2" || server != "first" {
		t.Errorf("without a certificate: %q by %q, %v", body, server, err)
	}
	_, _, client := keyPair(t, t.TempDir(), "client")
	want := fmt.Sprintf("%x over HTTP/2", sha256.Sum256(client.Leaf.Raw))
	if body, _, err := get(func(c *tls.Config) { c.Certificates = []tls.Certificate{client} }); err != nil || body != want {
		t.Errorf("with a certificate: %q, %v", body, err)
	}
	other, _, _ := keyPair(t, t.TempDir(), "other")
	if data, err := os.ReadFile(other); err == nil {
		der, _ := pem.Decode(data)
		stolen := tls.Certificate{Certificate: [][]byte{der.Bytes}, PrivateKey: client.PrivateKey}
		if body, _, err := get(func(c *tls.Config) { c.Certificates = []tls.Certificate{stolen} }); err == nil {
			t.Errorf("a certificate without its key: %q", body)
		}
	}
	if body, _, err := get(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11; c.MinVersion = tls.VersionTLS10 }); err == nil {
		t.Errorf("TLS 1.1: %q", body)
	}

	keyPair(t, dir, "second")
	if err := certificate.Reload(certificateFile, keyFile); err != nil {
		t.Fatal(err)
	}
	if _, server, err := get(func(*tls.Config) {}); err != nil || server != "second" {
		t.Errorf("after a reload: %q, %v", server, err)
	}
	if err := certificate.Reload(certificateFile, certificateFile); err == nil {
		t.Error("a certificate is taken for a key")
	}
	if _, server, err := get(func(*tls.Config) {}); err != nil || server != "second" {
		t.Errorf("after a reload that failed: %q, %v", server, err)
	}
	if _, err := LoadCertificate(filepath.Join(dir, "none"), keyFile); err == nil {
		t.Error("a file that is not there is loaded")
	}
}
