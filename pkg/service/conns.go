package service

import (
	"container/list"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

const (
	// maxWaiting is how many connections may be open that wait for their client: new ones, those whose headers
	// or body come slowly, those whose answer is not read, and idle ones. The oldest one of the address that has
	// most of them goes for another, so that a stranger's do not keep others out.
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
	sources map[netip.Addr]*source
}

// source are the connections from one address: that of the peer, so all those of a proxy count as its own.
type source struct {
	open, waiting list.List // Of *conn, the oldest first; those that wait are in both.
}

func newConns() *conns {
	most := maxConnections
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil && files.Cur < maxConnections {
		most = max(int(files.Cur)-reservedFiles, reservedFiles)
	}
	return &conns{maxWaiting: min(maxWaiting, most/2), maxOpen: most, now: time.Now, sources: map[netip.Addr]*source{}}
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
	conns   *conns
	address netip.Addr

	// The fields below are guarded by conns.mu.
	requests int           // Under way.
	stalls   int           // Of them: bodies that are awaited, and answers that are being written.
	entry    *list.Element // Among all of the address.
	place    *list.Element // Among those that wait; nil while it does not.
	since    time.Time     // When it began to wait.
	closed   bool
}

// enter takes a connection in, and makes room for it. It returns nil where there is none.
func (c *conns) enter(accepted net.Conn) *conn {
	n := &conn{Conn: accepted, conns: c, address: sourceOf(accepted.RemoteAddr())}
	c.mu.Lock()
	var out []*conn
	if c.open >= c.maxOpen {
		out = c.yield(out, n.address)
	}
	full := c.open >= c.maxOpen
	if !full {
		c.admit(n)
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

// admit counts a connection. The caller holds the lock.
func (c *conns) admit(n *conn) {
	all := c.sources[n.address]
	if all == nil {
		all = &source{}
		c.sources[n.address] = all
	}
	n.entry = all.open.PushBack(n)
	c.open++
	c.settle(n)
}

// yield makes room for another connection from an address where all places are taken, and adds the one that goes
// to out. It is one of the address with most connections: the oldest of those that wait, else the oldest that is
// busy, but no busy one for an address that would then have as many. The caller holds the lock, and closes it afterwards.
func (c *conns) yield(out []*conn, address netip.Addr) []*conn {
	own := 1
	if s := c.sources[address]; s != nil {
		own += s.open.Len()
	}
	var most *source
	for _, s := range c.sources {
		if most == nil || s.open.Len() > most.open.Len() || s.open.Len() == most.open.Len() && s.waiting.Len() > most.waiting.Len() {
			most = s
		}
	}
	if most == nil {
		return out
	}
	if most.open.Len() <= own { // Nobody has more: only one that waits may go, its own first.
		if s := c.sources[address]; s != nil && s.waiting.Len() > 0 {
			most = s
		} else if most.open.Len() < own || most.waiting.Len() == 0 {
			return out
		}
	}
	goes := most.open.Front()
	if most.waiting.Len() > 0 {
		goes = most.waiting.Front()
	}
	oldest := goes.Value.(*conn) //nolint:errcheck // The lists hold nothing else.
	c.leave(oldest)
	return append(out, oldest)
}

// evict takes the oldest waiting connection of the address that has most of them away, if it has waited
// for longer than the grace, and adds it to out. The caller holds the lock, and closes it afterwards.
func (c *conns) evict(out []*conn, grace time.Duration) []*conn {
	var most *source
	for _, s := range c.sources {
		if most == nil || s.waiting.Len() > most.waiting.Len() {
			most = s
		}
	}
	if most == nil || most.waiting.Len() == 0 {
		return out
	}
	oldest := most.waiting.Front().Value.(*conn) //nolint:errcheck // The lists hold nothing else.
	if c.now().Sub(oldest.since) < grace {
		return out
	}
	c.leave(oldest)
	return append(out, oldest)
}

// settle notes whether a connection waits. The caller holds the lock.
func (c *conns) settle(n *conn) {
	waits := !n.closed && (n.requests == 0 || n.stalls > 0)
	switch all := c.sources[n.address]; {
	case waits && n.place == nil:
		n.place, n.since = all.waiting.PushBack(n), c.now()
		c.waiting++
	case !waits && n.place != nil:
		all.waiting.Remove(n.place)
		n.place = nil
		c.waiting--
	}
}

// leave notes that a connection is closed. The caller holds the lock.
func (c *conns) leave(n *conn) {
	if n.closed {
		return
	}
	n.closed = true
	c.settle(n)
	all := c.sources[n.address]
	all.open.Remove(n.entry)
	if all.open.Len() == 0 {
		delete(c.sources, n.address)
	}
	c.open--
}

// Close closes the connection.
func (n *conn) Close() error {
	n.conns.mu.Lock()
	n.conns.leave(n)
	n.conns.mu.Unlock()
	return n.Conn.Close()
}

// Write writes to the client, who keeps the connection waiting until it has read.
func (n *conn) Write(data []byte) (int, error) {
	n.count(0, +1)
	defer n.count(0, -1)
	return n.Conn.Write(data)
}

// count notes that requests, and stalls within them, have begun or ended.
func (n *conn) count(requests, stalls int) {
	n.conns.mu.Lock()
	defer n.conns.mu.Unlock()
	n.requests, n.stalls = n.requests+requests, n.stalls+stalls
	n.conns.settle(n)
}

// body is the body of a request, which keeps its connection waiting until it comes.
type body struct {
	io.ReadCloser
	conn *conn
}

// Read reads what has come of the body, or waits for it.
func (b body) Read(data []byte) (int, error) {
	b.conn.count(0, +1)
	defer b.conn.count(0, -1)
	return b.ReadCloser.Read(data)
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
			n.count(+1, 0)
			defer n.count(-1, 0)
			if r.Body != nil && r.Body != http.NoBody {
				r.Body = body{ReadCloser: r.Body, conn: n}
			}
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
