package proc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// parentVariable makes the test binary start a process in the folder that it names, and wait to be killed; with "true" in childrenVariable the
// process has children of its own. Their numbers are in the file pids.
const (
	parentVariable   = "PROC_TEST_PARENT"
	childrenVariable = "PROC_TEST_CHILDREN"
)

// grace is long enough for a shell to obey, whatever else the machine does.
const grace = time.Minute

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentVariable); dir != "" {
		os.Exit(parent(dir))
	}
	goleak.VerifyTestMain(m)
}

func parent(dir string) int {
	spec := shell(dir, "echo $$ >pids.new; mv pids.new pids; exec sleep 1000")
	if os.Getenv(childrenVariable) == "true" {
		spec = shell(dir, "sleep 1000 & echo $$ $! >pids.new; mv pids.new pids; wait")
		spec.Parent = true
	}
	p, err := NewStarter().Start(spec)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-p.Done()
	return 1
}

func TestStop(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script string
		parent bool
		ends   bool // By itself, before it is stopped.
		grace  time.Duration
		want   string // In the error of the process.
	}{
		"obeys":                 {script: "trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done", grace: grace},
		"obeys and complains":   {script: "trap 'echo no time; exit 7' TERM; echo up; while :; do sleep 0.01; done", grace: grace, want: "no time"},
		"ignores":               {script: "trap '' TERM; echo up; while :; do sleep 0.01; done", grace: time.Millisecond, want: "signal: killed"},
		"gets no grace":         {script: "trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done", want: "signal: killed"},
		"has ended":             {script: "echo up; exit 0", ends: true, grace: grace},
		"has ended badly":       {script: "echo up; exit 7", ends: true, grace: grace, want: "exit status 7"},
		"is guarded":            {script: "echo up; exit 7", parent: true, ends: true, grace: grace, want: "exit status 7"},
		"is guarded and ends":   {script: "echo up; exit 0", parent: true, ends: true, grace: grace},
		"is guarded and killed": {script: "trap '' TERM; echo up; while :; do sleep 0.01; done", parent: true, want: "signal: killed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, p := start(t, tt.script, tt.parent)
			waitForLog(t, dir, "up")
			if tt.ends {
				<-p.Done()
			}
			if err := p.Stop(tt.grace); err != nil {
				t.Fatal(err)
			}
			if err := p.Stop(tt.grace); err != nil {
				t.Errorf("stop again: %v", err)
			}
			err := p.Err()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("it ended with %v, want %q", err, tt.want)
			}
			if _, err := os.Stat(filepath.Join(dir, "run", "shell.json")); err == nil {
				t.Error("its note is left")
			}
		})
	}
}

// TestGroup shows that what a process started ends with it, however it ends.
func TestGroup(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{"the process ends": "exit 0", "the process is killed": "wait"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, p := start(t, "sleep 1000 & echo $! >child.new; mv child.new child; echo up; "+end, false)
			waitForLog(t, dir, "up")
			if end == "wait" {
				if err := p.Stop(0); err != nil {
					t.Fatal(err)
				}
			}
			<-p.Done()
			text, err := os.ReadFile(filepath.Join(dir, "child"))
			if err != nil {
				t.Fatal(err)
			}
			waitGone(t, strings.TrimSpace(string(text)))
		})
	}
}

// TestThreads shows that a process survives the thread that asked for it: the parent-death signal belongs to the thread that forks.
func TestThreads(t *testing.T) {
	t.Parallel()
	s := NewStarter()
	closeAfter(t, s)
	dir := t.TempDir()
	var p *Process
	thread := make(chan int)
	go func() {
		defer close(thread)
		onEndingThread(func() {
			var err error
			if p, err = s.Start(shell(dir, "trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done")); err != nil {
				t.Error(err)
				return
			}
			thread <- syscall.Gettid()
		})
	}()
	id, ok := <-thread
	if !ok {
		t.FailNow()
	}
	<-thread
	eventually(t, func() bool {
		_, err := os.Stat(filepath.Join("/proc/self/task", strconv.Itoa(id)))
		return err != nil
	})
	waitForLog(t, dir, "up")
	if err := p.Stop(grace); err != nil {
		t.Fatal(err)
	}
	if err := p.Err(); err != nil {
		t.Error(err)
	}
}

// onEndingThread calls f on a thread that then ends. The first thread of a process never does.
func onEndingThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Without an unlock the thread ends with the goroutine.
		runtime.LockOSThread()
		if syscall.Gettid() == os.Getpid() {
			onEndingThread(f)
			return
		}
		f()
	}()
	<-done
}

// TestKilledParent shows that neither a process nor its children outlive a parent that is killed.
func TestKilledParent(t *testing.T) {
	t.Parallel()
	for name, withChildren := range map[string]bool{"process": false, "process with children": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			cmd := exec.CommandContext(t.Context(), exe)
			cmd.Env = append(os.Environ(), parentVariable+"="+dir, fmt.Sprintf("%s=%t", childrenVariable, withChildren))
			cmd.Stderr = t.Output()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var pids []byte
			eventually(t, func() bool {
				pids, err = os.ReadFile(filepath.Join(dir, "pids"))
				return err == nil
			})
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			// Its end by SIGKILL is an error by definition.
			_ = cmd.Wait()
			for pid := range strings.FieldsSeq(string(pids)) {
				waitGone(t, pid)
			}
		})
	}
}

// TestClose shows that closing a Starter kills what was forgotten.
func TestClose(t *testing.T) {
	t.Parallel()
	s := NewStarter()
	p, err := s.Start(shell(t.TempDir(), "exec sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-p.Done()
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	s := NewStarter()
	closeAfter(t, s)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Spec){
		"no such program": func(spec *Spec) { spec.Path = filepath.Join(dir, "missing") },
		"no log":          func(spec *Spec) { spec.Log = filepath.Join(file, "x") },
		"no note":         func(spec *Spec) { spec.Note = filepath.Join(file, "x") },
	} {
		spec := shell(dir, "exec sleep 1000")
		change(&spec)
		if _, err := s.Start(spec); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestEndLeftovers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*note)
		killed bool
	}{
		"the same process":                {change: func(*note) {}, killed: true},
		"another one with the number":     {change: func(n *note) { n.Start = "1" }},
		"another program with the number": {change: func(n *note) { n.Exe = "/usr/bin/other" }},
		"a process that does not exist":   {change: func(n *note) { n.PID = 1 << 30 }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, p := start(t, "echo up; sleep 1000; exit", false)
			waitForLog(t, dir, "up")
			n, err := identify(p.pid)
			if err != nil {
				t.Fatal(err)
			}
			tt.change(&n)
			notes := t.TempDir()
			text := fmt.Sprintf(`{"pid":%d,"start":%q,"exe":%q}`, n.PID, n.Start, n.Exe)
			if err := os.WriteFile(filepath.Join(notes, "x.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(notes, "half.json"), []byte(text[:9]), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := EndLeftovers(notes); err != nil {
				t.Fatal(err)
			}
			if left, err := filepath.Glob(filepath.Join(notes, "*")); err != nil || len(left) > 0 {
				t.Errorf("notes are left: %v, %v", left, err)
			}
			if _, err := identify(p.pid); (err != nil) != tt.killed {
				t.Errorf("after EndLeftovers: %v, want it killed: %t", err, tt.killed)
			}
		})
	}
}

// TestReplacedProgram shows that a process is known again when its program was replaced on disk, as a build does.
func TestReplacedProgram(t *testing.T) {
	t.Parallel()
	s := NewStarter()
	closeAfter(t, s)
	dir := t.TempDir()
	spec := shell(dir, "")
	spec.Path, spec.Args = filepath.Join(dir, "program"), []string{"1000"}
	// Another process copies it: what this one has open for writing, a child that is just being forked has open too, and cannot be started.
	if err := exec.CommandContext(t.Context(), "cp", "/bin/sleep", spec.Path).Run(); err != nil {
		t.Fatal(err)
	}
	p, err := s.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(spec.Path); err != nil {
		t.Fatal(err)
	}
	if err := EndLeftovers(filepath.Dir(spec.Note)); err != nil {
		t.Error(err)
	}
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("it ended with %v, want it killed", err)
	}
}

func start(t *testing.T, script string, isParent bool) (string, *Process) {
	t.Helper()
	dir := t.TempDir()
	s := NewStarter()
	spec := shell(dir, script)
	spec.Parent = isParent
	p, err := s.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, s)
	return dir, p
}

func closeAfter(t *testing.T, s *Starter) {
	t.Helper()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func shell(dir, script string) Spec {
	return Spec{
		Name: "shell", Path: "/bin/sh", Args: []string{"-c", script}, Dir: dir, Env: []string{"PATH=" + os.Getenv("PATH")},
		Log: filepath.Join(dir, "logs", "shell.log"), Note: filepath.Join(dir, "run", "shell.json"),
	}
}

func waitForLog(t *testing.T, dir, want string) {
	t.Helper()
	eventually(t, func() bool { return strings.Contains(tail(filepath.Join(dir, "logs", "shell.log")), want) })
}

// waitGone waits until the process does not run any more. As a zombie that nobody reaps it has no program.
func waitGone(t *testing.T, number string) {
	t.Helper()
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	eventually(t, func() bool {
		_, err := identify(pid)
		return err != nil
	})
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	end := time.NewTimer(grace)
	defer end.Stop()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-end.C:
			t.Fatalf("not within %s", grace)
		case <-poll.C:
		}
	}
}
