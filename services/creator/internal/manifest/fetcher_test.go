package manifest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"berth/services/creator/internal/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const text = "apiVersion: v1\nkind: Pod\n"

// serve starts a server and a fetcher that may ask it for anything below /pods/.
func serve(t *testing.T, handler http.HandlerFunc, change ...func(*manifest.Options)) (*manifest.Fetcher, string) {
	t.Helper()

	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)

	options := manifest.Options{Allow: server.URL + "/pods/.*", UserAgent: "berth-creator/test"}
	for _, change := range change {
		change(&options)
	}

	fetcher, err := manifest.New(options)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(fetcher.Close)

	return fetcher, server.URL
}

// send writes an answer. The client may be gone by then, which is no fault.
func send(t *testing.T, w io.Writer, answer string) {
	t.Helper()

	if _, err := io.WriteString(w, answer); err != nil {
		t.Logf("send: %v", err)
	}
}

func TestFetch(t *testing.T) {
	t.Parallel()

	fetcher, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() != "berth-creator/test" || r.Header.Get("Cookie") != "" || r.Method != http.MethodGet {
			t.Errorf("%s with %v", r.Method, r.Header)
		}

		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		send(t, w, text+r.URL.RawQuery)
	}, func(o *manifest.Options) { o.Fresh = -1 })

	for range 2 {
		got, err := fetcher.Fetch(t.Context(), server+"/pods/a.yaml?ref=main")
		if err != nil || string(got) != text+"ref=main" {
			t.Errorf("Fetch = %q, %v", got, err)
		}
	}
}

func TestFetchRefuses(t *testing.T) {
	t.Parallel()

	const secret = "?token=hidden"

	handler := func(w http.ResponseWriter, r *http.Request) {
		switch strings.TrimPrefix(r.URL.Path, "/pods/") {
		case "missing":
			http.NotFound(w, r)
		case "empty":
			w.WriteHeader(http.StatusNoContent)
		case "unasked":
			w.WriteHeader(http.StatusNotModified)
		case "huge":
			send(t, w, strings.Repeat("x", manifest.MaxSize+1))
		case "endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		case "short":
			w.Header().Set("Content-Length", "1000")
			send(t, w, "x")
		case "elsewhere":
			http.Redirect(w, r, "/other/a.yaml"+secret, http.StatusFound)
		case "query":
			http.Redirect(w, r, "/other/?/pods/a.yaml", http.StatusFound)
		case "user":
			http.Redirect(w, r, "http://user@"+r.Host+"/pods/a.yaml", http.StatusFound)
		case "file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "round":
			http.Redirect(w, r, "/pods/round", http.StatusFound)
		default:
			t.Errorf("asked for %s", r.URL)
		}
	}

	tests := map[string]struct {
		path       string
		wantReason string
		wantText   []string
	}{
		"not allowed":              {"/other/a.yaml", manifest.ReasonForbidden, []string{"/other/a.yaml", "whitelistManifestRegex"}},
		"allowed one in a query":   {"/other/?/pods/a.yaml", manifest.ReasonForbidden, nil},
		"missing":                  {"/pods/missing", manifest.ReasonUnreachable, []string{"/pods/missing", "404"}},
		"no content":               {"/pods/empty", manifest.ReasonUnreachable, []string{"204"}},
		"304 that nobody asked":    {"/pods/unasked", manifest.ReasonUnreachable, []string{"304"}},
		"too large":                {"/pods/huge", manifest.ReasonInvalid, []string{"262144"}},
		"endless":                  {"/pods/endless", manifest.ReasonInvalid, []string{"262144"}},
		"cut off":                  {"/pods/short", manifest.ReasonUnreachable, []string{"unexpected EOF"}},
		"redirect to forbidden":    {"/pods/elsewhere", manifest.ReasonForbidden, []string{"/pods/elsewhere redirects", "/other/a.yaml"}},
		"redirect with a query":    {"/pods/query", manifest.ReasonForbidden, []string{"/other/"}},
		"redirect with a user":     {"/pods/user", manifest.ReasonForbidden, []string{"user"}},
		"redirect to a file":       {"/pods/file", manifest.ReasonForbidden, []string{"https://"}},
		"redirects without an end": {"/pods/round", manifest.ReasonUnreachable, []string{"5 redirects"}},
	}

	fetcher, server := serve(t, handler, func(o *manifest.Options) { o.Timeout = time.Minute })

	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			address := server + tc.path
			if !strings.Contains(address, "?") {
				address += secret
			}

			content, err := fetcher.Fetch(t.Context(), address)
			if content != nil {
				t.Errorf("%d bytes nevertheless", len(content))
			}

			wantFault(t, err, tc.wantReason, tc.wantText...)
		})
	}
}

func wantFault(t *testing.T, err error, reason string, texts ...string) {
	t.Helper()

	var fault *manifest.Error
	if !errors.As(err, &fault) {
		t.Fatalf("error %v, want an *Error", err)
	}

	if fault.Reason != reason {
		t.Errorf("reason %s, want %s (%v)", fault.Reason, reason, err)
	}

	for _, text := range texts {
		if !strings.Contains(fault.Message, text) {
			t.Errorf("%q does not say %q", fault.Message, text)
		}
	}

	if strings.Contains(fault.Message, "hidden") {
		t.Errorf("%q shows the query", fault.Message)
	}
}

func TestFetchFollowsRedirects(t *testing.T) {
	t.Parallel()

	fetcher, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if referer := r.Header.Get("Referer"); referer != "" {
			t.Errorf("referer %s", referer)
		}

		if hops := strings.TrimPrefix(r.URL.Path, "/pods/"); len(hops) > 0 {
			http.Redirect(w, r, "/pods/"+hops[1:], http.StatusFound)

			return
		}

		send(t, w, text)
	})

	if got, err := fetcher.Fetch(t.Context(), server+"/pods/12345"); err != nil || string(got) != text {
		t.Errorf("Fetch = %q, %v", got, err)
	}

	_, err := fetcher.Fetch(t.Context(), server+"/pods/123456")
	wantFault(t, err, manifest.ReasonUnreachable, "5 redirects")
}

func TestFetchEndsInTime(t *testing.T) {
	t.Parallel()

	fetcher, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		send(t, w, "x")

		// The client may be gone by then, which is no fault.
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Logf("flush: %v", err)
		}

		<-r.Context().Done()
	}, func(o *manifest.Options) { o.Timeout = 50 * time.Millisecond })

	_, err := fetcher.Fetch(t.Context(), server+"/pods/trickle")
	wantFault(t, err, manifest.ReasonUnreachable, "/pods/trickle", "50ms")
}

// TestFetchBoundsWhatUnfolds: the size that counts is the one after decompression.
func TestFetchBoundsWhatUnfolds(t *testing.T) {
	t.Parallel()

	var packed bytes.Buffer

	writer := gzip.NewWriter(&packed)
	if _, err := io.CopyN(writer, zeros{}, 64<<20); err != nil {
		t.Fatal(err)
	}

	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}

	fetcher, server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		send(t, w, packed.String())
	})

	_, err := fetcher.Fetch(t.Context(), server+"/pods/bomb")
	wantFault(t, err, manifest.ReasonInvalid, "262144")
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)

	return len(p), nil
}

// TestFetchEndsTricklers: a byte now and then keeps no request alive.
func TestFetchEndsTricklers(t *testing.T) {
	t.Parallel()

	fetcher, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()

		for {
			select {
			case <-ticker.C:
				if _, err := io.WriteString(w, "#"); err != nil || http.NewResponseController(w).Flush() != nil {
					return
				}
			case <-r.Context().Done():
				return
			}
		}
	}, func(o *manifest.Options) { o.Timeout = 200 * time.Millisecond })

	_, err := fetcher.Fetch(t.Context(), server+"/pods/trickle")
	wantFault(t, err, manifest.ReasonUnreachable, "/pods/trickle", "200ms")
}

// TestAllow: another allow-list holds from the next fetch on, also for what is known
// already and for where it came from.
func TestAllow(t *testing.T) {
	t.Parallel()

	reached, release := make(chan struct{}), make(chan struct{})
	fetcher, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/pods/moved":
			http.Redirect(w, r, "/pods/there", http.StatusFound)
		case "/pods/slow":
			close(reached)
			<-release
			http.Redirect(w, r, "/pods/there", http.StatusFound)
		default:
			send(t, w, text)
		}
	}, func(o *manifest.Options) { o.Fresh = time.Hour })

	fetches := func(path string) error {
		_, err := fetcher.Fetch(t.Context(), server+path)

		return err
	}

	for _, path := range []string{"/pods/a", "/pods/moved"} {
		if err := fetches(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}

	var slow error

	var group sync.WaitGroup

	group.Go(func() { slow = fetches("/pods/slow") })
	<-reached

	if err := fetcher.Allow("("); err == nil {
		t.Error("an expression that is none is taken")
	}

	if err := fetches("/pods/a"); err != nil {
		t.Errorf("after an expression that is none: %v", err)
	}

	if err := fetcher.Allow(server + "/pods/(a|moved|slow)"); err != nil {
		t.Fatal(err)
	}

	if err := fetches("/pods/a"); err != nil {
		t.Errorf("it is still allowed: %v", err)
	}

	wantFault(t, fetches("/pods/moved"), manifest.ReasonForbidden, "redirects", "/pods/there")
	wantFault(t, fetches("/pods/there"), manifest.ReasonForbidden, "/pods/there")

	// What was under way comes to its end by the list that it began with.
	close(release)
	group.Wait()

	if slow != nil {
		t.Errorf("the one under way: %v", slow)
	}

	if err := fetcher.Allow(""); err != nil {
		t.Fatal(err)
	}

	wantFault(t, fetches("/pods/a"), manifest.ReasonForbidden, "/pods/a")
}

func TestFetchServerGone(t *testing.T) {
	t.Parallel()

	// Unlike a port that a server has given up, nobody takes this one meanwhile.
	const address = "http://127.0.0.1:1"

	fetcher, err := manifest.New(manifest.Options{Allow: ".*"})
	if err != nil {
		t.Fatal(err)
	}
	defer fetcher.Close()

	_, err = fetcher.Fetch(t.Context(), address+"/pods/a.yaml?token=hidden")
	wantFault(t, err, manifest.ReasonUnreachable, address+"/pods/a.yaml", "connection refused")
}

// clock is a clock that moves when told to.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(0, c.offset.Load()) }

// pass lets what is fresh grow stale.
func (c *clock) pass() { c.offset.Add(int64(manifest.DefaultFresh)) }

func TestFetchRevalidates(t *testing.T) {
	t.Parallel()

	var (
		asked, confirmed atomic.Int64
		etag             atomic.Value
		down             atomic.Bool
		ticks            clock
	)

	etag.Store(`"1"`)

	fetcher, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)

		if down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)

			return
		}

		current, _ := etag.Load().(string)
		w.Header().Set("ETag", current)

		if r.Header.Get("If-None-Match") == current {
			confirmed.Add(1)
			w.WriteHeader(http.StatusNotModified)

			return
		}

		send(t, w, text+current)
	}, func(o *manifest.Options) { o.Now = ticks.now })

	want := func(when, content string, wantAsked, wantConfirmed int64) {
		t.Helper()

		got, err := fetcher.Fetch(t.Context(), server+"/pods/a.yaml")
		if err != nil || string(got) != content {
			t.Errorf("%s: Fetch = %q, %v", when, got, err)
		}

		if asked.Load() != wantAsked || confirmed.Load() != wantConfirmed {
			t.Errorf("%s: asked %d times, confirmed %d", when, asked.Load(), confirmed.Load())
		}
	}

	want("first", text+`"1"`, 1, 0)
	want("fresh", text+`"1"`, 1, 0)
	ticks.pass()
	want("confirmed", text+`"1"`, 2, 1)
	want("fresh again", text+`"1"`, 2, 1)
	ticks.pass()
	etag.Store(`"2"`)
	want("changed", text+`"2"`, 3, 1)
	ticks.pass()
	down.Store(true)

	_, err := fetcher.Fetch(t.Context(), server+"/pods/a.yaml")
	wantFault(t, err, manifest.ReasonUnreachable, "503")
	down.Store(false)
	want("up again", text+`"2"`, 5, 2)
}

func TestFetchDoesNotConfirmAnotherPlace(t *testing.T) {
	t.Parallel()

	var (
		place atomic.Value
		ticks clock
	)

	place.Store("/pods/old")

	fetcher, server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/pods/latest" {
			to, _ := place.Load().(string)
			http.Redirect(w, r, to, http.StatusFound)

			return
		}

		w.Header().Set("ETag", `"v1"`)

		if r.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(http.StatusNotModified)

			return
		}

		send(t, w, r.URL.Path)
	}, func(o *manifest.Options) { o.Now = ticks.now })

	for _, want := range []string{"/pods/old", "/pods/new"} {
		place.Store(want)
		ticks.pass()

		if got, err := fetcher.Fetch(t.Context(), server+"/pods/latest"); err != nil || string(got) != want {
			t.Errorf("Fetch = %q, %v, want %q", got, err, want)
		}
	}
}

func TestFetchSharesRequests(t *testing.T) {
	t.Parallel()

	var asked atomic.Int64

	reached, release := make(chan struct{}), make(chan struct{})
	fetcher, server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			close(reached)
		}

		<-release
		send(t, w, text)
	}, func(o *manifest.Options) { o.Fresh = time.Hour })
	address := server + "/pods/a.yaml"

	// The first caller gives up while its request is under way.
	impatient, giveUp := context.WithCancelCause(t.Context())
	gone := errors.New("client gone")

	var group sync.WaitGroup

	group.Go(func() {
		if _, err := fetcher.Fetch(impatient, address); !errors.Is(err, gone) {
			t.Errorf("the impatient caller got %v", err)
		}
	})
	<-reached
	giveUp(gone)
	group.Wait()

	for range 50 {
		group.Go(func() {
			got, err := fetcher.Fetch(t.Context(), address)
			for errors.Is(err, manifest.ErrBusy) { // On a machine that is slow.
				got, err = fetcher.Fetch(t.Context(), address)
			}

			if err != nil || string(got) != text {
				t.Errorf("Fetch = %q, %v", got, err)
			}
		})
	}

	close(release)
	group.Wait()

	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()

	reached := make(chan struct{})
	fetcher, server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(reached)
		<-r.Context().Done()
	})
	result := make(chan error, 1)

	go func() {
		_, err := fetcher.Fetch(t.Context(), server+"/pods/a.yaml")
		result <- err
	}()

	<-reached
	fetcher.Close()
	fetcher.Close()

	if err := <-result; !errors.Is(err, manifest.ErrClosed) {
		t.Errorf("the one under way got %v", err)
	}

	if _, err := fetcher.Fetch(t.Context(), server+"/pods/a.yaml"); !errors.Is(err, manifest.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
