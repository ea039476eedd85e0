// Package link has networks that break: what a test puts between a program and
// a server to delay, cut and swallow what the two say to each other.
package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Link is the network between a program and a server. It is safe for concurrent
// use. What is done to it holds for all connections through it, also for new
// ones, until it is healed.
type Link struct {
	mu    sync.Mutex
	conns map[*conn]struct{}
	delay time.Duration
	deaf  bool
}

// New returns a link that is whole.
func New() *Link { return &Link{conns: map[*conn]struct{}{}} }

// Cut ends all connections, with a FIN. New ones are let through.
func (l *Link) Cut() {
	for _, c := range l.all() {
		_ = c.Close()
	}
}

// Swallow makes every connection half-open, those that there are for ever: what
// is sent vanishes, and neither side is told.
func (l *Link) Swallow() {
	l.mu.Lock()
	l.deaf = true
	l.mu.Unlock()
	for _, c := range l.all() {
		c.deafen()
	}
}

// Slow delays everything that is sent by d, in each direction.
func (l *Link) Slow(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = d
}

// Heal lets new connections be whole again. Those that were swallowed stay dead.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay, l.deaf = 0, false
}

func (l *Link) all() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		all = append(all, c)
	}
	return all
}

func (l *Link) lag() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.delay
}

// wrap puts a connection into the link.
func (l *Link) wrap(inner net.Conn) *conn {
	c := &conn{Conn: inner, link: l, closed: make(chan struct{}), deaf: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	if l.deaf {
		c.deafen()
	}
	return c
}

// conn is a program's connection, as the server's side sees it.
type conn struct {
	net.Conn
	link   *Link
	closed chan struct{}
	deaf   chan struct{} // Closed once the connection is half-open.
	once   sync.Once
	deafly sync.Once
}

func (c *conn) deafen() { c.deafly.Do(func() { close(c.deaf) }) }

func (c *conn) isDeaf() bool {
	select {
	case <-c.deaf:
		return true
	default:
		return false
	}
}

// Read returns what the program sent, if it is not swallowed.
func (c *conn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil {
			return n, err
		}
		if !c.isDeaf() {
			c.dawdle()
			return n, nil
		}
	}
}

// Write sends to the program; what is swallowed counts as sent.
func (c *conn) Write(p []byte) (int, error) {
	if c.isDeaf() {
		return len(p), nil
	}
	c.dawdle()
	return c.Conn.Write(p)
}

func (c *conn) dawdle() {
	d := c.link.lag()
	if d == 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.closed:
	}
}

// Close ends the connection.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		close(c.closed)
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		delete(c.link.conns, c)
	})
	return err
}

// listener puts every connection that it accepts into a link.
type listener struct {
	net.Listener
	link *Link
}

// Accept waits for the next connection.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.link.wrap(c), nil
}

// listen listens on a free loopback port.
func listen(ctx context.Context, l *Link) (net.Listener, error) {
	inner, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return listener{inner, l}, nil
}

// TCP is a link to a server that may speak anything.
type TCP struct {
	*Link
	// Addr is where programs reach the server through the link.
	Addr string

	upstream string
	listener net.Listener
	running  sync.WaitGroup
}

// NewTCP returns a link to the server at upstream, host:port. The caller closes it.
func NewTCP(ctx context.Context, upstream string) (*TCP, error) {
	t := &TCP{Link: New(), upstream: upstream}
	var err error
	if t.listener, err = listen(ctx, t.Link); err != nil {
		return nil, err
	}
	t.Addr = t.listener.Addr().String()
	t.running.Go(t.serve)
	return t, nil
}

// Close ends all connections and waits until nothing runs any more.
func (t *TCP) Close() error {
	err := t.listener.Close()
	t.Cut()
	t.running.Wait()
	return err
}

func (t *TCP) serve() {
	for {
		client, err := t.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		t.running.Go(func() { t.carry(client) })
	}
}

// carry copies both ways until one side ends.
func (t *TCP) carry(client net.Conn) {
	defer client.Close()
	server, err := new(net.Dialer).Dial("tcp", t.upstream)
	if err != nil {
		return
	}
	defer server.Close()
	var both sync.WaitGroup
	both.Go(func() {
		defer client.Close()
		_, _ = io.Copy(struct{ io.Writer }{client}, server)
	})
	both.Go(func() {
		defer server.Close()
		_, _ = io.Copy(server, struct{ io.Reader }{client})
	})
	both.Wait()
}
