package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"berth/services/creator/internal/cluster"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// client-go's own: it ends with the next sign of life that it cannot send any more, after 5 s at most.
		goleak.IgnoreAnyFunction("k8s.io/client-go/tools/remotecommand.(*heartbeat).start"))
}

// node plays an API server and the containers behind it: what a command prints, and
// how it ends. It notes the requests.
type node struct {
	*httptest.Server
	spdyOnly bool
	over     chan struct{} // Closed at the end of the test.

	mu       sync.Mutex
	requests []string
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{over: make(chan struct{})}
	n.Server = httptest.NewServer(n)
	t.Cleanup(func() {
		close(n.over)
		n.CloseClientConnections()
		n.Close()
	})
	return n
}

func (n *node) files(t *testing.T) *cluster.Files {
	t.Helper()
	config := &rest.Config{Host: n.URL}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return cluster.NewFiles(client, config, namespace)
}

func (n *node) asked() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.requests
}

const execPath = "/api/v1/namespaces/" + namespace + "/pods/"

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	n.mu.Lock()
	n.requests = append(n.requests, r.Method+" "+strings.Join(query["command"], " ")+" in "+query.Get("container"))
	n.mu.Unlock()
	pod, isExec := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, execPath), "/exec")
	switch code := map[string]int{"gone": http.StatusNotFound, "forbidden": http.StatusForbidden, "broken": http.StatusInternalServerError}[pod]; {
	case !isExec:
		w.WriteHeader(http.StatusTeapot)
	case code != 0:
		n.refuse(w, code)
	case n.spdyOnly && r.Method == http.MethodGet:
		n.refuse(w, http.StatusBadRequest)
	case r.Method == http.MethodGet:
		n.websocket(w, r, query["command"][1])
	default:
		n.spdy(w, r, query["command"][1])
	}
}

func (n *node) refuse(w http.ResponseWriter, code int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	status := metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: int32(code),
		Message: "the API server's words: " + strings.ToLower(http.StatusText(code)),
	}
	send(w, status)
}

// send writes how a command has ended. Whoever asked may be gone.
func send(w io.Writer, status metav1.Status) bool {
	text, err := json.Marshal(status)
	if err == nil {
		_, err = w.Write(text)
	}
	return err == nil
}

// run plays a container: it prints a file and returns how that ended.
func (n *node) run(path string, out io.Writer) metav1.Status {
	switch path {
	case "/tmp/token":
		_, _ = io.WriteString(out, "secret\n")
	case "/tmp/empty":
	case "/tmp/endless":
		for {
			if _, err := out.Write(make([]byte, 1000)); err != nil {
				break
			}
			select {
			case <-n.over:
				return metav1.Status{}
			default:
			}
		}
	case "/tmp/quoted":
		return metav1.Status{Status: metav1.StatusFailure, Message: "error executing command: cat: exit status 1\nsecret: no such file"}
	case "/tmp/silent":
		<-n.over
	default:
		return metav1.Status{Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason, Details: &metav1.StatusDetails{
			Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: "1"}},
		}}
	}
	return metav1.Status{Status: metav1.StatusSuccess}
}

// channel is a stream of a WebSocket connection.
type channel struct {
	conn *websocket.Conn
	id   byte
}

func (c channel) Write(p []byte) (int, error) {
	return len(p), c.conn.WriteMessage(websocket.BinaryMessage, append([]byte{c.id}, p...))
}

func (n *node) websocket(w http.ResponseWriter, r *http.Request, path string) {
	upgrader := websocket.Upgrader{Subprotocols: []string{remotecommand.StreamProtocolV5Name}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	if send(channel{conn, remotecommand.StreamErr}, n.run(path, channel{conn, remotecommand.StreamStdOut})) {
		_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	}
}

func (n *node) spdy(w http.ResponseWriter, r *http.Request, path string) {
	if _, err := httpstream.Handshake(r, w, []string{remotecommand.StreamProtocolV4Name}); err != nil {
		return
	}
	streams := make(chan httpstream.Stream, 8)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error {
		streams <- s
		return nil
	})
	if conn == nil {
		return
	}
	defer func() { _ = conn.Close() }()
	var out, end httpstream.Stream
	for out == nil || end == nil {
		select {
		case s := <-streams:
			switch s.Headers().Get(corev1.StreamType) {
			case corev1.StreamTypeStdout:
				out = s
			case corev1.StreamTypeError:
				end = s
			}
		case <-n.over:
			return
		}
	}
	send(end, n.run(path, out))
	_, _ = out.Close(), end.Close()
	<-conn.CloseChan()
}

func TestRead(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		pod, path string // name and /tmp/token unless set.
		limit     int    // 100 unless set.
		spdyOnly  bool
		want      string
		is        error
		says      string
		asked     []string
	}{
		"a file":                   {want: "secret\n", asked: []string{"GET cat /tmp/token in main"}},
		"a file that is cut":       {limit: 3, want: "sec", asked: []string{"GET cat /tmp/token in main"}},
		"a file of the very limit": {limit: 7, want: "secret\n", asked: []string{"GET cat /tmp/token in main"}},
		"a file without an end":    {path: "/tmp/endless", want: strings.Repeat("\x00", 100), asked: []string{"GET cat /tmp/endless in main"}},
		"no file":                  {path: "/tmp/missing", is: cluster.ErrNoFile, asked: []string{"GET cat /tmp/missing in main"}},
		"an exit without a code":   {path: "/tmp/quoted", is: cluster.ErrNoFile, asked: []string{"GET cat /tmp/quoted in main"}},
		"an empty file":            {path: "/tmp/empty", is: cluster.ErrNoFile, asked: []string{"GET cat /tmp/empty in main"}},
		"words of a shell":         {path: "/tmp/$(id); a 'b'", is: cluster.ErrNoFile, asked: []string{"GET cat /tmp/$(id); a 'b' in main"}},
		"no pod":                   {pod: "gone", is: cluster.ErrNoPod, asked: []string{"GET cat /tmp/token in main"}},
		"a node that is broken":    {pod: "broken", says: "the API server's words", asked: []string{"GET cat /tmp/token in main"}},
		// A role may allow one of the two verbs alone.
		"not allowed":               {pod: "forbidden", is: cluster.ErrForbidden, asked: []string{"GET cat /tmp/token in main", "POST cat /tmp/token in main"}},
		"no WebSockets":             {spdyOnly: true, want: "secret\n", asked: []string{"GET cat /tmp/token in main", "POST cat /tmp/token in main"}},
		"no WebSockets and no file": {spdyOnly: true, path: "/tmp/missing", is: cluster.ErrNoFile, asked: []string{"GET cat /tmp/missing in main", "POST cat /tmp/missing in main"}},
		"no WebSockets, no end":     {spdyOnly: true, path: "/tmp/endless", want: strings.Repeat("\x00", 100), asked: []string{"GET cat /tmp/endless in main", "POST cat /tmp/endless in main"}},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.spdyOnly = tt.spdyOnly
			or := func(text, instead string) string {
				if text == "" {
					return instead
				}
				return text
			}
			limit := tt.limit
			if limit == 0 {
				limit = 100
			}
			got, err := n.files(t).Read(t.Context(), or(tt.pod, name), "main", or(tt.path, "/tmp/token"), limit)
			if string(got) != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("Read = %q, %v; want %q", got, err, tt.want)
			}
			if tt.is != nil && !errors.Is(err, tt.is) || tt.says != "" && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Read = %v, want %v, …%s…", err, tt.is, tt.says)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("%v quotes the file", err)
			}
			if d := cmp.Diff(tt.asked, n.asked()); d != "" {
				t.Errorf("asked (-want +got):\n%s", d)
			}
		})
	}
}

func TestReadEndsInTime(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if got, err := n.files(t).Read(ctx, name, "main", "/tmp/silent", 100); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Read = %q, %v", got, err)
	}
}

func TestReadWithoutAnAPIServer(t *testing.T) {
	t.Parallel()
	// Unlike a port that a listener has given up, nobody takes this one meanwhile.
	config := &rest.Config{Host: "http://127.0.0.1:1"}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = cluster.NewFiles(client, config, namespace).Read(t.Context(), name, "main", "/tmp/token", 100)
	if !errors.Is(err, cluster.ErrUnreachable) {
		t.Errorf("Read = %v, want %v", err, cluster.ErrUnreachable)
	}
}
