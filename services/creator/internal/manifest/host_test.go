package manifest_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/services/creator/internal/manifest"
)

// slots is how many requests a host may have at a time.
const slots = 16

// TestHostThatHangs: whoever asks it, whatever the query, and by whatever redirect, gets
// no more than its slots, and another host is served all the time.
func TestHostThatHangs(t *testing.T) {
	t.Parallel()

	var asked atomic.Int64

	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-r.Context().Done()
	}))
	t.Cleanup(hanging.Close)

	fetcher, healthy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("to") != "" {
			http.Redirect(w, r, hanging.URL+"/pods/b.yaml?"+r.URL.RawQuery, http.StatusFound)

			return
		}

		send(t, w, text)
	}, func(o *manifest.Options) {
		o.Allow, o.Timeout, o.Fresh = `http://127\.0\.0\.1:\d+/pods/.*`, time.Minute, -1
	})

	const callers = 200

	results := make(chan error, callers)

	var group sync.WaitGroup

	for i := range callers {
		group.Go(func() {
			_, err := fetcher.Fetch(t.Context(), fmt.Sprintf("%s/pods/a.yaml?x=%d", hanging.URL, i))
			results <- err
		})
	}

	for range callers - slots {
		if err := <-results; !errors.Is(err, manifest.ErrBusy) {
			t.Fatalf("a caller without a slot got %v, want %v", err, manifest.ErrBusy)
		}
	}

	for name, address := range map[string]string{
		"a query of its own": hanging.URL + "/pods/a.yaml?x=new",
		"a redirect":         healthy + "/pods/a.yaml?to=hanging",
	} {
		if _, err := fetcher.Fetch(t.Context(), address); !errors.Is(err, manifest.ErrBusy) {
			t.Errorf("%s: %v, want %v", name, err, manifest.ErrBusy)
		}
	}

	// More than it has slots, so that none of them can have been lost to the redirect.
	for i := range 3 * slots {
		if got, err := fetcher.Fetch(t.Context(), fmt.Sprintf("%s/pods/a.yaml?x=%d", healthy, i)); err != nil || string(got) != text {
			t.Fatalf("the healthy host: %q, %v", got, err)
		}
	}

	fetcher.Close()
	group.Wait()

	if asked.Load() > slots {
		t.Errorf("the hanging host was asked %d times at once, want %d at most", asked.Load(), slots)
	}
}

// TestFetchKeepsATimeout: callers who were sent away learn of it when they come back.
func TestFetchKeepsATimeout(t *testing.T) {
	t.Parallel()

	var (
		asked  atomic.Int64
		answer atomic.Bool
		now    clock
	)

	fetcher, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)

		if answer.Load() {
			send(t, w, text)

			return
		}

		<-r.Context().Done()
	}, func(o *manifest.Options) { o.Timeout, o.Now = 50*time.Millisecond, now.now })
	address := server + "/pods/a.yaml"

	for range 5 {
		_, err := fetcher.Fetch(t.Context(), address)
		wantFault(t, err, manifest.ReasonUnreachable, "within 50ms")
	}

	// On a machine that is busy the time may be over before the server has heard of it.
	if asked.Load() > 1 {
		t.Errorf("asked %d times, want once", asked.Load())
	}

	answer.Store(true)

	for end := time.Now().Add(time.Minute); ; {
		for range 3 {
			now.pass()
		}

		got, err := fetcher.Fetch(t.Context(), address)
		if err == nil && string(got) == text {
			break
		}

		wantFault(t, err, manifest.ReasonUnreachable, "within 50ms") // It may be slow, even now.

		if time.Now().After(end) {
			t.Fatalf("later: %q, %v", got, err)
		}
	}
}
