package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"berth/pkg/client"
)

// heard is a stderr that does something when it hears some words first.
type heard struct {
	words string
	then  func()

	once sync.Once
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (h *heard) Write(b []byte) (int, error) {
	if strings.Contains(string(b), h.words) {
		h.once.Do(h.then)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(b)
}

// held is an address at which nobody listens until listen is called, and that nobody else gets meanwhile: it is bound.
func held(t *testing.T) (address string, listen func() net.Listener) {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(socket), "listener")
	t.Cleanup(func() { _ = file.Close() })
	syscall.CloseOnExec(socket)
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port)), func() net.Listener {
		err := syscall.Listen(socket, syscall.SOMAXCONN)
		if err != nil {
			t.Error(err)
		}
		listener, err := net.FileListener(file)
		if err != nil {
			t.Error(err)
		}
		return listener
	}
}

// TestServiceAway: a service that comes up while it is tried is used, and the wait for it told once.
func TestServiceAway(t *testing.T) {
	t.Parallel()
	const project = "8e03978e-40d5-43e8-bc93-6894a57f9324"
	tests := map[string]struct {
		args []string
		want string
	}{
		"create":  {[]string{"pods", "create", "https://example.org/x.yaml", "--no-wait"}, "p\n"},
		"list":    {[]string{"pods", "list"}, ""},
		"start":   {[]string{"project", "start", project, "--no-wait"}, "p\n"},
		"restart": {[]string{"project", "restart", project, "--no-wait"}, "p\n"},
		"stop":    {[]string{"project", "stop", project, "--no-wait"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, listen := held(t)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, `{"name":"p","pods":[]}`)
			}))
			defer server.Close()
			const told = "connection refused; trying for 5s"
			stderr := &heard{words: told, then: func() {
				if err := server.Listener.Close(); err != nil {
					t.Error(err)
				}
				server.Listener = listen()
				server.Start()
			}}
			var stdout bytes.Buffer
			code := Run(t.Context(), Process{
				Args: tt.args, Environ: []string{"BERTH_URL=http://" + address, "BERTH_USER=alice@example.org"}, Stdout: &stdout, Stderr: stderr,
			})
			text := stderr.text.String()
			if code != ExitOK || stdout.String() != tt.want || strings.Count(text, "berth: cannot reach http://"+address+" yet: "+told) != 1 {
				t.Errorf("exit code %d, stdout %q, stderr:\n%s", code, stdout.String(), text)
			}
		})
	}
}

// TestUnreached has the words for why a service cannot be reached.
func TestUnreached(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err  error
		want string
	}{
		"any fault of a dial": {&net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}, "context deadline exceeded"},
		"a proxy away":        {&net.OpError{Op: "proxyconnect", Net: "tcp", Err: errors.New("dial: x")}, "no answer: proxyconnect tcp: dial: x"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := "cannot reach http://b yet: " + tt.want + "; trying for 5s"
			if got := unreached("http://b", fmt.Errorf("%w: %w", client.ErrNoAnswer, tt.err)); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}
