// Package proc starts child processes that cannot outlive the process that made them, and ends them.
//
// Three things see to it: the kernel kills a child when its parent dies (or a guard does, with the child's own children), every child leads a
// process group that is killed as a whole, and a note per child on disk lets the next run end what was left all the same. Linux only.
package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// killWait bounds the wait for a process to vanish after SIGKILL. Only one that hangs in the kernel takes longer than milliseconds.
const killWait = 5 * time.Second

// Spec is a process to start.
type Spec struct {
	Name string   // Names the log and the note: "etcd".
	Path string   // The program.
	Args []string // Without the program's name.
	Env  []string // The whole environment.
	Dir  string   // Where it runs.
	Log  string   // The file that gets its stdout and stderr; an older one is kept as Log.old. Empty: they are this process's stderr.
	// Append continues an older log instead.
	Append bool
	Note   string // The file that identifies it while it runs, for EndLeftovers; none if empty.
	// Parent says that it has children of its own, which must not outlive this process either. It gets no SIGTERM, a Stop kills it at once.
	Parent bool
	// User is who it runs as, with these capabilities (capabilities(7)) beyond that user's. nil and none: as this process.
	User         *syscall.Credential
	Capabilities []uintptr
}

// guard is a shell script that runs a command and kills its whole process group when file 3, a pipe from this process, comes to its end. A
// parent-death signal would reach the command only, and its children would go on.
const guard = `"$@" 3<&- & command=$!; { cat <&3 >/dev/null; kill -KILL 0; } & wait $command`

// Starter starts processes that die with it. It is safe for concurrent use.
type Starter struct {
	work chan func()
	done chan struct{}

	mu        sync.Mutex
	processes []*Process
}

// NewStarter returns a Starter, which must be closed.
func NewStarter() *Starter {
	s := &Starter{work: make(chan func()), done: make(chan struct{})}
	go s.run()
	return s
}

// run forks every child on one thread that stays as long as the Starter: the kernel sends the parent-death signal when the thread that
// forked ends, and the Go runtime ends threads when it likes (golang.org/issue/27505).
func (s *Starter) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.done)
	for f := range s.work {
		f()
	}
}

// Close kills what still runs and ends the Starter, which must not be used any more. The error is that of Process.Stop.
func (s *Starter) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, p := range s.processes {
		errs = append(errs, p.Stop(0))
	}
	close(s.work)
	<-s.done
	return errors.Join(errs...)
}

// Start starts a process. It returns once the program has been loaded, not when it is ready.
func (s *Starter) Start(spec Spec) (*Process, error) {
	log := os.Stderr
	if spec.Log != "" {
		file, err := openLog(spec.Log, spec.Append)
		if err != nil {
			return nil, fmt.Errorf("open log of %s: %w", spec.Name, err)
		}
		// The child has a copy of its own.
		defer file.Close()
		log = file
	}

	cmd := &exec.Cmd{
		Path: spec.Path, Args: append([]string{spec.Path}, spec.Args...), Env: spec.Env, Dir: spec.Dir, Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: spec.User, AmbientCaps: spec.Capabilities,
		},
	}
	p := &Process{spec: spec, done: make(chan struct{})}
	if spec.Parent {
		read, write, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("make pipe for %s: %w", spec.Name, err)
		}
		defer read.Close()
		p.alive = write
		cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", guard, "sh"}, cmd.Args...)
		cmd.ExtraFiles, cmd.SysProcAttr.Pdeathsig = []*os.File{read}, 0
	}
	started := make(chan error, 1)
	s.work <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", spec.Name, err), p.release())
	}
	p.pid = cmd.Process.Pid
	var err error
	if spec.Note != "" {
		err = writeNote(spec.Note, p.pid)
	}
	go p.wait(cmd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("note process %s: %w", spec.Name, err), p.Stop(0))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.processes = append(s.processes, p)
	return p, nil
}

func openLog(path string, older bool) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if older {
		return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	}
	if err := os.Rename(path, path+".old"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_TRUNC, 0o600)
}

// Process is a started process. It is safe for concurrent use.
type Process struct {
	spec  Spec
	pid   int
	alive *os.File // Tells the guard that we live, as long as it is open; nil without a guard.
	done  chan struct{}
	err   error // Written before done is closed.
	stop  sync.Once
}

func (p *Process) release() error {
	if p.alive == nil {
		return nil
	}
	return p.alive.Close()
}

// wait reaps the process and kills what it started and left in its group.
func (p *Process) wait(cmd *exec.Cmd) {
	p.err = cmd.Wait()
	// No such process is the usual answer: the group is empty.
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	p.err = errors.Join(p.err, p.release())
	if p.spec.Note != "" {
		// One that stays does no harm: it identifies nothing any more.
		_ = os.Remove(p.spec.Note)
	}
	close(p.done)
}

// Name is the name in its Spec.
func (p *Process) Name() string { return p.spec.Name }

// Signal sends a signal to the process alone, SIGSTOP or SIGKILL for one. It returns false when the process has ended.
func (p *Process) Signal(sig syscall.Signal) bool { return p.signal(p.pid, sig) }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the process ended: nil for exit code 0, else the cause and the last lines of its log. It waits for the end.
func (p *Process) Err() error {
	<-p.done
	if p.err == nil {
		return nil
	}
	if p.spec.Log == "" {
		return fmt.Errorf("%s: %w", p.spec.Name, p.err)
	}
	return fmt.Errorf("%s: %w; %s ends with:\n%s", p.spec.Name, p.err, p.spec.Log, tail(p.spec.Log))
}

// Stop ends the process: SIGTERM, and after the grace SIGKILL to its whole group; SIGKILL at once if the grace is zero. It returns when the
// process has gone, with an error only if even SIGKILL did not end it within 5 s. Further calls wait for the first.
func (p *Process) Stop(grace time.Duration) error {
	p.stop.Do(func() {
		if p.spec.Parent {
			grace = 0
		}
		if grace > 0 && p.signal(p.pid, syscall.SIGTERM) && !p.endsWithin(grace) {
			grace = 0
		}
		if grace == 0 {
			p.signal(-p.pid, syscall.SIGKILL)
		}
	})
	if !p.endsWithin(killWait) {
		return fmt.Errorf("stop %s: process %d is still there after SIGKILL", p.spec.Name, p.pid)
	}
	return nil
}

// signal tells whether there was something left to send the signal to.
func (p *Process) signal(pid int, sig syscall.Signal) bool {
	select {
	case <-p.done:
		return false
	default:
		return syscall.Kill(pid, sig) == nil
	}
}

func (p *Process) endsWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}
