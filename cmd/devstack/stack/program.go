package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"berth/pkg/kube/kubetest/proc"
	"berth/pkg/service"
)

// The pauses before a process that has ended is started again: the first, and,
// doubled each time, the longest. One that ran for longer begins anew.
const (
	firstPause = 500 * time.Millisecond
	mostPause  = 8 * time.Second
)

// program is a replica as a process of its own. When the process ends it is
// started again, as Kubernetes would.
type program struct {
	starter *proc.Starter
	spec    proc.Spec
	say     func(format string, args ...any)

	process     atomic.Pointer[proc.Process]
	stop, ended chan struct{}
	once        sync.Once
	never       chan struct{} // It does not stop by itself.
}

// projectsVariable adds to what the configuration's file says of projects.
const projectsVariable = "BACKEND_PROJECTS"

// notes is the folder that says which processes run.
func (s *Stack) notes() string { return filepath.Join(s.opts.Data, "processes") }

// program returns a replica of a service that is not started.
func (s *Stack) program(starter *proc.Starter, name string, n int, listen string) *program {
	args := []string{"--listen", listen}
	if s.opts.ConfigFile != "" {
		args = append(args, "--config", s.opts.ConfigFile)
	}
	env := append(os.Environ(),
		"KUBECONFIG="+s.Kubeconfig, "DATABASE_URL="+s.DatabaseURL,
		"BACKEND_WHITELISTMANIFESTREGEX="+s.opts.Config.WhitelistManifestRegex.String(),
		"BACKEND_NFSSTORAGEROOT="+s.opts.Config.NFSStorageRoot, "BACKEND_INGRESSDOMAIN="+s.opts.Config.IngressDomain,
		"LOG_LEVEL="+s.opts.Log.GetLevel().String(),
	)
	if s.tokenFile() != "" {
		env = append(env, "BACKEND_ADMINTOKENHASH="+s.adminText)
	}
	if os.Getenv(projectsVariable) == "" {
		env = append(env, fmt.Sprintf("%s={image: %q, tag: %q}", projectsVariable, s.opts.Config.Projects.Image, s.opts.Config.Projects.Tag))
	}
	if s.nats != nil {
		env = append(env, "NATS_URL="+s.nats.ClientURL(), "NATS_USER="+name, "NATS_PASSWORD="+s.password(name))
	} else {
		env = append(env, "NATS_URL="+s.NATSURL)
	}
	replica := fmt.Sprintf("%s-%d", name, n+1)
	return &program{
		starter: starter, say: s.say,
		spec: proc.Spec{
			Name: replica, Path: filepath.Join(s.opts.Processes, name), Args: args, Env: env,
			Note: filepath.Join(s.notes(), replica+".json"),
		},
		stop: make(chan struct{}), ended: make(chan struct{}), never: make(chan struct{}),
	}
}

// Start starts the process, and what starts it again.
func (p *program) Start(context.Context) error {
	if err := os.MkdirAll(filepath.Dir(p.spec.Note), 0o700); err != nil {
		return fmt.Errorf("make the folder of the processes: %w", err)
	}
	process, err := p.starter.Start(p.spec)
	if err != nil {
		return err
	}
	p.process.Store(process)
	go p.supervise(process)
	return nil
}

// Signal sends a signal to a replica that is a process of its own: api-1 is the
// first one of the api. It returns false where there is none.
func (s *Stack) Signal(replica string, signal syscall.Signal) bool {
	for _, p := range s.programs {
		if p.spec.Name == replica {
			return p.process.Load().Signal(signal)
		}
	}
	return false
}

// supervise starts the process again whenever it has ended, until Stop.
func (p *program) supervise(process *proc.Process) {
	defer close(p.ended)
	delay := firstPause
	for {
		begun := time.Now()
		select {
		case <-p.stop:
			_ = process.Stop(service.StopBudget) // What does not end is killed by its Starter.
			return
		case <-process.Done():
		}
		if time.Since(begun) > mostPause {
			delay = firstPause
		}
		p.say("%v; starting it again in %s", process.Err(), delay)
		for process = nil; process == nil; delay = min(2*delay, mostPause) {
			select {
			case <-p.stop:
				return
			case <-time.After(delay):
			}
			var err error
			if process, err = p.starter.Start(p.spec); err != nil {
				p.say("%v; trying again", err)
				continue
			}
			p.process.Store(process)
		}
	}
}

// Stop lets the process finish what it does.
func (p *program) Stop(ctx context.Context) error {
	p.once.Do(func() { close(p.stop) })
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop %s: %w", p.spec.Name, context.Cause(ctx))
	}
}

// Draining is never closed.
func (p *program) Draining() <-chan struct{} { return p.never }
