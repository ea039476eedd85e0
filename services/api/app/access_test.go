package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/service"
	"berth/pkg/service/config"
)

const (
	tokenA, tokenB, tokenAdmin = "token-of-a", "token-of-b", "token-of-admins"
	userA, userB               = "alice@a.org", "bob@b.org"
)

func siloOf(name, token, domain string) config.Silo {
	return config.Silo{
		Name: name, Credentials: config.Credentials{TokenHash: config.Sum([]byte(token))}, DataAddress: netip.MustParseAddr("10.2.0.1"),
		HostName: name + ".example.org", UserDomains: []string{domain},
	}
}

// twoSilos has a silo of the users of a.org, one of those of b.org, and an administrator.
func twoSilos(c *config.Config) {
	c.Silos = []config.Silo{siloOf("a", tokenA, "a.org"), siloOf("b", tokenB, "b.org")}
	c.AdminTokenHash = config.Sum([]byte(tokenAdmin))
}

// answer is all that a client sees of an answer.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

// ask sends a request with a token, and nothing else that tells who asks.
func (b *bench) ask(method, path, token, body string) answer {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, "http://"+b.Addr()+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := b.client.Do(request)
	if err != nil {
		b.t.Errorf("%s %s: %v", method, path, err)
		return answer{}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Errorf("%s %s: %v", method, path, err)
	}
	// They differ from request to request, whatever is asked.
	response.Header.Del("Date")
	response.Header.Del("X-Request-Id")
	return answer{Status: response.StatusCode, Header: response.Header, Body: string(text)}
}

// doAll plays the deleter: everything that is asked for is done at once.
func (b *bench) doAll(stage events.Stage, report *events.Report) {
	b.t.Helper()
	eventstest.Go(b.t, func(ctx context.Context) error {
		return b.bus.Consume(ctx, natsbus.Stage{Stage: stage, Concurrency: 4, Handler: func(ctx context.Context, d natsbus.Delivery) error {
			_, err := b.bus.Decide(ctx, events.Outcome{Verdict: events.Done, Command: d.ID, User: d.User, Report: report})
			return err
		}})
	})
}

// TestIsolation: silo A asks about users of B, with and without pods, and about users and pods that do not
// exist. The answers are the same, to the byte.
func TestIsolation(t *testing.T) { //nolint:tparallel // What was asked for is looked at when all have been answered.
	t.Parallel()
	// Long enough for the owner's silo, which asks until it is told; nobody's is told at the end.
	b := comparedWith(t, func(w *waits) { w.owner = 2 * time.Second }, twoSilos)
	b.beat(0)
	b.confirms(func(natsbus.Address) (bool, error) { return true, nil })
	eventstest.Bring(t, b.bus, "ready-bob", userB, events.Ready)
	eventstest.Bring(t, b.bus, "deleting-bob", userB, events.Deleting)
	eventstest.Bring(t, b.bus, "running-bob", userB, events.Running)
	b.address("addressed-bob", userB, "10.0.7.7")
	b.doAll(events.StageDeleteUser, nil)
	eventstest.Eventually(t, "the watcher is heard of", func() bool { return b.backend.pulse.fresh() == nil })
	for _, pod := range []string{"ready-bob", "deleting-bob", "running-bob"} {
		if _, err := b.table.Fresh(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	body := func(user, pod string) string {
		text, err := json.Marshal(object{"user_id": user, "pod_name": pod, "yaml_url": "https://example.org/n.yaml"})
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	// What nobody has, of the caller's own domain; a create has no such thing to compare with.
	none := body("nobody@a.org", "nothing")
	t.Run("answers", func(t *testing.T) {
		for _, path := range []string{"/get_pods", "/create_pod", "/watch_create_pod", "/delete_pod", "/watch_delete_pod", "/delete_all_user"} {
			t.Run(path, func(t *testing.T) {
				t.Parallel()
				like := none
				if path == "/create_pod" {
					like = body("nobody@nowhere.org", "nothing")
				}
				want := b.ask(http.MethodPost, path, tokenA, like)
				for _, asked := range []string{
					body(userB, "ready-bob"), body(userB, "deleting-bob"), body(userB, "running-bob"), body(userB, "nothing"),
					body("nobody@b.org", "ready-bob"), body("nobody@nowhere.org", "nothing"), body("bob", "ready-bob"), body("bob@b.org.a", "ready-bob"),
				} {
					if d := cmp.Diff(want, b.ask(http.MethodPost, path, tokenA, asked)); d != "" {
						t.Errorf("%s is told from nothing (-nothing +this):\n%s", asked, d)
					}
				}
				// The pod of another under the caller's own user.
				if path != "/create_pod" {
					for _, pod := range []string{"ready-bob", "deleting-bob", "running-bob"} {
						if d := cmp.Diff(want, b.ask(http.MethodPost, path, tokenA, body(userA, pod))); d != "" {
							t.Errorf("the pod %s is told from nothing (-nothing +this):\n%s", pod, d)
						}
					}
				}
				if path == "/get_pods" {
					if own := b.ask(http.MethodPost, path, tokenB, body(userB, "")); !strings.Contains(own.Body, "running-bob") {
						t.Errorf("its own silo: %+v", own)
					}
				}
			})
		}
		t.Run("owner", func(t *testing.T) {
			t.Parallel()
			var want, got answer
			var group sync.WaitGroup
			group.Go(func() { want = b.ask(http.MethodGet, "/get_podip_owner?ip=10.0.7.8", tokenA, "") })
			group.Go(func() { got = b.ask(http.MethodGet, "/get_podip_owner?ip=10.0.7.7", tokenA, "") })
			eventstest.Eventually(t, "its own silo is told", func() bool {
				own := b.ask(http.MethodGet, "/get_podip_owner?ip=10.0.7.7", tokenB, "")
				return own.Status == 200 && own.Body == userB
			})
			group.Wait()
			if d := cmp.Diff(want, got); d != "" || want.Status != 200 || want.Body != "" {
				t.Errorf("status %d; the address of another's pod is told from nobody's (-nobody's +this):\n%s", want.Status, d)
			}
		})
	})
	for _, stage := range []events.Stage{events.StageCreate, events.StageDelete, events.StageDeleteUser} {
		for _, c := range eventstest.Queued(t, b.server, stage) {
			if !strings.HasSuffix(c.User, "@a.org") {
				t.Errorf("asked for: %+v", c)
			}
		}
	}
}

// TestSiloOfACreate: the pod gets to know the silo that asked, as the site describes it.
func TestSiloOfACreate(t *testing.T) {
	t.Parallel()
	b := compared(t, twoSilos, func(c *config.Config) { c.CreateDeadline = time.Second })
	b.ask(http.MethodPost, "/create_pod", tokenA, `{"user_id":"`+userA+`","yaml_url":"https://example.org/n.yaml"}`)
	want := events.Silo{Name: "a", DataAddress: "10.2.0.1", HostName: "a.example.org"}
	if d := cmp.Diff(want, b.take().Create.Silo); d != "" {
		t.Errorf("silo (-want +got):\n%s", d)
	}
}

func TestTooOften(t *testing.T) {
	t.Parallel()
	b := compared(t, twoSilos, func(c *config.Config) {
		c.RateLimits.PerUser = config.RateLimit{PerSecond: 0.001, Burst: 2}
	})
	asks := func(token, user string) answer {
		return b.ask(http.MethodPost, "/get_pods", token, `{"user_id":"`+user+`"}`)
	}
	for range 2 {
		if got := asks(tokenA, userA); got.Status != 200 {
			t.Errorf("answer = %+v", got)
		}
	}
	if got := asks(tokenA, userA); got.Status != 429 || !strings.Contains(got.Body, "RATE_LIMITED") || got.Header.Get("Retry-After") == "" {
		t.Errorf("the third = %+v", got)
	}
	if got := asks(tokenB, userB); got.Status != 200 {
		t.Errorf("another = %+v", got)
	}
}

// TestReload: SIGHUP changes who may call. A long poll goes on.
func TestReload(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	opts := options(server, twoSilos)
	opts.Reloads = service.NewReloads(opts.Config)
	b := startBench(t, server, opts)
	b.compare()
	entry := eventstest.Bring(t, b.bus, pod, userA, events.Running)
	watched := make(chan answer, 1)
	go func() {
		watched <- b.ask(http.MethodPost, "/watch_create_pod", tokenA, `{"user_id":"`+userA+`","pod_name":"`+pod+`"}`)
	}()
	b.waiting("/watch_create_pod", 1)

	later := opts.Config
	later.Silos = []config.Silo{siloOf("a", "new-token", "a.org")}
	opts.Reloads.Reload(func() (config.Config, []config.Notice, error) { return later, nil, nil }, zerolog.Nop())

	mine := `{"user_id":"` + userA + `"}`
	if got := b.ask(http.MethodPost, "/get_pods", tokenA, mine); got.Status != 401 || got.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("the old token: %+v", got)
	}
	if got := b.ask(http.MethodPost, "/get_pods", "new-token", mine); got.Status != 200 {
		t.Errorf("the new token: %+v", got)
	}
	b.append(eventstest.Observe(entry.Generation, eventstest.Ready("uid-"+pod, "109")))
	if got := eventstest.Receive(t, "the answer", watched); got.Status != 200 || got.Body != "{\"ready\":true}\n" {
		t.Errorf("the long poll: %+v", got)
	}
}

// certificateFiles makes a certificate of its own authority.
func certificateFiles(t *testing.T, dir string) (certificate, key string, pair tls.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	err = errors.Join(
		os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	if pair, err = tls.LoadX509KeyPair(certificate, key); err != nil {
		t.Fatal(err)
	}
	return certificate, key, pair
}

// TestClientCertificate: a silo is known by the certificate that it has the key of.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	_, _, client := certificateFiles(t, t.TempDir())
	_, _, stranger := certificateFiles(t, t.TempDir())
	b := compared(t, func(c *config.Config) {
		c.TLSListen = "127.0.0.1:0"
		c.TLSCertificateFile, c.TLSKeyFile, _ = certificateFiles(t, t.TempDir())
		s := siloOf("a", "", "a.org")
		s.Credentials = config.Credentials{CertificateHash: config.Sum(client.Leaf.Raw)}
		c.Silos = []config.Silo{s}
	})
	for name, tt := range map[string]struct {
		certificates []tls.Certificate
		want         int
	}{"its own": {[]tls.Certificate{client}, 200}, "a stranger's": {[]tls.Certificate{stranger}, 403}, "none": {nil, 403}} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: tt.certificates}}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+b.secure.Addr()+"/get_pods", strings.NewReader(`{"user_id":"`+userA+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != tt.want {
			t.Errorf("%s certificate: status %d, want %d", name, response.StatusCode, tt.want)
		}
		_ = response.Body.Close()
		transport.CloseIdleConnections()
	}
}

// TestReloadEndsStreams: a silo that is not let in any more follows nothing any more.
func TestReloadEndsStreams(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	opts := options(server, twoSilos)
	opts.Reloads = service.NewReloads(opts.Config)
	b := startBench(t, server, opts)
	b.compare()
	follow := func(token string) <-chan error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.Addr()+"/v1/events", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := b.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		lines := bufio.NewScanner(response.Body)
		for synced := false; !synced && lines.Scan(); {
			synced = lines.Text() == "event: synced"
		}
		if err := lines.Err(); err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("the stream: %d, %v", response.StatusCode, err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, response.Body)
			ended <- err
		}()
		return ended
	}
	revoked, kept := follow(tokenA), follow(tokenB)
	b.waiting("/v1/events", 2)
	reload := func(silos ...config.Silo) {
		later := opts.Config
		later.Silos = silos
		opts.Reloads.Reload(func() (config.Config, []config.Notice, error) { return later, nil, nil }, zerolog.Nop())
	}
	reload(siloOf("b", tokenB, "b.org"))
	if err := eventstest.Receive(t, "the end of the stream", revoked); err != nil {
		t.Errorf("the stream: %v", err)
	}
	b.waiting("/v1/events", 1)
	reload() // None: refused.
	if got := b.ask(http.MethodGet, "/v1/pods", tokenB, ""); got.Status != 200 {
		t.Errorf("after a reload without silos: %+v", got)
	}
	b.waiting("/v1/events", 1)
	reload(siloOf("b", "new", "b.org"))
	if err := eventstest.Receive(t, "the end of the other", kept); err != nil {
		t.Errorf("the other stream: %v", err)
	}
}

// TestDenialsOverHTTP2 have a body, and leave the connection to others.
func TestDenialsOverHTTP2(t *testing.T) {
	t.Parallel()
	b := compared(t, twoSilos, func(c *config.Config) {
		c.TLSListen = "127.0.0.1:0"
		c.TLSCertificateFile, c.TLSKeyFile, _ = certificateFiles(t, t.TempDir())
	})
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	for _, path := range []string{"/get_podip_owner?ip=10.0.7.7", "/v1/pods"} {
		dialled := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
			if !i.Reused {
				dialled++
			}
		}})
		for range 2 {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+b.secure.Addr()+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			response, err := (&http.Client{Transport: transport}).Do(request)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			if err != nil || response.ProtoMajor != 2 || response.StatusCode != http.StatusUnauthorized || !strings.Contains(string(text), "UNAUTHORIZED") {
				t.Errorf("%s over %s: status %d, %s, %v", path, response.Proto, response.StatusCode, text, err)
			}
			_ = response.Body.Close()
		}
		if dialled > 1 {
			t.Errorf("%s: the connection was given up", path)
		}
	}
	// Over HTTP/1.1 a stranger's connection is not kept.
	for _, path := range []string{"/get_podip_owner?ip=10.0.7.7", "/v1/pods"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.Addr()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := b.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusUnauthorized || !response.Close {
			t.Errorf("%s over HTTP/1.1: status %d, closed %t", path, response.StatusCode, response.Close)
		}
		_ = response.Body.Close()
	}
}

// TestAuditTrail: who asked what for whom, in the stream; long polls once, at their end.
func TestAuditTrail(t *testing.T) {
	t.Parallel()
	b := compared(t, twoSilos, func(c *config.Config) {
		elsewhere := siloOf("elsewhere", "elsewhere", "c.org")
		elsewhere.SourceNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		c.Silos = append(c.Silos, elsewhere)
	})
	entry := eventstest.Bring(t, b.bus, pod, userA, events.Ready)
	b.ask(http.MethodPost, "/watch_create_pod", tokenA, `{"user_id":"`+userA+`","pod_name":"`+pod+`"}`)
	b.ask(http.MethodPost, "/delete_pod", tokenA, `{"user_id":"`+userB+`","pod_name":"`+pod+`"}`)
	b.ask(http.MethodPost, "/get_pods", "guessed", `{"user_id":"`+userA+`"}`)
	b.ask(http.MethodPost, "/get_pods", "elsewhere", `{"user_id":"`+userA+`"}`)
	deleted := make(chan answer, 1)
	go func() {
		deleted <- b.ask(http.MethodPost, "/delete_pod", tokenA, `{"user_id":"`+userA+`","pod_name":"`+pod+`"}`)
	}()
	var queued []events.Command
	eventstest.Eventually(t, "the delete is queued", func() bool {
		queued = eventstest.Queued(t, b.server, events.StageDelete)
		return len(queued) == 1
	})
	b.append(eventstest.Delete(entry.Generation))
	eventstest.Receive(t, "the answer", deleted)

	of := func(action, user, command string, status int, reason events.Reason) events.AuditRecord {
		return events.AuditRecord{
			Cluster: b.bus.Cluster(), Silo: "a", Address: "127.0.0.1", Action: action, User: user, Pod: pod, Command: command, Status: status, Reason: reason,
		}
	}
	want := []events.AuditRecord{
		of("delete_pod", userA, queued[0].ID, 200, ""), of("delete_pod", userB, "", 404, events.NotFound),
		{Cluster: b.bus.Cluster(), Silo: "elsewhere", Denied: true, Address: "127.0.0.1", Action: "get_pods", Status: 403, Reason: events.Forbidden},
		of("watch_create_pod", userA, "", 200, ""),
	}
	var got []events.AuditRecord
	eventstest.Eventually(t, "the records are kept", func() bool {
		got = b.audited()
		return len(got) >= len(want)
	})
	for _, r := range got {
		if r.Request == "" || r.Time.IsZero() {
			t.Errorf("record without id or time: %+v", r)
		}
	}
	slices.SortFunc(got, func(x, y events.AuditRecord) int { return strings.Compare(x.Action+x.User, y.Action+y.User) })
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(events.AuditRecord{}, "Request", "Time", "Took")); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
}

// audited reads the audit stream.
func (b *bench) audited() []events.AuditRecord {
	b.t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(b.server))
	if err != nil {
		b.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		b.t.Fatal(err)
	}
	stream, err := js.Stream(b.t.Context(), events.AuditStream)
	if err != nil {
		return nil // Not made yet.
	}
	var all []events.AuditRecord
	for from := uint64(1); ; from++ {
		message, err := stream.GetMsg(b.t.Context(), from)
		if err != nil {
			return all
		}
		e, err := events.Parse(message.Data)
		if err != nil || e.Audit == nil || message.Subject != e.Audit.Subject() {
			b.t.Fatalf("audit message %s at %s: %v", message.Data, message.Subject, err)
		}
		all = append(all, *e.Audit)
	}
}

// TestBombs: what is too large or too slow is refused, over real sockets.
func TestBombs(t *testing.T) {
	t.Parallel()
	b := compared(t)
	tests := map[string]struct{ request, want string }{
		"headers":      {"POST /get_pods HTTP/1.1\r\nHost: localhost\r\nX-A: " + strings.Repeat("a", 100_000) + "\r\n\r\n", "HTTP/1.1 431 "},
		"many headers": {"POST /get_pods HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X-A: a\r\n", 10_000) + "\r\n", "HTTP/1.1 431 "},
		"a body": {
			"POST /get_pods HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10000000\r\n\r\n{\"user_id\":\"" + strings.Repeat("a", 300_000),
			"HTTP/1.1 413 ",
		},
		"a body without end": {
			"POST /get_pods HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("2710\r\n"+strings.Repeat(" ", 10_000)+"\r\n", 30),
			"HTTP/1.1 413 ",
		},
		"deep JSON": {
			"POST /get_pods HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("[", 200_000), "HTTP/1.1 400 ",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := new(net.Dialer).DialContext(t.Context(), "tcp", b.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.WriteString(c, tt.request) }() // The server may close before it has read all.
			line, err := bufio.NewReader(c).ReadString('\n')
			if err != nil || !strings.HasPrefix(line, tt.want) {
				t.Errorf("answer %q, %v; want %s", line, err, tt.want)
			}
		})
	}
}

// TestIdleConnections: ten thousand of them, and as many half-sent headers and bodies as come, keep nobody out, and
// long polls go on.
func TestIdleConnections(t *testing.T) { //nolint:paralleltest // It uses half of the files that the process may open.
	b := compared(t)
	entry := eventstest.Bring(t, b.bus, pod, user, events.Running)
	watched := b.begin("/watch_create_pod", of(user))
	b.waiting("/watch_create_pod", 1)
	const count = 10_000
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for i := range count {
		c, err := (&net.Dialer{Timeout: time.Minute}).DialContext(t.Context(), "tcp", b.Addr())
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		conns = append(conns, c)
		switch i % 4 { // It may have been closed.
		case 0:
			_, _ = io.WriteString(c, "POST /get_pods HTTP/1.1\r\nHost: local")
		case 1, 2:
			_, _ = io.WriteString(c, "POST /get_pods HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n{")
		}
		if i%1000 == 999 {
			if got := b.post("/get_pods", of(user)); got.Status != 200 {
				t.Errorf("after %d connections: %+v", i+1, got)
			}
		}
	}
	b.append(eventstest.Observe(entry.Generation, eventstest.Ready("uid-"+pod, "109")))
	b.expect("watch_create_pod", eventstest.Receive(t, "the answer", watched), yes("ready"))
}

// TestNoSecretsInTheLog: tokens, variables and queries of URLs are in no line, whatever becomes of a request.
func TestNoSecretsInTheLog(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServer(t)
	opts := options(server, twoSilos, func(c *config.Config) { c.CreateDeadline = time.Second })
	log := &lines{}
	opts.Log = zerolog.New(log).Level(zerolog.TraceLevel)
	b := startBench(t, server, opts)
	b.compare()
	body := `{"user_id":"` + userA + `","yaml_url":"https://example.org/n.yaml?key=hidden1","settings":{"main":{"A":"hidden2"}}}`
	b.ask(http.MethodPost, "/create_pod", tokenA, body)
	b.ask(http.MethodPost, "/create_pod", "hidden3", body)
	b.ask(http.MethodPost, "/clean_all_unused", tokenA, "")
	if text := log.String(); !strings.Contains(text, `"audit":true`) || strings.Contains(text, "hidden") || strings.Contains(text, tokenA) {
		t.Errorf("log: %s", text)
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
