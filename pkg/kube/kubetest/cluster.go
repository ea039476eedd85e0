package kubetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"

	"berth/pkg/kube/kubetest/proc"
)

const (
	defaultNodes = 10
	// startTimeout is for a busy machine; an idle one with 2 cores takes 5 s.
	startTimeout = 2 * time.Minute
	// startTries is how often a start is repeated with other ports, after somebody else took one between our choice and our use of it.
	startTries = 3
	// stopGrace is what a program gets after SIGTERM, so that a stop takes 6 s at most; usually it takes less than one.
	stopGrace = 2 * time.Second
)

// ErrInUse says that a cluster runs in the folder.
var ErrInUse = errors.New("a cluster is running in this folder")

// errStopped is the cause when Stop ended the cluster.
var errStopped = errors.New("cluster stopped")

// Options configure a cluster. Only Dir is required.
type Options struct {
	// Dir is the folder of the cluster; it is made if missing. Everything is in it: data, certificates, kubeconfig, and logs/<program>.log.
	Dir string
	// Nodes is how many nodes there are at least, 10 if zero. A folder keeps the nodes that it has.
	Nodes int
	// Progress gets lines for a person; none if nil.
	Progress io.Writer
	// Durable makes etcd wait for the disk at every write, as in production. Without it data survives the death of every
	// process, but not that of the machine.
	Durable bool
	// Exec makes exec into a pod run the command on this machine, in os.TempDir, as nobody if this process is root. Every user of this
	// machine can then run commands in the name of this one, since KWOK asks for no credentials. Without it exec fails.
	Exec bool
	// Restart starts a program again that ended by itself, as a kubelet does. The scheduler, for one, ends when a death of the API server has left it
	// in doubt. Without it, the end of a program is the end of the cluster's life.
	Restart bool
}

// Cluster is a running Kubernetes. Its methods are safe for concurrent use.
type Cluster struct {
	// Kubeconfig is the path of a kubeconfig file with all rights that only this user can read.
	Kubeconfig string
	// URL is the address of the API server.
	URL string

	config   *rest.Config
	lock     *os.File
	starter  *proc.Starter
	dir      string
	restart  bool
	api      program // The API server, for those who kill and start it again.
	mu       sync.Mutex
	programs [][]*proc.Process      // What is started and stopped together, in the order of the start.
	killed   map[*proc.Process]bool // Whose end is no failure of the cluster.
	watchers sync.WaitGroup
	ended    chan struct{} // Closed at the end of the first program that ends by itself, or by Stop.
	cause    error         // Which of them; written before ended is closed.
	end      sync.Once
	stop     sync.Once
	stopErr  error
}

// Start starts a cluster and returns when pods can be created: the API server and the nodes are ready, and the default service
// account exists. It builds the programs first where needed (see Binaries), which takes minutes; the rest takes about 5 s.
// ctx bounds the start, not the life of the cluster. The caller must call Stop.
//
// A folder can be started again later, with its data, but another address and other credentials. What a killed process
// left running there is ended first. The error is ErrInUse if a cluster runs there; if a program does not start it
// shows the end of its log.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	paths, err := Binaries(ctx, opts.Progress)
	if err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	lock, err := proc.Claim(opts.Dir, 0o700, ErrInUse)
	if err != nil {
		return nil, fmt.Errorf("start cluster in %s: %w", opts.Dir, err)
	}
	c, err := startClaimed(ctx, opts, paths)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster in %s: %w", opts.Dir, err), lock.Close())
	}
	c.lock = lock
	return c, nil
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("Dir must not be empty")
	}
	if o.Nodes < 0 {
		return o, fmt.Errorf("Nodes must not be negative: %d", o.Nodes)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, err
	}
	o.Dir = dir
	if o.Nodes == 0 {
		o.Nodes = defaultNodes
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	return o, nil
}

func startClaimed(ctx context.Context, opts Options, paths Paths) (*Cluster, error) {
	if err := proc.EndLeftovers(filepath.Join(opts.Dir, notesDir)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready within %s", startTimeout))
	defer cancel()
	var errs []error
	for range startTries {
		c, err := launch(ctx, opts, paths)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
		if !strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// RESTConfig returns a configuration for clients with all rights and no limit of requests. The caller may change it.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.config) }

// Wait returns nil when the cluster has been stopped or ctx ends, and an error with the end of its log when a program
// ended by itself. What else runs goes on until Stop.
func (c *Cluster) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-c.ended:
	}
	if !errors.Is(c.cause, errStopped) {
		return fmt.Errorf("cluster failed: %w", c.cause)
	}
	return nil
}

func (c *Cluster) endLife(cause error) {
	c.end.Do(func() {
		c.cause = cause
		close(c.ended)
	})
}

// Stop ends every program, in reverse order, and gives the folder back. It takes less than a second, or up to 6 s if programs do not obey, which
// are then killed. The error says what could not be ended. Further calls wait for the first and return the same.
func (c *Cluster) Stop() error {
	c.stop.Do(func() {
		c.endLife(errStopped)
		c.mu.Lock()
		all := slices.Clone(c.programs)
		c.mu.Unlock()
		for _, programs := range slices.Backward(all) {
			c.stopErr = errors.Join(c.stopErr, stopAll(programs))
		}
		c.stopErr = errors.Join(c.stopErr, c.starter.Close())
		c.watchers.Wait()
		if c.lock != nil {
			c.stopErr = errors.Join(c.stopErr, c.lock.Close())
		}
	})
	return c.stopErr
}

func stopAll(programs []*proc.Process) error {
	errs := make([]error, len(programs))
	var wg sync.WaitGroup
	for i, p := range programs {
		wg.Go(func() { errs[i] = p.Stop(stopGrace) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
