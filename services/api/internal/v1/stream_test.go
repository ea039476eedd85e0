package v1

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/services/api/internal/access"
)

// quiet is a log in which nothing has happened, and from which nobody is kept.
type quiet struct {
	caller access.Caller
	ready  atomic.Pointer[Fault]
	// after, if set, is what After does.
	after func(ctx context.Context) ([]Step, error)
}

func (q *quiet) Admit(*http.Request) (access.Caller, error) { return q.caller, nil }
func (q *quiet) Enter(access.Caller) (func(), error)        { return func() {}, nil }
func (q *quiet) Renew(*http.Request) (access.Caller, <-chan struct{}, error) {
	return q.caller, nil, nil
}

func (*quiet) Silo(access.Caller, string) (events.Silo, bool)            { return events.Silo{}, false }
func (q *quiet) User(access.Caller, string) error                        { return nil }
func (q *quiet) Epoch() Epoch                                            { return Epoch{Created: 1, Loads: 1} }
func (q *quiet) Pods(context.Context, string) ([]Entry, error)           { return nil, nil }
func (q *quiet) History(context.Context, string, string) ([]Step, error) { return nil, nil }
func (q *quiet) After(ctx context.Context, _ events.Position, _ Scope, _ int, _ func(events.Record) bool) ([]Step, error) {
	if q.after != nil {
		return q.after(ctx)
	}
	return nil, nil
}

func (q *quiet) RecordAt(context.Context, events.Position) (time.Time, bool, error) {
	return time.Now(), true, nil
}

func (q *quiet) Ready() error {
	if f := q.ready.Load(); f != nil {
		return f
	}
	return nil
}

// streams is a handler of streams alone, behind a real server.
type streams struct {
	*testing.T
	h      *Handler
	log    *quiet
	server *httptest.Server
	drain  context.CancelFunc
	ended  chan int
	n      uint64
}

func newStreams(t *testing.T, change func(*Handler)) *streams {
	t.Helper()
	// The caller that may name anybody is the one of loopback, whom a guard makes.
	everybody, err := access.New(defaultConfig(), time.Now).Admit(localRequest())
	if err != nil {
		t.Fatal(err)
	}
	log := &quiet{caller: everybody}
	draining, drain := context.WithCancel(context.Background())
	s := &streams{T: t, log: log, drain: drain, ended: make(chan int, 100), h: &Handler{
		Guard: log, State: log, Past: log, Hub: &Hub{}, Draining: draining, Retention: time.Hour, Log: zerolog.Nop(),
	}}
	s.h.Audit = func(r events.AuditRecord) {
		if r.Status != 0 { // Else it has only begun.
			s.ended <- r.Status
		}
	}
	change(s.h)
	mux := http.NewServeMux()
	if err := s.h.Register(mux); err != nil {
		t.Fatal(err)
	}
	s.server = httptest.NewServer(mux)
	t.Cleanup(func() { drain(); s.server.CloseClientConnections(); s.server.Close() })
	return s
}

// happen tells the hub of records of a size.
func (s *streams) happen(count, size int) {
	for range count {
		s.n++
		s.h.Hub.Tell(Epoch{Created: 1, Loads: 1}, Entry{
			Record: events.Record{Event: events.Ready, Pod: "p", User: "alice", Message: strings.Repeat("x", size)}, Position: events.Position{Created: 1, Sequence: s.n},
		})
	}
}

// open opens a stream and reads its beginning, after which events come.
func (s *streams) open(header string) (net.Conn, *bufio.Scanner) {
	s.Helper()
	return s.openAt("/v1/events", header)
}

// openAt is open at a path.
func (s *streams) openAt(path, header string) (net.Conn, *bufio.Scanner) {
	s.Helper()
	return s.openTo(path, header, "event: synced")
}

// openTo reads up to a line.
func (s *streams) openTo(path, header, line string) (net.Conn, *bufio.Scanner) {
	s.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(s.Context(), "tcp", strings.TrimPrefix(s.server.URL, "http://"))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, header)
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if lines.Text() == line {
			return conn, lines
		}
		if strings.HasPrefix(lines.Text(), "HTTP/1.1 ") && lines.Text() != "HTTP/1.1 200 OK" {
			return conn, nil
		}
	}
	s.Fatal("the stream ended before it began")
	return nil, nil
}

// TestSlowReader is cut, and holds nobody up.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	s := newStreams(t, func(h *Handler) { h.WriteLimit = 5 * time.Second })
	_, _ = s.open("") // Reads no further.
	_, lines := s.open("")
	// In all more than the buffers of a connection hold, and more events than may wait.
	const batch, batches, size = 100, 20, 20 << 10
	read := make(chan int, 1)
	go func() {
		count := 0
		for lines.Scan() {
			if lines.Text() == "event: pod" {
				if count++; count%batch == 0 {
					read <- count
				}
			}
		}
	}()
	for i := range batches + 1 {
		if i == batches {
			eventstest.Receive(t, "the end of the slow reader", s.ended)
		}
		s.happen(batch, size)
		if count := eventstest.Receive(t, "the events of the other reader", read); count != (i+1)*batch {
			t.Fatalf("the other reader has %d events of %d", count, (i+1)*batch)
		}
	}
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.h.streams[whose{silo: s.log.caller.Silo.Name}] != 1 {
		t.Errorf("streams: %v", s.h.streams)
	}
}

// TestStreamsAreCounted: a silo has no more than its share, and gets it back.
func TestStreamsAreCounted(t *testing.T) {
	t.Parallel()
	s := newStreams(t, func(h *Handler) { h.MaxStreams = 2 })
	first, _ := s.open("")
	s.open("")
	if _, lines := s.open(""); lines != nil {
		t.Error("a third stream was opened")
	}
	if status := eventstest.Receive(t, "the refusal", s.ended); status != http.StatusTooManyRequests {
		t.Errorf("the third stream was answered with %d", status)
	}
	_ = first.Close()
	eventstest.Receive(t, "the end of the first", s.ended)
	if _, lines := s.open(""); lines == nil {
		t.Error("no stream after one was closed")
	}
}

// TestStreamsOfAUser: one user does not take the places of the others.
func TestStreamsOfAUser(t *testing.T) {
	t.Parallel()
	s := newStreams(t, func(h *Handler) { h.MaxStreams, h.MaxUserStreams = 4, 2 })
	first, _ := s.openAt("/v1/events?user_id=alice", "")
	s.openAt("/v1/events?user_id=alice", "")
	if _, lines := s.openAt("/v1/events?user_id=alice", ""); lines != nil {
		t.Error("a third stream was opened")
	}
	if status := eventstest.Receive(t, "the refusal", s.ended); status != http.StatusTooManyRequests {
		t.Errorf("the third stream was answered with %d", status)
	}
	if _, lines := s.openAt("/v1/events?user_id=bob", ""); lines == nil {
		t.Error("no stream of another user")
	}
	_ = first.Close()
	eventstest.Receive(t, "the end of the first", s.ended)
	if _, lines := s.openAt("/v1/events?user_id=alice", ""); lines == nil {
		t.Error("no stream after one was closed")
	}
}

// TestHeartbeat: a stream says that it is alive, and ends when the log cannot be
// trusted any more or the replica stops, so that its client asks another.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*streams){
		"the log is away": func(s *streams) { s.log.ready.Store(&Fault{Reason: events.Unavailable, Message: "away"}) },
		"it stops":        func(s *streams) { s.drain() },
	}
	for name, happens := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStreams(t, func(h *Handler) { h.Heartbeat = 10 * time.Millisecond })
			_, lines := s.open("")
			beats := 0
			for beats < 3 && lines.Scan() {
				if lines.Text() == ": still here" {
					beats++
				}
			}
			happens(s)
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), "event: ") {
					t.Errorf("%s", lines.Text())
				}
				if lines.Text() == "0" { // The last chunk.
					break
				}
			}
			if beats < 3 {
				t.Errorf("%d heartbeats", beats)
			}
			eventstest.Receive(t, "the end", s.ended)
		})
	}
}

// TestQuietStream: one of whose pods nothing is heard moves on with the log.
func TestQuietStream(t *testing.T) {
	t.Parallel()
	s := newStreams(t, func(h *Handler) { h.Heartbeat = 10 * time.Millisecond })
	s.happen(1, 1)
	_, lines := s.openAt("/v1/events?user_id=bob", "")
	s.happen(6, 1) // Nothing of it is bob's.
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "event: pod") {
			t.Fatal("bob is told of alice's")
		}
		if lines.Text() == "id: 1-7" {
			return
		}
	}
	t.Error("the stream ended")
}

// TestAuditOfAStream: it is noted down when it begins, too.
func TestAuditOfAStream(t *testing.T) {
	t.Parallel()
	records := make(chan events.AuditRecord, 10)
	s := newStreams(t, func(h *Handler) { h.Audit = func(r events.AuditRecord) { records <- r } })
	conn, _ := s.openAt("/v1/events?user_id=alice", "")
	begun := eventstest.Receive(t, "the record of its beginning", records)
	_ = conn.Close()
	end := eventstest.Receive(t, "the record of its end", records)
	if begun.Action != "follow_pods_begun" || begun.Status != 0 || begun.User != "alice" || begun.Address == "" ||
		end.Action != "follow_pods" || end.Status != http.StatusOK || begun.Request != end.Request {
		t.Errorf("begun %+v, ended %+v", begun, end)
	}
}
