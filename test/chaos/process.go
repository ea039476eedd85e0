package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// program is a child process that can be killed, paused and started again. It
// dies with this process. It is safe for concurrent use.
type program struct {
	name string
	path string
	args []string
	env  []string
	log  string
	// forks starts processes on a thread that stays: the kernel sends the
	// parent-death signal when the thread that forked ends.
	forks *forker

	mu      sync.Mutex
	cmd     *exec.Cmd
	done    chan struct{}
	meant   bool // The end of the process that runs was asked for.
	strange []error
}

// start starts the program; it must not run.
func (p *program) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", p.name, err)
	}
	defer log.Close() // The child has a copy of its own.
	cmd := &exec.Cmd{
		Path: p.path, Args: append([]string{p.path}, p.args...), Env: p.env, Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	if err := p.forks.start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.done, p.meant = cmd, done, false
	p.mu.Unlock()
	p.forks.waiting.Go(func() {
		defer close(done)
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.meant {
			p.strange = append(p.strange, fmt.Errorf("%s ended by itself: %w; see %s", p.name, errors.Join(err, errEnded), p.log))
		}
	})
	return nil
}

var errEnded = errors.New("nobody asked for it")

// kill ends the program at once, and returns when it has gone.
func (p *program) kill() {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.meant = true
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	<-done
}

// drain asks the program to end and returns when it has gone. One that has not
// within limit is killed, and that is one of its surprises.
func (p *program) drain(limit time.Duration) {
	p.mu.Lock()
	done := p.done
	p.meant = true
	p.mu.Unlock()
	p.signal(syscall.SIGTERM)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		p.kill()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.strange = append(p.strange, fmt.Errorf("%s did not end within %s of SIGTERM; see %s", p.name, limit, p.log))
	}
}

// signal sends a signal to the program, if it runs.
func (p *program) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(p.cmd.Process.Pid, s)
	}
}

// surprises returns how the program ended without having been asked to.
func (p *program) surprises() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.strange...)
}

// forker starts processes from one thread.
type forker struct {
	work    chan func()
	ended   chan struct{}
	waiting sync.WaitGroup
}

func newForker() *forker {
	f := &forker{work: make(chan func()), ended: make(chan struct{})}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(f.ended)
		for w := range f.work {
			w()
		}
	}()
	return f
}

func (f *forker) start(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	f.work <- func() { started <- cmd.Start() }
	return <-started
}

// close waits until all processes have ended; somebody must have ended them.
func (f *forker) close() {
	f.waiting.Wait()
	close(f.work)
	<-f.ended
}

// build makes the services as their users have them, into a folder.
func build(ctx context.Context, dir string, services []string) error {
	args := []string{"build", "-trimpath", "-buildvcs=false", "-o", dir + string(os.PathSeparator)}
	for _, s := range services {
		args = append(args, "berth/services/"+s)
	}
	command := exec.CommandContext(ctx, "go", args...)
	if text, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build the services: %w: %s", err, text)
	}
	return nil
}
