package build

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAll(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	one, two := program("one", "v1.0.0"), program("two", "v1.0.0")
	if err := f.All(t.Context(), []Program{one, two}); err != nil {
		t.Fatal(err)
	}
	f.wantProgress(t, "building one v1.0.0 (1 of 2, usually 1m on 2 cores)", "building two v1.0.0 (2 of 2")
	f.wantRuns(t, one, "hello")
	if left, err := os.ReadDir(f.Cache); err != nil || len(left) != 3 {
		t.Errorf("in the cache are %v, %v; want the two programs and the lock", left, err)
	}

	// Nothing is missing: no source, no go command and no word are needed.
	cached := f
	cached.Go, cached.progress = "missing", new(progress)
	cached.Config.Progress = cached.progress
	cached.Source = func() (string, error) { return "", errors.New("source was looked for") }
	if err := cached.All(t.Context(), []Program{one, two}); err != nil {
		t.Error(err)
	}
	if text := cached.progress.String(); text != "" {
		t.Errorf("progress without a build: %s", text)
	}

	// Another version is built beside the old one.
	newer := program("one", "v1.0.1")
	if err := cached.All(t.Context(), []Program{newer}); err == nil || !strings.Contains(err.Error(), "source was looked for") {
		t.Errorf("a version that is not cached and has no source: %v", err)
	}
	if err := f.All(t.Context(), []Program{newer, two}); err != nil {
		t.Fatal(err)
	}
	f.wantProgress(t, "building one v1.0.1 (1 of 1")
	f.wantRuns(t, one, "hello")
	f.wantRuns(t, newer, "hello")
}

// TestDamaged shows that a program that is not whole is built again.
func TestDamaged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := program("one", "v1.0.0")
	path := f.Path(p)
	damages := []struct {
		name   string
		damage func() error
	}{
		{"missing", func() error { return nil }},
		{"empty", func() error { return os.Truncate(path, 0) }},
		{"cut off", func() error { return os.Truncate(path, 100_000) }},
		{"not a program", func() error { return os.WriteFile(path, []byte("404 not found"), 0o700) }},
		{"not executable", func() error { return os.Chmod(path, 0o600) }},
		{"removed", func() error { return os.RemoveAll(filepath.Dir(path)) }},
	}
	for _, d := range damages {
		if err := d.damage(); err != nil {
			t.Fatal(err)
		}
		if complete(path) {
			t.Errorf("%s: it passes for a program", d.name)
		}
		if err := f.All(t.Context(), []Program{p}); err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
		f.wantRuns(t, p, "hello")
	}
}

// TestTwoAtOnce shows that the second process waits for the first, and then builds nothing again.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := program("one", "v1.0.0")
	if err := os.MkdirAll(f.Cache, 0o700); err != nil {
		t.Fatal(err)
	}
	unlock, err := f.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- f.All(t.Context(), []Program{p}) }()
	f.progress.waitFor(t, "waiting for another process")
	f.progress.waitFor(t, "waiting for another build: ")

	// A third one gives up, and says why.
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no patience"))
	if err := f.All(ctx, []Program{p}); err == nil || !strings.Contains(err.Error(), "no patience") {
		t.Errorf("a cancelled wait: %v", err)
	}

	// Meanwhile the first one builds.
	first := newFixture(t)
	if err := first.All(t.Context(), []Program{p}); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(f.Path(p)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(first.Path(p), f.Path(p)); err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if text := f.progress.String(); strings.Contains(text, "building") {
		t.Errorf("it was built twice: %s", text)
	}
}

// TestCancel cancels a build that takes for ever. Nothing of it may be left, and the next one must work.
func TestCancel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := program("one", "v1.0.0")
	slow := f
	// The output is there, half, when the build is killed.
	slow.Go = f.script(t, `while [ "$1" != -o ]; do shift; done; echo half >$2; sleep 1000 & wait`)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error)
	go func() { done <- slow.All(ctx, []Program{p}) }()
	f.progress.waitFor(t, "so far")
	cancel(errors.New("ctrl-C"))
	if err := <-done; err == nil || !strings.Contains(err.Error(), "ctrl-C") {
		t.Errorf("a cancelled build: %v", err)
	}
	if _, err := os.Stat(filepath.Join(f.Cache, ".tmp")); err == nil {
		t.Error("the folder of the build is left")
	}
	if complete(f.Path(p)) {
		t.Error("half a program is in the cache")
	}
	if err := f.All(t.Context(), []Program{p}); err != nil {
		t.Fatal(err)
	}
	f.wantRuns(t, p, "hello")
}

// TestAfterKill starts where a build that was killed left its files.
func TestAfterKill(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := program("one", "v1.0.0")
	for name, text := range map[string]string{".tmp/one": "half", ".tmp/one.json": `{"pid":1,"st`, ".tmp/go-build1/x": ""} {
		path := filepath.Join(f.Cache, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.All(t.Context(), []Program{p}); err != nil {
		t.Fatal(err)
	}
	f.wantRuns(t, p, "hello")
	if _, err := os.Stat(filepath.Join(f.Cache, ".tmp")); err == nil {
		t.Error("the folder of the build is left")
	}
}

func TestFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(t *testing.T, f *fixture)
		want   string
	}{
		"it does not compile": {
			change: func(t *testing.T, f *fixture) {
				write(t, filepath.Join(f.source, "fake", "main.go"), "package main\nnonsense\n")
			},
			want: "main.go:2:1: syntax error",
		},
		"it is no program": {
			change: func(t *testing.T, f *fixture) { f.Go = f.script(t, "exit 0") },
			want:   "made no program",
		},
		"there is no Go": {
			change: func(_ *testing.T, f *fixture) { f.Go = "/missing/go" },
			want:   "install Go",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			tt.change(t, &f)
			err := f.All(t.Context(), []Program{program("one", "v1.0.0")})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestEnviron(t *testing.T) {
	t.Parallel()
	got := environ([]string{"PATH=/bin", "GOFLAGS=-mod=vendor", "GOWORK=/x/go.work", "GOOS=plan9", "GOARCH=mips", "GOPROXY=off"}, "/tmp/x")
	for _, want := range []string{"PATH=/bin", "GOPROXY=off", "GOWORK=off", "GOFLAGS=-mod=readonly", "GOTMPDIR=/tmp/x"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is missing in %v", want, got)
		}
	}
	for _, e := range got {
		if e == "GOOS=plan9" || e == "GOARCH=mips" || e == "GOFLAGS=-mod=vendor" {
			t.Errorf("%s would change what is built", e)
		}
	}
}

// fixture is a configuration for a tiny module.
type fixture struct {
	Config
	source   string
	progress *progress
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	source, p := t.TempDir(), new(progress)
	write(t, filepath.Join(source, "fake", "go.mod"), "module example.test/fake\n\ngo 1.26\n")
	write(t, filepath.Join(source, "fake", "main.go"), "package main\n\nfunc main() { println(\"hello\") }\n")
	return fixture{
		Config: Config{
			Cache: filepath.Join(t.TempDir(), "cache"), Source: func() (string, error) { return source, nil }, Progress: p, Tick: time.Millisecond,
		},
		source: source, progress: p,
	}
}

func program(name, version string) Program {
	return Program{Name: name, Version: version, Module: "fake", Package: "example.test/fake", Usual: time.Minute}
}

// script returns a command that does something else than go.
func (f fixture) script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "go")
	// Another process writes it: what this one has open for writing, a child that is just being forked has open too, and cannot be started.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `cat >"$1" && chmod 700 "$1"`, "sh", path)
	cmd.Stdin = strings.NewReader("#!/bin/sh\n" + text + "\n")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return path
}

func (f fixture) wantProgress(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if text := f.progress.String(); !strings.Contains(text, line) {
			t.Errorf("progress lacks %q:\n%s", line, text)
		}
	}
}

func (f fixture) wantRuns(t *testing.T, p Program, want string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), f.Path(p)).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("%s says %q, %v; want %q", f.Path(p), out, err, want)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// progress keeps what is written and lets a test wait for it.
type progress struct {
	mu      sync.Mutex
	text    bytes.Buffer
	written chan struct{}
}

func (p *progress) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.written != nil {
		close(p.written)
		p.written = nil
	}
	return p.text.Write(data)
}

func (p *progress) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func (p *progress) waitFor(t *testing.T, want string) {
	t.Helper()
	for {
		p.mu.Lock()
		if strings.Contains(p.text.String(), want) {
			p.mu.Unlock()
			return
		}
		if p.written == nil {
			p.written = make(chan struct{})
		}
		written := p.written
		p.mu.Unlock()
		select {
		case <-written:
		case <-t.Context().Done():
			t.Fatalf("progress without %q", want)
		}
	}
}
