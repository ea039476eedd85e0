package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"berth/pkg/kube/kubetest/proc"
	"berth/test/programs"
)

// program is a child process that can be killed, paused and started again. It
// dies with this process. It is safe for concurrent use.
type program struct {
	spec    proc.Spec
	starter *proc.Starter

	mu      sync.Mutex
	process *proc.Process
	meant   bool // The end of the process that runs was asked for.
	ends    sync.WaitGroup
	strange []error
}

// start starts the program; it must not run.
func (p *program) start() error {
	process, err := p.starter.Start(p.spec)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.process, p.meant = process, false
	p.mu.Unlock()
	p.ends.Go(func() {
		<-process.Done()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.process == process && !p.meant {
			p.strange = append(p.strange, fmt.Errorf("%w: %w", errEnded, cmp.Or(process.Err(), errClean)))
		}
	})
	return nil
}

var (
	errEnded = errors.New("a process ended by itself")
	errClean = errors.New("with exit code 0")
)

// kill ends the program at once, and returns when it has gone.
func (p *program) kill() { p.stop(0) }

// drain asks the program to end and returns when it has gone. One that has not
// within limit is killed, and that is one of its surprises.
func (p *program) drain(limit time.Duration) {
	begun := time.Now()
	p.stop(limit)
	if took := time.Since(begun); took >= limit {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.strange = append(p.strange, fmt.Errorf("%s did not end within %s of SIGTERM; see %s", p.spec.Name, limit, p.spec.Log))
	}
}

// stop ends the program, which gets as much time as grace.
func (p *program) stop(grace time.Duration) {
	p.mu.Lock()
	process := p.process
	p.meant = true
	p.mu.Unlock()
	if process == nil {
		return
	}
	if err := process.Stop(grace); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.strange = append(p.strange, err)
	}
}

// signal sends a signal to the program, if it runs.
func (p *program) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.process.Signal(s)
}

// surprises returns how the program ended without having been asked to. It must
// not run any more.
func (p *program) surprises() error {
	p.ends.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.strange...)
}

// build makes the services as their users have them, into a folder.
func build(ctx context.Context, dir string, services []string) error {
	var packages []string
	for _, s := range services {
		packages = append(packages, "berth/services/"+s)
	}
	if err := programs.Build(ctx, dir, packages...); err != nil {
		return fmt.Errorf("%w\nRun it in a checkout of Berth, or say with --bin where they are", err)
	}
	return nil
}
