package client

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts an API server's stand-in that speaks HTTP/2 over TLS.
func serve(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()

	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)

	return server
}

// kubeconfig writes a kubeconfig for the server, reached at an address.
func kubeconfig(t *testing.T, certificate *x509.Certificate, address string) string {
	t.Helper()

	config := clientcmdapi.NewConfig()
	config.CurrentContext = "test"
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	config.AuthInfos["test"] = &clientcmdapi.AuthInfo{Token: "secret"}
	config.Clusters["test"] = &clientcmdapi.Cluster{
		Server:                   "https://" + address,
		TLSServerName:            "example.com",
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}),
	}

	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}

	return path
}

func TestNewSaysWhoAsks(t *testing.T) {
	t.Parallel()

	seen := make(chan *http.Request, 1)
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r

		http.Error(w, "enough", http.StatusForbidden)
	})
	path := kubeconfig(t, server.Certificate(), server.Listener.Addr().String())

	clientset, config, err := New(Options{Kubeconfig: path, Service: "creator", Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}

	if _, err := clientset.CoreV1().Pods("x").Get(t.Context(), "p", metav1.GetOptions{}); err == nil {
		t.Error("the refusal did not arrive")
	}

	request := <-seen
	if got := request.UserAgent(); got != "berth-creator/1.2.3" {
		t.Errorf("user agent %q", got)
	}

	if got := request.Header.Get("Accept"); !strings.HasPrefix(got, "application/vnd.kubernetes.protobuf") {
		t.Errorf("accepts %q", got)
	}

	if request.ProtoMajor != 2 {
		t.Errorf("speaks %s", request.Proto)
	}

	if config.QPS != DefaultQPS || config.Burst != DefaultBurst {
		t.Errorf("limits %v and %d", config.QPS, config.Burst)
	}
}

func TestDeadConnectionIsNoticed(t *testing.T) {
	t.Parallel()

	reached, done := make(chan struct{}), make(chan struct{})
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(reached)

		select {
		case <-done:
		case <-r.Context().Done():
		}
	})

	t.Cleanup(func() { close(done) })

	address, cut := swallow(t, server.Listener.Addr().String())

	clientset, _, err := connect(Options{Kubeconfig: kubeconfig(t, server.Certificate(), address)},
		100*time.Millisecond, time.Second)
	if err != nil {
		t.Fatal(err)
	}

	// Below the 45 s that client-go takes by itself.
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()

	go func() {
		select {
		case <-reached:
			cut()
		case <-ctx.Done(): // The connection was given up before, on a machine that is busy.
		}
	}()

	_, err = clientset.CoreV1().Pods("x").Get(ctx, "p", metav1.GetOptions{})
	if err == nil || ctx.Err() != nil {
		t.Errorf("got %v, the deadline said %v", err, ctx.Err())
	}
}

// swallow forwards one connection to a server until cut is called; from then on it
// reads and forgets, as a firewall does that has lost the connection.
func swallow(t *testing.T, server string) (address string, cut func()) {
	t.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	var dead atomic.Bool

	finished := make(chan struct{})

	go func() {
		defer close(finished)

		near, err := listener.Accept()
		if err != nil {
			return
		}
		defer near.Close()

		// The client tries again; that is not what is tested.
		listener.Close()

		far, err := net.Dial("tcp", server)
		if err != nil {
			return
		}
		defer far.Close()

		back := make(chan struct{})

		go func() {
			defer close(back)
			forward(near, far, &dead)
		}()

		forward(far, near, &dead)
		far.Close()
		<-back
	}()

	t.Cleanup(func() {
		listener.Close()
		<-finished
	})

	return listener.Addr().String(), func() { dead.Store(true) }
}

func forward(to io.Writer, from io.Reader, dead *atomic.Bool) {
	buffer := make([]byte, 32<<10)

	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}

		if dead.Load() {
			continue
		}

		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	t.Parallel()

	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}

		return path
	}
	missing := filepath.Join(folder, "missing")
	empty := write("empty", "")

	tests := map[string]struct {
		path string
		want []string
	}{
		"missing":              {missing, []string{missing, "KUBECONFIG"}},
		"missing among others": {empty + string(filepath.ListSeparator) + missing, []string{missing}},
		"no YAML":              {write("text", "{"), []string{"text"}},
		"empty":                {empty, []string{empty, "current-context"}},
		"unknown context":      {write("context", "current-context: nowhere"), []string{"nowhere", "current-context"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			_, _, err := New(Options{Kubeconfig: tc.path})
			if err == nil {
				t.Fatal("no error")
			}

			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not name %q", err, want)
				}
			}
		})
	}
}

// Not parallel: it sets the environment.
func TestNewOutsideOfAPod(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")

	if _, _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "KUBECONFIG") {
		t.Errorf("got %v", err)
	}

	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")

	if _, _, err := New(Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
