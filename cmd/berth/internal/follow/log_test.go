package follow_test

import (
	"context"
	"net"
	"testing"

	"berth/cmd/berth/internal/follow"
	"berth/pkg/events/eventstest"
)

func TestOpenFails(t *testing.T) {
	t.Parallel()
	empty := eventstest.NewListeningServer(t)
	tests := map[string]struct{ url, want string }{
		"nobody there": {"nats://someone:secret@127.0.0.1:1", "connect to NATS: nats: no servers available for connection"},
		"no URL":       {"nats://someone:secret@%zz", "connect to NATS: the server cannot be reached, or its URL is malformed"},
		"no log":       {empty.URL(), "the NATS server has no stream LOG: nats: API error: code=404 err_code=10059 description=stream not found"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, err := follow.Open(t.Context(), tt.url, "test", func(string) {})
			if err == nil {
				log.Close()
				t.Fatal("opened")
			}
			if err.Error() != tt.want {
				t.Errorf("error %q, want %q", err, tt.want)
			}
		})
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	// A server that takes connections and says nothing.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn, err := listener.Accept()
		cancel()
		if err == nil {
			_, _ = conn.Read(make([]byte, 1)) // Until the client has gone.
			_ = conn.Close()
		}
	}()
	if log, err := follow.Open(ctx, "nats://"+listener.Addr().String(), "test", func(string) {}); err == nil {
		log.Close()
		t.Error("opened")
	}
}
