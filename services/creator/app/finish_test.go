package app

import (
	"context"
	"errors"
	"strings"
	"sync"
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
	const patience = 700 * time.Millisecond
	long := strings.Repeat("x", 5000)
	tests := map[string]struct {
		keys     []string
		files    *fakeFiles
		patience time.Duration
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
			keys: []string{"a", "b"}, files: &fakeFiles{contents: map[string]string{"/tmp/a": "1"}}, patience: patience,
			want: map[string]string{"a": "1"}, warnings: []string{"token b did not appear"},
		},
		"all missing": {
			keys: []string{"a"}, files: &fakeFiles{}, patience: patience, want: map[string]string{}, warnings: []string{"token a did not appear"},
		},
		"the node does not answer": {
			keys: []string{"a"}, files: &fakeFiles{errs: map[string]error{"/tmp/a": errors.New("no kubelet " + long)}}, patience: patience,
			want: map[string]string{}, warnings: []string{"token a could not be read: no kubelet " + long[:maxCause-len("no kubelet ")] + "…"},
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
			if tt.patience > 0 {
				b.tokenPatience = tt.patience
			}
			if got := b.last(t, name); got.Event != events.Running || got.Reason != events.TokensPending {
				t.Fatalf("the pod is %s %s", got.Event, got.Reason)
			}
			for range 2 { // The second time there is nothing to do.
				if err := b.finish(t.Context(), d); err != nil {
					t.Fatalf("finish: %v", err)
				}
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
	b.draining = stopped
	close(stopped)
	if err := b.finish(t.Context(), d); !errors.Is(err, errDraining) {
		t.Errorf("finish = %v, want %v", err, errDraining)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	b.draining, b.files.block = nil, true
	over := errors.New("over")
	b.files.during = func() { cancel(over) }
	if err := b.finish(ctx, d); err == nil {
		t.Error("it went on after its time")
	}
	if got := b.last(t, name).Event; got != events.Running {
		t.Errorf("the pod is %s", got)
	}
}
