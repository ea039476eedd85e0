package service

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

const (
	// maxWaiting is how many connections may be open that no request is being answered on: new ones,
	// those whose headers come slowly, and idle ones. The oldest one of the address that has most of them
	// goes for another, so that a stranger's do not keep others out.
	maxWaiting = 2048
	// waitingGrace is what a connection gets even then, up to twice as many: many clients that connect at
	// once, and then ask, lose none.
	waitingGrace = time.Second
	// reservedFiles are kept for other things than connections.
	reservedFiles = 256
	// maxConnections bounds all connections where the system sets no limit to open files.
	maxConnections = 100_000
)

// conns keeps track of the connections of a server. It is safe for concurrent use.
type conns struct {
	maxWaiting, maxOpen int
	now                 func() time.Time

	mu      sync.Mutex
	open    int
	waiting int
	sources map[netip.Addr]*list.List // Of *conn that wait, the oldest first.
}

func newConns() *conns {
	most := maxConnections
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil && files.Cur < maxConnections {
		most = max(int(files.Cur)-reservedFiles, reservedFiles)
	}
	return &conns{maxWaiting: min(maxWaiting, most/2), maxOpen: most, now: time.Now, sources: map[netip.Addr]*list.List{}}
}

// listener returns a listener whose connections are kept track of.
func (c *conns) listener(l net.Listener) net.Listener { return tracked{Listener: l, conns: c} }

type tracked struct {
	net.Listener
	conns *conns
}

// Accept waits for the next connection that is let in.
func (t tracked) Accept() (net.Conn, error) {
	for {
		accepted, err := t.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := t.conns.enter(accepted); c != nil {
			return c, nil
		}
		_ = accepted.Close() // There is nobody to tell, and nothing to tell it with.
	}
}

// conn is a connection of a server.
type conn struct {
	net.Conn
	conns  *conns
	source netip.Addr

	// The fields below are guarded by conns.mu.
	requests int           // Under way.
	place    *list.Element // Among those that wait; nil while it does not.
	since    time.Time     // When it began to wait.
	closed   bool
}

// enter takes a connection in, and makes room for it. It returns nil where there is none.
func (c *conns) enter(accepted net.Conn) *conn {
	n := &conn{Conn: accepted, conns: c, source: sourceOf(accepted.RemoteAddr())}
	c.mu.Lock()
	var out []*conn
	if c.open >= c.maxOpen {
		out = c.evict(out, 0)
	}
	full := c.open >= c.maxOpen
	if !full {
		c.open++
		c.wait(n)
		for c.waiting > c.maxWaiting {
			grace := waitingGrace
			if c.waiting > 2*c.maxWaiting {
				grace = 0
			}
			before := len(out)
			if out = c.evict(out, grace); len(out) == before {
				break
			}
		}
	}
	c.mu.Unlock()
	for _, o := range out {
		_ = o.Conn.Close() // It is given up.
	}
	if full {
		return nil
	}
	return n
}

// evict takes the oldest waiting connection of the address that has most of them away, if it has waited
// for longer than the grace, and adds it to out. The caller holds the lock, and closes it afterwards.
func (c *conns) evict(out []*conn, grace time.Duration) []*conn {
	var most *list.List
	for _, waiting := range c.sources {
		if most == nil || waiting.Len() > most.Len() {
			most = waiting
		}
	}
	if most == nil {
		return out
	}
	oldest := most.Front().Value.(*conn) //nolint:errcheck // The lists hold nothing else.
	if c.now().Sub(oldest.since) < grace {
		return out
	}
	c.leave(oldest)
	return append(out, oldest)
}

// wait notes that a connection waits. The caller holds the lock.
func (c *conns) wait(n *conn) {
	all := c.sources[n.source]
	if all == nil {
		all = list.New()
		c.sources[n.source] = all
	}
	n.place, n.since = all.PushBack(n), c.now()
	c.waiting++
}

// work notes that a connection waits no longer. The caller holds the lock.
func (c *conns) work(n *conn) {
	if n.place == nil {
		return
	}
	all := c.sources[n.source]
	all.Remove(n.place)
	if all.Len() == 0 {
		delete(c.sources, n.source)
	}
	n.place = nil
	c.waiting--
}

// leave notes that a connection is closed. The caller holds the lock.
func (c *conns) leave(n *conn) {
	if !n.closed {
		n.closed = true
		c.work(n)
		c.open--
	}
}

// Close closes the connection.
func (n *conn) Close() error {
	n.conns.mu.Lock()
	n.conns.leave(n)
	n.conns.mu.Unlock()
	return n.Conn.Close()
}

// begin notes that a request has come over the connection, end that it has been answered.
func (n *conn) begin() {
	n.conns.mu.Lock()
	defer n.conns.mu.Unlock()
	if n.requests++; !n.closed {
		n.conns.work(n)
	}
}

func (n *conn) end() {
	n.conns.mu.Lock()
	defer n.conns.mu.Unlock()
	if n.requests--; n.requests == 0 && !n.closed {
		n.conns.wait(n)
	}
}

type connKey struct{}

// withConn is the ConnContext of an http.Server.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS.
		c = over.NetConn()
	}
	if n, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, n)
	}
	return ctx
}

// handler notes of each connection when a request is being answered.
func (c *conns) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, ok := r.Context().Value(connKey{}).(*conn); ok {
			n.begin()
			defer n.end()
		}
		next.ServeHTTP(w, r)
	})
}

// ipv6Site is what one site of IPv6 has, in bits: one stranger has all addresses of it.
const ipv6Site = 64

// sourceOf returns what stands for everybody who could have the address.
func sourceOf(address net.Addr) netip.Addr {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	source := tcp.AddrPort().Addr().Unmap().WithZone("")
	if source.Is6() {
		if site, err := source.Prefix(ipv6Site); err == nil {
			return site.Addr()
		}
	}
	return source
}
