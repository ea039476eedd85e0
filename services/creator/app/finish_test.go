package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/services/creator/internal/cluster"
)

// fakeFiles is what is in the containers.
type fakeFiles struct {
	mu       sync.Mutex
	contents map[string]string
	errs     map[string]error // By the path, of files without content.
	reads    map[string]int
	late     map[string]int // How often a file is looked for in vain.
	during   func()
	block    bool // Nothing answers.
}

func (f *fakeFiles) Read(ctx context.Context, pod, container, path string, limit int) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reads == nil {
		f.reads = map[string]int{}
	}
	f.reads[path]++
	if f.during != nil {
		f.during()
	}
	if f.block {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	content, there := f.contents[path]
	switch {
	case pod != name || container != "jupyter":
		return nil, errors.New("another container was asked")
	case there && f.reads[path] > f.late[path]:
		return []byte(content[:min(len(content), limit)]), nil
	case f.errs[path] != nil:
		return nil, f.errs[path]
	}
	return nil, cluster.ErrNoFile
}

// finishing returns a creator with a pod that is ready in Kubernetes and waits for
// the tokens of some keys, and its finish.
func finishing(t *testing.T, keys ...string) (*bench, natsbus.Delivery) {
	t.Helper()
	b := newBench(t)
	entry := eventstest.Bring(t, b.bus, name, user, events.Licensed)
	launch := eventstest.Launch(entry.Generation)
	launch.TokenKeys = keys
	b.appends(t, launch)
	b.appends(t, eventstest.Launched(entry.Generation, "uid"))
	b.appends(t, eventstest.Observe(entry.Generation, eventstest.Ready("uid", "7")))
	return b, natsbus.Delivery{Attempt: 1, Queued: time.Now(), Command: events.Command{
		Stage: events.StageFinish, ID: entry.Command, Cluster: eventstest.Cluster, User: user, Pod: name, Generation: entry.Generation,
	}}
}

// finishes delivers a finish as often as it comes back for tokens that are missing.
func (b *bench) finishes(t *testing.T, d natsbus.Delivery) {
	t.Helper()
	err := b.finish(t.Context(), d)
	for errors.Is(err, errMissing) && d.Attempt <= mostLooks {
		d.Attempt++
		err = b.finish(t.Context(), d)
	}
	if err != nil {
		t.Fatalf("finish, attempt %d: %v", d.Attempt, err)
	}
}

// tokens are what is kept for a pod, nil if nothing is.
func (b *bench) tokens(t *testing.T, generation string) map[string]string {
	t.Helper()
	tokens, _, err := b.bus.Tokens(t.Context(), name, generation)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestFinish(t *testing.T) {
	t.Parallel()
	const ago = time.Hour
	long := strings.Repeat("x", 5000)
	tests := map[string]struct {
		keys     []string
		files    *fakeFiles
		queued   time.Duration // How long ago.
		want     map[string]string
		warnings []string
		reads    map[string]int // Where the number is certain.
	}{
		"one": {
			keys: []string{"a"}, files: &fakeFiles{contents: map[string]string{"/tmp/a": "secret\n"}},
			want: map[string]string{"a": "secret\n"}, reads: map[string]int{"/tmp/a": 1},
		},
		"several": {
			keys:  []string{"a", "b", "c", "d", "e"},
			files: &fakeFiles{contents: map[string]string{"/tmp/a": "1", "/tmp/b": "2", "/tmp/c": "3", "/tmp/d": "4", "/tmp/e": "5"}},
			want:  map[string]string{"a": "1", "b": "2", "c": "3", "d": "4", "e": "5"},
			reads: map[string]int{"/tmp/a": 1, "/tmp/b": 1, "/tmp/c": 1, "/tmp/d": 1, "/tmp/e": 1},
		},
		"too long": {
			keys: []string{"a"}, files: &fakeFiles{contents: map[string]string{"/tmp/a": long}}, want: map[string]string{"a": long[:4096]},
		},
		"late": {
			keys: []string{"a", "b"}, files: &fakeFiles{contents: map[string]string{"/tmp/a": "1", "/tmp/b": "2"}, late: map[string]int{"/tmp/b": 2}},
			want: map[string]string{"a": "1", "b": "2"}, reads: map[string]int{"/tmp/a": 1, "/tmp/b": 3},
		},
		"missing": {
			keys: []string{"a", "b"}, files: &fakeFiles{contents: map[string]string{"/tmp/a": "1"}}, queued: ago,
			want: map[string]string{"a": "1"}, warnings: []string{"token b did not appear"}, reads: map[string]int{"/tmp/a": 1, "/tmp/b": leastLooks},
		},
		"missing, by a clock that goes wrong": {
			keys: []string{"a"}, files: &fakeFiles{}, queued: -ago, want: map[string]string{}, warnings: []string{"token a did not appear"},
			reads: map[string]int{"/tmp/a": mostLooks},
		},
		"all missing": {
			keys: []string{"a"}, files: &fakeFiles{}, queued: ago, want: map[string]string{}, warnings: []string{"token a did not appear"},
		},
		"the node does not answer": {
			keys: []string{"a"}, files: &fakeFiles{errs: map[string]error{"/tmp/a": errors.New("no kubelet " + long)}}, queued: ago,
			want: map[string]string{}, warnings: []string{"token a could not be read: no kubelet " + long[:maxCause-len("no kubelet ")] + "…"},
		},
		"one that hangs": {
			keys: []string{"a", "b"}, files: &fakeFiles{contents: map[string]string{"/tmp/b": "2"}, errs: map[string]error{"/tmp/a": errHangs}},
			want: map[string]string{"b": "2"}, warnings: []string{"token a could not be read: the container did not answer in time"},
			reads: map[string]int{"/tmp/a": hangsBorne, "/tmp/b": 1},
		},
		"not allowed and late": {
			keys: []string{"a", "b"}, files: &fakeFiles{
				contents: map[string]string{"/tmp/b": "2"}, errs: map[string]error{"/tmp/a": cluster.ErrForbidden}, late: map[string]int{"/tmp/b": 2},
			},
			want: map[string]string{"b": "2"}, warnings: []string{"token a could not be read: the API server allows no exec"},
			reads: map[string]int{"/tmp/a": 1, "/tmp/b": 3},
		},
		"not allowed": {
			keys: []string{"a"}, files: &fakeFiles{errs: map[string]error{"/tmp/a": cluster.ErrForbidden}},
			want: map[string]string{}, warnings: []string{"token a could not be read: the API server allows no exec"}, reads: map[string]int{"/tmp/a": 1},
		},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			b, d := finishing(t, tt.keys...)
			b.creator.files = tt.files
			d.Queued = d.Queued.Add(-tt.queued)
			if got := b.last(t, name); got.Event != events.Running || got.Reason != events.TokensPending {
				t.Fatalf("the pod is %s %s", got.Event, got.Reason)
			}
			for range 2 { // The second time there is nothing to do.
				b.finishes(t, d)
			}
			got := b.last(t, name)
			if got.Event != events.Ready || got.TokensAt.IsZero() || got.ReadyAt.IsZero() {
				t.Errorf("the pod is %s %s", got.Event, got.Reason)
			}
			if d := cmp.Diff(tt.warnings, got.Warnings); d != "" {
				t.Errorf("warnings (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.want, b.tokens(t, d.Generation)); d != "" {
				t.Errorf("tokens (-want +got):\n%s", d)
			}
			for path, want := range tt.reads {
				if got := tt.files.reads[path]; got != want {
					t.Errorf("%s was read %d times, want %d", path, got, want)
				}
			}
		})
	}
}

// TestFinishBoundsWhatIsKept: it has to fit into a message.
func TestFinishBoundsWhatIsKept(t *testing.T) {
	t.Parallel()
	b, d := finishing(t, "a", "b", "c")
	b.config.TokenByteLimit = 256 << 10
	large := strings.Repeat("\x01", 80<<10) // Six bytes each in JSON.
	b.files.contents = map[string]string{"/tmp/a": large, "/tmp/b": large, "/tmp/c": "small"}
	if err := b.finish(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := b.tokens(t, d.Generation); len(got) != 2 || got["a"] != large || got["c"] != "small" {
		t.Errorf("%d tokens are kept", len(got))
	}
	if got := b.last(t, name).Warnings; len(got) != 1 || !strings.HasPrefix(got[0], "token b is left out") {
		t.Errorf("warnings %q", got)
	}
}

// TestFinishHasNothingToDo where the pod is none that waits for tokens.
func TestFinishHasNothingToDo(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, b *bench, d *natsbus.Delivery){
		"another life": func(_ *testing.T, _ *bench, d *natsbus.Delivery) { d.Generation = "1-1" },
		"deleted": func(t *testing.T, b *bench, d *natsbus.Delivery) {
			t.Helper()
			b.appends(t, eventstest.Delete(d.Generation))
		},
		"failed": func(t *testing.T, b *bench, d *natsbus.Delivery) {
			t.Helper()
			b.appends(t, eventstest.Fail(d.Generation, events.Timeout, "too slow"))
		},
		"there is no such pod": func(_ *testing.T, _ *bench, d *natsbus.Delivery) { d.Pod = "nobody" },
		"the pod is gone from the cluster": func(_ *testing.T, b *bench, _ *natsbus.Delivery) {
			b.files.contents, b.files.errs = nil, map[string]error{"/tmp/a": cluster.ErrNoPod}
		},
	}
	for title, change := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			b, d := finishing(t, "a")
			b.files.contents = map[string]string{"/tmp/a": "secret"}
			change(t, b, &d)
			before := b.last(t, name).Event
			if err := b.finish(t.Context(), d); err != nil {
				t.Fatalf("finish = %v", err)
			}
			if got := b.last(t, name).Event; got != before {
				t.Errorf("the pod is %s, was %s", got, before)
			}
			if lives, err := b.bus.TokenLives(t.Context()); err != nil || len(lives) > 0 {
				t.Errorf("kept: %v, %v", lives, err)
			}
		})
	}
}

// TestTokensOfAnotherLife: the name goes to another user while the files are read.
func TestTokensOfAnotherLife(t *testing.T) {
	t.Parallel()
	b, d := finishing(t, "a")
	b.files.contents = map[string]string{"/tmp/a": "the other user's"}
	b.files.during = func() {
		b.appends(t, eventstest.Delete(d.Generation))
		b.appends(t, eventstest.Gone(d.Generation))
		b.appends(t, eventstest.Claim(name, "mallory@example.org", "c9"))
	}
	if err := b.finish(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if lives, err := b.bus.TokenLives(t.Context()); err != nil || len(lives) > 0 {
		t.Errorf("kept: %v, %v", lives, err)
	}
}

// TestFinishAgain: what an earlier attempt has kept is not read again, and what was
// lost is.
func TestFinishAgain(t *testing.T) {
	t.Parallel()
	b, d := finishing(t, "a", "b")
	if err := b.bus.PutTokens(t.Context(), name, d.Generation, map[string]string{"a": "1"}); err != nil {
		t.Fatal(err)
	}
	d.Attempt = 2
	if err := b.finish(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := b.last(t, name); got.Event != events.Ready || len(got.Warnings) != 1 || len(b.files.reads) > 0 {
		t.Errorf("the pod is %s with %q after reads %v", got.Event, got.Warnings, b.files.reads)
	}

	if err := b.bus.DropTokens(t.Context(), name, d.Generation); err != nil {
		t.Fatal(err)
	}
	b.files.contents = map[string]string{"/tmp/a": "1", "/tmp/b": "2"}
	before := b.last(t, name).Sequence
	d.Attempt = 1
	if err := b.finish(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"a": "1", "b": "2"}, b.tokens(t, d.Generation)); d != "" {
		t.Errorf("tokens (-want +got):\n%s", d)
	}
	if after := b.last(t, name).Sequence; after != before {
		t.Errorf("the log has %d, had %d; the pod was ready all the time", after, before)
	}
}

// TestFinishWithoutTheCluster does not give up what it could not look for, until it
// has been tried often enough.
func TestFinishWithoutTheCluster(t *testing.T) {
	t.Parallel()
	b, d := finishing(t, "a")
	b.files.errs = map[string]error{"/tmp/a": cluster.ErrUnreachable}
	if err := b.finish(t.Context(), d); !errors.Is(err, cluster.ErrUnreachable) {
		t.Errorf("finish = %v, want %v", err, cluster.ErrUnreachable)
	}
	if got := b.last(t, name).Event; got != events.Running {
		t.Errorf("the pod is %s", got)
	}
	for range 2 {
		if err := b.failFinish(t.Context(), d, events.RetriesExhausted, "connection refused"); err != nil {
			t.Fatal(err)
		}
	}
	got := b.last(t, name)
	if d := cmp.Diff([]string{"tokens could not be copied: connection refused"}, got.Warnings); d != "" || got.Event != events.Ready {
		t.Errorf("the pod is %s; warnings (-want +got):\n%s", got.Event, d)
	}
}

// TestFinishStops: a replica that stops leaves the pod to another one, at once.
func TestFinishStops(t *testing.T) {
	t.Parallel()
	b, d := finishing(t, "a")
	stopped := make(chan struct{})
	b.draining, b.files.block = stopped, true
	b.files.during = func() { close(stopped) } // In the middle of a look.
	if err := b.finish(t.Context(), d); !errors.Is(err, errDraining) {
		t.Errorf("finish = %v, want %v", err, errDraining)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	b.draining = nil
	over := errors.New("over")
	b.files.during = func() { cancel(over) }
	if err := b.finish(ctx, d); !errors.Is(err, over) {
		t.Errorf("finish = %v, want %v", err, over)
	}
	if got := b.last(t, name).Event; got != events.Running {
		t.Errorf("the pod is %s", got)
	}
}

func TestGivenUp(t *testing.T) {
	t.Parallel()
	now := time.Now()
	tests := map[string]struct {
		attempt uint64
		queued  time.Duration // Before now.
		want    bool
	}{
		"the first look":                        {1, 0, false},
		"the first, after a long queue":         {1, time.Minute, false},
		"often enough, too early":               {leastLooks, tokenPatience - 1, false},
		"often enough, and long enough":         {leastLooks, tokenPatience, true},
		"by a clock that is behind":             {mostLooks - 1, -time.Hour, false},
		"by a clock that is behind, for long":   {mostLooks, -time.Hour, true},
		"by a clock that is far ahead, at once": {2, time.Hour, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := natsbus.Delivery{Attempt: tt.attempt, Queued: now.Add(-tt.queued)}
			if got := givenUp(d, tokenPatience, now); got != tt.want {
				t.Errorf("givenUp = %t, want %t", got, tt.want)
			}
		})
	}
}

// TestDelays: they grow to their end and stay there, and a busy create comes back for
// longer than any create may take.
func TestDelays(t *testing.T) {
	t.Parallel()
	var busy time.Duration
	for attempt := uint64(1); attempt < 64; attempt++ {
		if d := lookDelay(attempt); d < firstLook || d > mostLook || attempt > 1 && d < lookDelay(attempt-1) {
			t.Errorf("the pause after look %d is %s", attempt, d)
		}
		busy += busyDelay(attempt)
	}
	if busy < time.Minute {
		t.Errorf("a busy create comes back for %s", busy)
	}
}

func TestHunts(t *testing.T) {
	t.Parallel()
	var s hunts
	now := time.Now()
	found := func(bytes int) *hunt {
		h := newHunt()
		h.found["a"] = strings.Repeat("x", bytes)
		return h
	}
	s.keep("nothing", newHunt(), now)
	s.keep("large", found(huntsBytes), now)
	s.keep("old", found(1), now)
	s.keep("a", found(2), now.Add(huntsKept+1))
	s.keep("a", found(3), now.Add(huntsKept+1))
	for life, want := range map[string]int{"nothing": 0, "large": 0, "old": 0, "a": 3} {
		if got := len(s.take(life).found["a"]); got != want {
			t.Errorf("%d bytes of %s are kept, want %d", got, life, want)
		}
	}
	if s.bytes != 0 || len(s.take("a").found) > 0 {
		t.Errorf("%d bytes are kept of what was taken", s.bytes)
	}
}

// crowd is what is in the containers of many pods: the tokens of one.
type crowd struct {
	pod   string
	reads atomic.Int64
}

func (c *crowd) Read(_ context.Context, pod, _, _ string, _ int) ([]byte, error) {
	if pod != c.pod {
		return nil, cluster.ErrNoFile
	}
	c.reads.Add(1)
	return []byte("secret"), nil
}

// TestFinishInACrowd: pods whose tokens do not appear keep no place from one whose
// token is there.
func TestFinishInACrowd(t *testing.T) {
	t.Parallel()
	const pods = 300
	b := newBench(t)
	c := &crowd{pod: "has-its-token"}
	b.creator.files = c
	asked := map[string]time.Time{}
	for i := range pods + 1 {
		pod := fmt.Sprintf("waits-%d", i)
		if i == pods {
			pod = c.pod // The last in the queue.
		}
		entry := eventstest.Bring(t, b.bus, pod, user, events.Licensed)
		launch := eventstest.Launch(entry.Generation)
		launch.TokenKeys = []string{"a"}
		for _, fact := range []events.Fact{
			launch, eventstest.Launched(entry.Generation, "uid"), eventstest.Observe(entry.Generation, eventstest.Ready("uid", "7")),
		} {
			var err error
			if entry, _, err = b.bus.Append(t.Context(), pod, fact); err != nil {
				t.Fatal(err)
			}
		}
		asked[pod] = time.Now()
		if err := b.bus.AskFinish(t.Context(), entry, ""); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- b.bus.Consume(ctx, natsbus.Stage{
			Stage: events.StageFinish, Handler: b.finish, Fail: b.failFinish, Concurrency: 64,
			AckWait: 2 * time.Minute, // The end of an attempt is not to make the place.
		})
	}()
	eventstest.Eventually(t, "the pod with its token is ready", func() bool { return b.last(t, c.pod).Event == events.Ready })
	stop()
	if err := eventstest.Receive(t, "the end of the stage", done); err != nil {
		t.Error(err)
	}
	if got := c.reads.Load(); got != 1 {
		t.Errorf("its token was read %d times, want once", got)
	}
	for _, i := range []int{0, pods - 1} {
		got := b.last(t, fmt.Sprintf("waits-%d", i))
		if waited := time.Since(asked[got.Pod]); got.Event != events.Running && waited < tokenPatience {
			t.Errorf("%s is %s after %s, before its time is over", got.Pod, got.Event, waited)
		}
	}
}
