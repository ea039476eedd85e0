package natsbus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

// rawJetStream is for what no service does: it reads behind the bus's back,
// deletes streams, and writes what no version of Berth understands.
func rawJetStream(tb testing.TB, server *eventstest.Server) jetstream.JetStream {
	tb.Helper()
	nc, err := natsConnect(server.Options())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(patience))
	if err != nil {
		tb.Fatal(err)
	}
	return js
}

// patience is how long a server may take that is busy with other tests.
const patience = time.Minute

func natsConnect(o natsbus.Options) (*nats.Conn, error) {
	opts := []nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.Timeout(patience)}
	if o.InProcess != nil {
		opts = append(opts, nats.InProcessServer(o.InProcess))
	}
	return nats.Connect(o.URL, opts...)
}

// messages counts the messages of a stream.
func messages(tb testing.TB, js jetstream.JetStream, name string) uint64 {
	tb.Helper()
	s, err := js.Stream(tb.Context(), name)
	if err != nil {
		tb.Fatal(err)
	}
	info, err := s.Info(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return info.State.Msgs
}

// history reads the events of a pod.
func history(tb testing.TB, js jetstream.JetStream, pod string) []events.Type {
	tb.Helper()
	s, err := js.Stream(tb.Context(), events.LogStream)
	if err != nil {
		tb.Fatal(err)
	}
	var out []events.Type
	for next := uint64(1); ; {
		msg, err := s.GetMsg(tb.Context(), next, jetstream.WithGetMsgSubject(events.PodFilter(eventstest.Cluster, pod)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return out
		}
		if err != nil {
			tb.Fatal(err)
		}
		e, err := events.Parse(msg.Data)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, e.Record.Event)
		next = msg.Sequence + 1
	}
}

// wholeLife are the events of eventstest.Life.
func wholeLife() []events.Type {
	return []events.Type{
		events.Claimed, events.Licensed, events.Launching, events.Launched, events.Waiting, events.Running,
		events.Ready, events.Ended, events.Deleting, events.Gone,
	}
}

// proxy stands between a bus and a server. It can lose the answer to the next
// publish and the connection with it.
type proxy struct {
	listener net.Listener
	target   string
	lossy    atomic.Bool
	lost     atomic.Int64
	running  sync.WaitGroup
}

func newProxy(tb testing.TB, server *eventstest.Server) *proxy {
	tb.Helper()
	u, err := url.Parse(server.URL())
	if err != nil {
		tb.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{listener: l, target: u.Host}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	p.running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.serve(ctx, client) })
		}
	})
	tb.Cleanup(func() {
		l.Close()
		cancel()
		p.running.Wait()
	})
	return p
}

// Options implements eventstest.Site.
func (p *proxy) Options() natsbus.Options {
	return natsbus.Options{URL: fmt.Sprintf("nats://%s", p.listener.Addr())}
}

func (p *proxy) serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	p.running.Go(func() {
		_, _ = io.Copy(server, client)
		server.Close()
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte(`{"stream":"`)) && p.lossy.CompareAndSwap(true, false) {
			p.lost.Add(1)
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}
