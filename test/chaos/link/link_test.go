package link

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that says what it hears.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); running.Wait() })
	running.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { _, _ = io.Copy(c, c); _ = c.Close() })
		}
	})
	return listener.Addr().String()
}

// dial connects through the link.
func dial(t *testing.T, l *TCP) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, bufio.NewReader(c)
}

// says sends a line and returns what comes back.
func says(t *testing.T, c net.Conn, r *bufio.Reader, patience time.Duration) (string, error) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return "", err
	}
	return r.ReadString('\n')
}

func TestTCP(t *testing.T) {
	t.Parallel()
	const long, short = time.Minute, 200 * time.Millisecond
	l, err := NewTCP(t.Context(), echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	c, r := dial(t, l)
	if text, err := says(t, c, r, long); text != "hello\n" {
		t.Errorf("whole: %q, %v", text, err)
	}

	l.Slow(50 * time.Millisecond)
	begun := time.Now()
	if text, err := says(t, c, r, long); text != "hello\n" || time.Since(begun) < 100*time.Millisecond {
		t.Errorf("slow: %q after %s, %v", text, time.Since(begun), err)
	}
	l.Heal()

	l.Cut()
	if _, err := says(t, c, r, long); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("cut: %v; want to be told", err)
	}
	c, r = dial(t, l)
	if text, err := says(t, c, r, long); text != "hello\n" {
		t.Errorf("after a cut: %q, %v", text, err)
	}

	l.Swallow()
	if _, err := says(t, c, r, short); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("half-open: %v; want silence", err)
	}
	fresh, reader := dial(t, l)
	if _, err := says(t, fresh, reader, short); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("new and half-open: %v; want silence", err)
	}
	l.Heal()
	if _, err := says(t, c, r, short); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("half-open after the heal: %v; want silence for ever", err)
	}
	fresh, reader = dial(t, l)
	if text, err := says(t, fresh, reader, long); text != "hello\n" {
		t.Errorf("healed: %q, %v", text, err)
	}
}

// cluster is a link to an API server that knows one pod, and a client behind it.
func cluster(t *testing.T) (*API, kubernetes.Interface) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		const pod = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","namespace":"n","resourceVersion":"1"}}`
		if r.URL.Query().Get("watch") != "" {
			for range 3 {
				_, _ = io.WriteString(w, `{"type":"ADDED","object":`+pod+"}\n")
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, pod)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	a, err := NewAPI(t.Context(), &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	config, err := clientcmd.RESTConfigFromKubeConfig(a.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.Proxy = http.ProxyFromEnvironment // A transport of its own.
	config.Timeout = time.Minute
	doer, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(doer.CloseIdleConnections)
	client, err := kubernetes.NewForConfigAndClient(config, doer)
	if err != nil {
		t.Fatal(err)
	}
	return a, client
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer Answer
		want   func(error) bool
	}{
		"none":      {"", func(err error) bool { return err == nil }},
		"429":       {TooMany, apierrors.IsTooManyRequests},
		"500":       {Internal, apierrors.IsInternalError},
		"504":       {Timeout, apierrors.IsTimeout},
		"410":       {Expired, func(err error) bool { return err == nil }}, // Only watches.
		"truncated": {Truncated, func(err error) bool { return err != nil && !errors.Is(err, context.DeadlineExceeded) }},
		"broken":    {Broken, func(err error) bool { return err != nil && !errors.Is(err, context.DeadlineExceeded) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, client := cluster(t)
			a.Answer(tc.answer, 1)
			// Without the client's own repetitions.
			err := client.CoreV1().RESTClient().Get().Namespace("n").Resource("pods").Name("p").MaxRetries(0).Do(t.Context()).Into(&corev1.Pod{})
			if !tc.want(err) {
				t.Errorf("error %v", err)
			}
			a.Answer("", 0)
			if _, err := client.CoreV1().Pods("n").Get(t.Context(), "p", metav1.GetOptions{}); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			if n := a.Counts()["GET pods"]; n < 2 {
				t.Errorf("%d requests counted: %v", n, a.Counts())
			}
		})
	}
}

// TestWatches: events come through at once; a watch that is spoiled ends early.
func TestWatches(t *testing.T) {
	t.Parallel()
	a, client := cluster(t)
	pods := client.CoreV1().Pods("n")
	w, err := pods.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if event := <-w.ResultChan(); event.Object == nil {
			t.Error("the watch ended")
		}
	}
	a.Cut()
	if event, open := <-w.ResultChan(); open && event.Object != nil && !strings.Contains(string(event.Type), "ERROR") {
		t.Errorf("after a cut: %v", event)
	}
	w.Stop()
	a.Answer(Expired, 1)
	if _, err := pods.Watch(t.Context(), metav1.ListOptions{}); !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		t.Errorf("410: %v", err)
	}
}
