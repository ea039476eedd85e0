package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

// journal is what happened, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) check(t *testing.T, want ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if diff := cmp.Diff(want, j.lines); diff != "" {
		t.Errorf("what happened (-want +got):\n%s", diff)
	}
}

// newLifecycle returns a service whose start gets the service itself.
func newLifecycle(start func(ctx context.Context, l *Lifecycle) error) *Lifecycle {
	var l *Lifecycle
	l = NewLifecycle("test", zerolog.Nop(), func(ctx context.Context) error { return start(ctx, l) })
	return l
}

func untilEnd(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func nothing(context.Context, *Lifecycle) error { return nil }

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

func TestLifecycleStopsInReverse(t *testing.T) {
	t.Parallel()
	var j journal
	l := newLifecycle(func(_ context.Context, l *Lifecycle) error {
		l.OnStop("connection", func(context.Context) error { j.add("connection closed"); return nil })
		l.Go("reader", func(ctx context.Context) error {
			<-ctx.Done()
			j.add("reader ended: " + context.Cause(ctx).Error())
			return ctx.Err()
		})
		l.OnStop("file", func(context.Context) error { j.add("file closed"); return errors.New("disk full") })
		l.Go("server", func(ctx context.Context) error { <-ctx.Done(); j.add("server ended"); return errors.New("cut") })
		return nil
	})
	l.OnStop("first", func(context.Context) error { j.add("first closed"); return nil })
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantError(t, l.Stop(t.Context()), "server: cut\nfile: disk full")
	}
	j.check(t, "server ended", "file closed", "reader ended: "+ErrStopped.Error(), "connection closed", "first closed")
}

func TestLifecycleStartsOnce(t *testing.T) {
	t.Parallel()
	l := newLifecycle(nothing)
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context()); !errors.Is(err, ErrStarted) {
		t.Errorf("second Start = %v, want %v", err, ErrStarted)
	}
	if err := l.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := l.Start(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("Start after Stop = %v, want %v", err, ErrStopped)
	}
}

func TestLifecycleStopBeforeStart(t *testing.T) {
	t.Parallel()
	var j journal
	l := newLifecycle(func(context.Context, *Lifecycle) error { j.add("started"); return nil })
	l.OnStop("listener", func(context.Context) error { j.add("listener closed"); return nil })
	if err := l.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := l.Start(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("Start = %v, want %v", err, ErrStopped)
	}
	l.Go("late", func(context.Context) error { j.add("late goroutine ran"); return nil })
	l.OnStop("late", func(context.Context) error { j.add("late clean-up ran"); return errors.New("ignored") })
	j.check(t, "listener closed", "late clean-up ran")
}

func TestLifecycleStartFails(t *testing.T) {
	t.Parallel()
	var j journal
	broken := errors.New("broken")
	l := newLifecycle(func(_ context.Context, l *Lifecycle) error {
		l.OnStop("file", func(context.Context) error { j.add("file closed"); return errors.New("disk full") })
		l.Go("reader", untilEnd)
		return broken
	})
	err := l.Start(t.Context())
	wantError(t, err, "start test: broken\nfile: disk full")
	if !errors.Is(err, broken) {
		t.Errorf("Start = %v does not wrap the error of start", err)
	}
	wantError(t, l.Stop(t.Context()), "broken\nfile: disk full")
	j.check(t, "file closed")
}

func TestLifecycleStopDuringStart(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		end  func(ctx context.Context) error
		want string
	}{
		"start gives up":          {end: untilEnd, want: "start test: " + ErrStopped.Error()},
		"start succeeds anyhow":   {end: func(ctx context.Context) error { <-ctx.Done(); return nil }, want: "start test: " + ErrStopped.Error()},
		"start returns the cause": {end: func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }, want: "start test: " + ErrStopped.Error()},
		"start fails at the same time": {
			end:  func(ctx context.Context) error { <-ctx.Done(); return errors.New("broken") },
			want: "start test: " + ErrStopped.Error() + "\nbroken",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var j journal
			inStart := make(chan struct{})
			l := newLifecycle(func(ctx context.Context, l *Lifecycle) error {
				l.OnStop("file", func(context.Context) error { j.add("file closed"); return nil })
				close(inStart)
				return tc.end(ctx)
			})
			started := make(chan error, 1)
			go func() { started <- l.Start(t.Context()) }()
			<-inStart
			if err := l.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			wantError(t, <-started, tc.want)
			j.check(t, "file closed")
		})
	}
}

func TestLifecycleGoroutineFails(t *testing.T) {
	t.Parallel()
	fail := make(chan struct{})
	broken := errors.New("broken")
	causes := make(chan error, 1)
	l := newLifecycle(func(_ context.Context, l *Lifecycle) error {
		l.Go("reader", func(ctx context.Context) error {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return context.Cause(ctx)
		})
		l.Go("done at once", func(context.Context) error { return nil })
		l.Go("consumer", func(context.Context) error { <-fail; return broken })
		return nil
	})
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(fail)
	<-l.Draining()
	err := l.Stop(t.Context())
	wantError(t, err, "consumer: broken")
	if cause := <-causes; !errors.Is(err, broken) || !errors.Is(cause, broken) {
		t.Errorf("Stop = %v, cause of the others = %v, want both to wrap %v", err, cause, broken)
	}
}

func TestLifecycleGoroutineFailsDuringStart(t *testing.T) {
	t.Parallel()
	l := newLifecycle(func(ctx context.Context, l *Lifecycle) error {
		l.Go("consumer", func(context.Context) error { return errors.New("broken") })
		return untilEnd(ctx)
	})
	err := l.Run(t.Context())
	if !errors.Is(err, ErrStopped) || !strings.Contains(err.Error(), "consumer: broken") {
		t.Errorf("Run = %v, want %v and what broke", err, ErrStopped)
	}
}

// A goroutine that says that its context has ended, when it has not, has failed.
func TestLifecycleGoroutineCanceledByOther(t *testing.T) {
	t.Parallel()
	l := newLifecycle(func(_ context.Context, l *Lifecycle) error {
		l.Go("consumer", func(context.Context) error { return context.Canceled })
		return nil
	})
	if err := l.Run(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want %v", err, context.Canceled)
	}
}

func TestLifecycleRunEndsWithContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	signal := errors.New("signal")
	ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "value"))
	var j journal
	l := newLifecycle(func(_ context.Context, l *Lifecycle) error {
		l.Go("reader", func(ctx context.Context) error {
			value, _ := ctx.Value(key{}).(string)
			cancel(signal)
			<-ctx.Done()
			j.add(value + ", " + context.Cause(ctx).Error())
			return ctx.Err()
		})
		return nil
	})
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
	j.check(t, "value, signal")
}

func TestLifecycleRunEndsDuringStart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	l := newLifecycle(func(ctx context.Context, l *Lifecycle) error {
		l.OnStop("file", func(context.Context) error { return errors.New("disk full") })
		cancel(errors.New("signal"))
		return fmt.Errorf("connect: %w", untilEnd(ctx))
	})
	wantError(t, l.Run(ctx), "file: disk full")
	if err := l.Run(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("second Run = %v, want %v", err, ErrStopped)
	}
}

func TestLifecycleReady(t *testing.T) {
	t.Parallel()
	var l *Lifecycle
	var duringStart error
	l = NewLifecycle("test", zerolog.Nop(), func(ctx context.Context) error {
		duringStart = l.Ready(ctx)
		return nil
	})
	wantError(t, l.Ready(t.Context()), "starting")
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantError(t, duringStart, "starting")
	if err := l.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	var j journal
	l.OnStop("look", func(context.Context) error {
		<-l.Draining()
		j.add(fmt.Sprint(l.Ready(t.Context())))
		return nil
	})
	if err := l.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	j.check(t, "stopping: "+ErrStopped.Error())
}

// What does not end is given up, with its name; the rest is cleaned up all the same.
func TestLifecycleStopIsBounded(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		timeout  time.Duration
		wantTook time.Duration
	}{
		"budget":                 {timeout: time.Hour, wantTook: StopBudget + 2*lastChance},
		"deadline of the caller": {timeout: time.Second, wantTook: time.Second + 2*lastChance},
		"deadline that has gone": {timeout: -time.Second, wantTook: 2 * lastChance},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var j journal
				release := make(chan struct{})
				l := newLifecycle(func(_ context.Context, l *Lifecycle) error {
					l.OnStop("connection", func(context.Context) error { j.add("connection closed"); return nil })
					l.Go("deaf", func(context.Context) error { <-release; return nil })
					l.OnStop("stuck", func(context.Context) error { <-release; return nil })
					l.OnStop("slow", func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
					return nil
				})
				if err := l.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				ctx, cancel := context.WithDeadline(t.Context(), begun.Add(tc.timeout))
				defer cancel()
				_ = l.Stop(ctx)
				<-l.stopped
				if took := time.Since(begun); took != tc.wantTook {
					t.Errorf("the stop took %v, want %v", took, tc.wantTook)
				}
				err := l.Stop(t.Context())
				wantError(t, err, "slow: did not end in time\nstuck: did not end in time\ndeaf: did not end in time")
				j.check(t, "connection closed")
				close(release)
			})
		})
	}
}

func TestLifecycleStopWaiterGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l := newLifecycle(func(_ context.Context, l *Lifecycle) error {
			l.OnStop("slow", func(context.Context) error { <-release; return nil })
			return nil
		})
		if err := l.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("in a hurry"))
		wantError(t, l.Stop(ctx), "stop test: in a hurry")
		close(release)
		if err := l.Stop(t.Context()); err != nil {
			t.Errorf("the stop went on to %v, want nil", err)
		}
	})
}

func TestLifecycleStartIgnoresStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var j journal
		release := make(chan struct{})
		l := newLifecycle(func(_ context.Context, l *Lifecycle) error {
			<-release
			l.OnStop("late", func(context.Context) error { j.add("late closed"); return nil })
			return nil
		})
		started := make(chan error, 1)
		go func() { started <- l.Start(t.Context()) }()
		synctest.Wait()
		wantError(t, l.Stop(t.Context()), "start: did not end in time")
		close(release)
		if err := <-started; !errors.Is(err, ErrStopped) {
			t.Errorf("Start = %v, want %v", err, ErrStopped)
		}
		j.check(t, "late closed")
	})
}

func TestLifecycleLogsItsStop(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	l := NewLifecycle("test", NewLogger(&out, zerolog.InfoLevel, Identity{Service: "test"}), func(ctx context.Context) error {
		zerolog.Ctx(ctx).Info().Msg("From start")
		return nil
	})
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, message(t, line))
	}
	if want := []string{"From start", "Service started", "Service stopping", "Service stopped"}; !slices.Equal(got, want) {
		t.Errorf("log = %q, want %q", got, want)
	}
}
