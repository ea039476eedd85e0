package manifest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// What the requests to one host may take of a Fetcher, so that a host that hangs delays
// nobody who asks another one.
const (
	// hostSlots is how many requests to one host are under way at once.
	hostSlots = 16
	// patience is how long a caller waits for a request that is not his own: for one
	// to end that somebody else has made, or for a slot.
	patience = 250 * time.Millisecond
	// coolness is how long nobody waits for a host any more after somebody has waited
	// for it in vain.
	coolness = time.Second
	// timeoutKept is for how long it is known that a manifest did not arrive in time.
	// Whoever has given its wait up comes back within that and learns it, in place of
	// asking for itself, one after another.
	timeoutKept = 3 * time.Second
)

// ErrBusy says that the host of a manifest has as many requests as it may have at a
// time, or one for the same manifest that takes long: come back in a moment. It says
// nothing about the manifest.
var ErrBusy = errors.New("the manifest's server is still busy with other requests")

// host is what is known about a host that is being asked. Its fields but slots are
// guarded by the Fetcher.
type host struct {
	// slots has an element for each request under way.
	slots chan struct{}
	// users counts who holds the host: without any it is forgotten.
	users int
	// coolUntil is when callers wait for it again.
	coolUntil time.Time
}

// hold returns the host of a name. Let go of it by the same name.
func (f *Fetcher) hold(name string) *host {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.holdLocked(name)
}

func (f *Fetcher) holdLocked(name string) *host {
	h := f.hosts[name]
	if h == nil {
		h = &host{slots: make(chan struct{}, hostSlots)}
		f.hosts[name] = h
	}

	h.users++

	return h
}

func (f *Fetcher) letGo(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()

	h := f.hosts[name]
	if h.users--; h.users == 0 {
		delete(f.hosts, name)
	}
}

// wait returns nil as soon as there is news on ready, or a slot of the host is taken.
// slots is h.slots, or nil for a caller who wants none. It returns ErrBusy after a
// short time, at once while others have waited for this host in vain, or the cause of
// the end of ctx.
func (f *Fetcher) wait(ctx context.Context, h *host, slots chan<- struct{}, ready <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	case slots <- struct{}{}:
		return nil
	default:
	}

	if f.cool(h) {
		return ErrBusy
	}

	over := time.NewTimer(patience)
	defer over.Stop()

	select {
	case <-ready:
		return nil
	case slots <- struct{}{}:
		return nil
	case <-over.C:
		f.mu.Lock()
		h.coolUntil = time.Now().Add(coolness)
		f.mu.Unlock()

		return ErrBusy
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *Fetcher) cool(h *host) bool {
	f.mu.Lock()
	defer f.mu.Unlock()

	return time.Now().Before(h.coolUntil)
}

// slotKey is the key of a request's *slot in its context.
type slotKey struct{}

// slot is the place that a request has at a host: the one that it asks at present. It
// belongs to the goroutine of the request.
type slot struct {
	fetcher *Fetcher
	name    string
	host    *host
}

// moveTo makes the slot of a request one of the host that it asks.
func moveTo(request *http.Request) error {
	s, ok := request.Context().Value(slotKey{}).(*slot)
	if !ok {
		return nil
	}

	return s.move(request.Context(), hostName(request.URL))
}

// hostName is the host and the port of an address, however they are written.
func hostName(address *url.URL) string {
	port := address.Port()
	if port == "" {
		port = address.Scheme
	}

	switch port {
	case "80":
		port = "http"
	case "443":
		port = "https"
	}

	return net.JoinHostPort(strings.TrimRight(strings.ToLower(address.Hostname()), "."), port)
}

// move takes the request on to the host that it is redirected to. Else one could
// hang, behind redirects, on behalf of all the others.
func (s *slot) move(ctx context.Context, name string) error {
	if name == s.name {
		return nil
	}

	next := s.fetcher.hold(name)
	if err := s.fetcher.wait(ctx, next, next.slots, nil); err != nil {
		s.fetcher.letGo(name)

		return err
	}

	s.free()
	s.name, s.host = name, next

	return nil
}

func (s *slot) free() {
	<-s.host.slots
	s.fetcher.letGo(s.name)
}
