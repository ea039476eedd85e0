// Package manifest fetches pod manifests over HTTP from where the site allows it.
package manifest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Defaults and limits of a Fetcher.
const (
	DefaultTimeout = 5 * time.Second
	DefaultFresh   = time.Second

	// MaxSize is the largest manifest that is fetched, in bytes.
	MaxSize = 256 << 10

	maxRedirects = 5
)

// Options configure a Fetcher.
type Options struct {
	// Allow is the expression that a whole address must match, also that of each
	// redirect, until [Fetcher.Allow] says another. An empty one allows nothing.
	Allow string
	// UserAgent names Berth to the servers asked.
	UserAgent string
	// Timeout bounds one fetch from the first byte to the last; zero means
	// DefaultTimeout.
	Timeout time.Duration
	// Fresh is how long a manifest is used again without asking its server; zero
	// means DefaultFresh, less than zero not at all.
	Fresh time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Fetcher fetches manifests. Whoever asks for the same address at the same time
// shares one request, and a manifest that is fetched again is only confirmed
// where its server has given it an ETag. A Fetcher is safe for concurrent use.
type Fetcher struct {
	options   Options
	transport *http.Transport

	// wg counts the requests under way.
	wg sync.WaitGroup

	mu     sync.Mutex
	closed bool
	era    *era
	// all are the requests under way, also those of eras that are over.
	all map[*flight]struct{}
	// hosts are those that somebody asks or waits for.
	hosts map[string]*host
}

// era is the time of one allow-list. What was fetched in one is no good in the
// next: it may have come from where a redirect does not lead any more.
type era struct {
	allow   allowList
	client  *http.Client // It judges redirects by allow.
	cache   cache
	flights map[string]*flight
}

func newEra(expression string, transport http.RoundTripper) (*era, error) {
	allow, err := compileAllowList(expression)
	if err != nil {
		return nil, err
	}

	return &era{
		allow: allow, client: &http.Client{Transport: transport, CheckRedirect: allow.follow},
		cache: cache{entries: map[string]entry{}}, flights: map[string]*flight{},
	}, nil
}

// flight is a request under way, which belongs to no caller: cancel ends it.
// content, err and kept are set when done is closed.
type flight struct {
	era     *era
	cancel  context.CancelFunc
	done    chan struct{}
	content []byte
	err     error
	// kept is until when a flight that was too slow is not made again.
	kept time.Time
}

// stale says, under the Fetcher's lock, that another flight has to be made.
func (fl *flight) stale(now time.Time) bool {
	select {
	case <-fl.done:
		return !now.Before(fl.kept)
	default:
		return false
	}
}

// ErrClosed says that the Fetcher was closed before there was an answer. It says
// nothing about the manifest.
var ErrClosed = errors.New("the manifest fetcher is closed")

// New returns a Fetcher, or an error if the expression cannot be compiled. Close
// it.
func New(options Options) (*Fetcher, error) {
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           16,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}

	first, err := newEra(options.Allow, transport)
	if err != nil {
		return nil, err
	}

	if options.Timeout == 0 {
		options.Timeout = DefaultTimeout
	}

	if options.Fresh == 0 {
		options.Fresh = DefaultFresh
	}

	if options.Now == nil {
		options.Now = time.Now
	}

	return &Fetcher{options: options, transport: transport, era: first, all: map[*flight]struct{}{}, hosts: map[string]*host{}}, nil
}

// Allow takes another expression in place of that of [Options], from the next
// Fetch on. What is under way comes to its end by the one that it began with. If the
// expression cannot be compiled, it returns an error and nothing changes.
func (f *Fetcher) Allow(expression string) error {
	next, err := newEra(expression, f.transport)
	if err != nil {
		return err
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	if f.era.allow.expression != expression {
		f.era = next
	}

	return nil
}

// Close ends the requests under way, waits for them, and closes connections. Later
// fetches fail.
func (f *Fetcher) Close() {
	f.mu.Lock()
	f.closed = true

	for underWay := range f.all {
		underWay.cancel()
	}

	f.mu.Unlock()

	f.wg.Wait()
	f.transport.CloseIdleConnections()
}

// Fetch returns the manifest at an address. The content is shared and must not be
// modified.
//
// It waits to the end of a request that it makes itself, but not for those of others:
// it returns [ErrBusy] a moment later, and whoever comes back finds what they have brought.
// A host has a bounded number of requests, so a Fetcher that is asked by more callers
// than these has callers left for other hosts.
//
// Other errors are an *Error: ReasonForbidden if the site does not allow the address
// or one that it redirects to, ReasonUnreachable if its server does not answer
// with status 200 in time, ReasonInvalid if the manifest is larger than MaxSize.
// If ctx ends first, it is the cause of that instead, and others who wait for the
// same address are not affected; after Close it is ErrClosed.
func (f *Fetcher) Fetch(ctx context.Context, address string) ([]byte, error) {
	f.mu.Lock()
	now := f.era
	f.mu.Unlock()

	target, refused := now.allow.parse(address)
	if refused != nil {
		return nil, refused
	}

	name := hostName(target)
	at := f.hold(name)

	defer f.letGo(name)

	found, err := f.join(ctx, now, target, at)

	switch {
	case err != nil:
		return nil, fmt.Errorf("fetch manifest: %w", err)
	case found.flight == nil:
		return found.content, nil
	case !found.own:
		if err := f.wait(ctx, at, nil, found.flight.done); err != nil {
			return nil, fmt.Errorf("fetch manifest: %w", err)
		}
	}

	select {
	case <-found.flight.done:
		return found.flight.content, found.flight.err
	case <-ctx.Done():
		return nil, fmt.Errorf("fetch manifest: %w", context.Cause(ctx))
	}
}

// found is a manifest that is still fresh, or else the request for it.
type found struct {
	content []byte
	flight  *flight
	// own says that the request was made for whoever asks.
	own bool
}

// join returns what there is for an address. Where there is nothing it makes a
// request, as soon as the host has a slot for it.
func (f *Fetcher) join(ctx context.Context, now *era, target *url.URL, at *host) (found, error) {
	if there, ok := f.look(now, target); ok {
		return there, nil
	}

	if err := f.wait(ctx, at, at.slots, nil); err != nil {
		return found{}, err
	}

	return f.depart(ctx, now, target, at)
}

func (f *Fetcher) look(now *era, target *url.URL) (found, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.lookLocked(now, target.String())
}

func (f *Fetcher) lookLocked(now *era, key string) (found, bool) {
	at, known := f.options.Now(), now.cache.entries[key]
	if known.content != nil && at.Sub(known.checked) < f.options.Fresh {
		return found{content: known.content}, true
	}

	if joined, ok := now.flights[key]; ok && !joined.stale(at) {
		return found{flight: joined}, true
	}

	return found{}, false
}

// depart makes a request, unless there is one by now. It takes over a slot of the
// host, and gives it back.
func (f *Fetcher) depart(ctx context.Context, now *era, target *url.URL, at *host) (found, error) {
	key := target.String()

	f.mu.Lock()
	defer f.mu.Unlock()

	there, ok := f.lookLocked(now, key)

	switch {
	case ok:
		<-at.slots

		return there, nil
	case f.closed:
		<-at.slots

		return found{}, ErrClosed
	}

	name := hostName(target)
	place := &slot{fetcher: f, name: name, host: f.holdLocked(name)}
	started := &flight{era: now, done: make(chan struct{})}
	ctx, started.cancel = context.WithTimeout(context.WithValue(context.WithoutCancel(ctx), slotKey{}, place), f.options.Timeout)
	known := now.cache.entries[key]
	now.flights[key], f.all[started] = started, struct{}{}
	f.wg.Go(func() {
		defer place.free()

		f.fly(ctx, target, known, started)
	})

	return found{flight: started, own: true}, nil
}

// fly makes one request and hands its result to all who wait.
func (f *Fetcher) fly(ctx context.Context, target *url.URL, known entry, started *flight) {
	defer started.cancel()

	made, err := f.ask(ctx, started.era.client, target, known)
	key, now := target.String(), started.era

	f.mu.Lock()
	defer f.mu.Unlock()

	delete(f.all, started)

	switch {
	case err == nil:
		made.checked = f.options.Now()
		now.cache.put(key, made)
	case f.closed:
		err = ErrClosed
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		started.kept = f.options.Now().Add(timeoutKept)
	}

	if started.kept.IsZero() {
		delete(now.flights, key)
	} else {
		now.forgetStale(f.options.Now())
	}

	started.content, started.err = made.content, err
	close(started.done)
}

// forgetStale removes the flights that were kept for long enough.
func (e *era) forgetStale(at time.Time) {
	for key, known := range e.flights {
		if known.stale(at) {
			delete(e.flights, key)
		}
	}
}

// ask fetches a manifest, or has the known one confirmed.
func (f *Fetcher) ask(ctx context.Context, client *http.Client, target *url.URL, known entry) (entry, error) {
	response, err := f.get(ctx, client, target, known.etag)
	if err != nil {
		return entry{}, err
	}
	defer response.Body.Close()

	final := response.Request.URL.String()

	if response.StatusCode == http.StatusNotModified && known.etag != "" {
		if final == known.final {
			return known, nil
		}

		// A redirect leads elsewhere than before, and the new place happens to use
		// the same ETag: what it confirms is not what is known.
		return f.ask(ctx, client, target, entry{})
	}

	if response.StatusCode != http.StatusOK {
		return entry{}, fault(ReasonUnreachable, "manifest %s: the server answers %s", shown(target), response.Status)
	}

	content, err := io.ReadAll(io.LimitReader(response.Body, MaxSize+1))
	if err != nil {
		return entry{}, f.unreachable(target, err)
	}

	if len(content) > MaxSize {
		return entry{}, fault(ReasonInvalid, "manifest %s is larger than %d bytes", shown(target), MaxSize)
	}

	return entry{content: content, etag: response.Header.Get("ETag"), final: final}, nil
}

func (f *Fetcher) get(ctx context.Context, client *http.Client, target *url.URL, etag string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, f.unreachable(target, err)
	}

	request.Header.Set("User-Agent", f.options.UserAgent)

	if etag != "" {
		request.Header.Set("If-None-Match", etag)
	}

	// Where this is the second request of a flight, the first was led elsewhere.
	if err := moveTo(request); err != nil {
		return nil, f.unreachable(target, err)
	}

	response, err := client.Do(request)
	if err != nil {
		return nil, f.unreachable(target, err)
	}

	return response, nil
}

// follow judges where a server leads to, and goes there.
func (a allowList) follow(next *http.Request, via []*http.Request) error {
	if err := a.redirect(next, via); err != nil {
		return err
	}

	return moveTo(next)
}

// redirect judges where a server leads to.
func (a allowList) redirect(next *http.Request, via []*http.Request) error {
	// It would tell the next server the query of the address before.
	next.Header.Del("Referer")

	if len(via) > maxRedirects {
		return fault(ReasonUnreachable, "manifest %s: more than %d redirects", shown(via[0].URL), maxRedirects)
	}

	if err := a.judge(next.URL); err != nil {
		return fault(ReasonForbidden, "manifest %s redirects: %s", shown(via[0].URL), err.Message)
	}

	return nil
}

// unreachable makes an Error of what went wrong with a request, without the query
// that net/http puts into its own.
func (f *Fetcher) unreachable(target *url.URL, err error) error {
	var (
		refused *Error
		outer   *url.Error
	)

	switch {
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, ErrBusy):
		return ErrBusy
	case errors.Is(err, context.DeadlineExceeded):
		return fault(ReasonUnreachable, "manifest %s did not arrive within %s", shown(target), f.options.Timeout)
	case errors.As(err, &outer):
		err = outer.Err
	}

	return fault(ReasonUnreachable, "manifest %s: %v", shown(target), err)
}
