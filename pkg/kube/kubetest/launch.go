package kubetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"berth/pkg/kube/kubetest/proc"
)

const (
	notesDir = "run"
	logsDir  = "logs"
	// readyPoll is how often a start looks whether the next thing is ready.
	readyPoll = 25 * time.Millisecond
	// restartPause keeps a program that ends at once from being started without end.
	restartPause = 200 * time.Millisecond
)

// launch starts the programs on new ports. When it fails nothing runs.
func launch(ctx context.Context, opts Options, paths Paths) (_ *Cluster, err error) {
	begin := time.Now()
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	var execPort string
	if opts.Exec {
		if execPort, err = freePort(); err != nil {
			return nil, err
		}
	}
	c := &Cluster{
		Kubeconfig: filepath.Join(opts.Dir, kubeconfigFile), URL: "https://127.0.0.1:" + port,
		starter: proc.NewStarter(), ended: make(chan struct{}), dir: opts.Dir, killed: map[*proc.Process]bool{}, restart: opts.Restart,
	}
	// A program that ends during the start ends the start.
	ctx, cancel := context.WithCancelCause(ctx)
	started := make(chan struct{})
	c.watchers.Go(func() {
		select {
		case <-started:
		case <-c.ended:
			cancel(c.cause)
		}
	})
	defer func() {
		close(started)
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
		cancel(nil)
	}()

	f := layout()
	if c.config, err = credentials(opts, f, c.URL, begin); err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	fmt.Fprintf(opts.Progress, "starting Kubernetes %s in %s\n", kubernetesVersion, opts.Dir)
	if err := c.run(opts.Dir, program{"etcd", paths.Etcd, etcdArgs(opts.Durable)}); err != nil {
		return nil, err
	}
	c.api = program{"kube-apiserver", paths.APIServer, apiServerArgs(f, port)}
	if err := c.run(opts.Dir, c.api); err != nil {
		return nil, err
	}
	if err := serving(ctx, client); err != nil {
		return nil, fmt.Errorf("wait for kube-apiserver: %w", err)
	}
	if err := ensureNodes(ctx, client, opts.Nodes, execPort); err != nil {
		return nil, err
	}
	if err := c.run(opts.Dir,
		program{"kube-controller-manager", paths.ControllerManager, controllerManagerArgs(f)},
		program{"kube-scheduler", paths.Scheduler, schedulerArgs(f)},
		program{"kwok", paths.Kwok, kwokArgs(f, execPort)},
	); err != nil {
		return nil, err
	}
	nodes, err := usable(ctx, client)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(opts.Progress, "Kubernetes is ready at %s with %d nodes after %s\n", c.URL, nodes, time.Since(begin).Round(100*time.Millisecond))
	return c, nil
}

// freePort returns a port that nobody listened on a moment ago.
func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // Returns at once.
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err := errors.Join(err, listener.Close()); err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return port, nil
}

type program struct {
	name, path string
	args       []string
}

// run starts programs that are stopped together. When one of them ends by itself, so does the life of the cluster, unless it is started again.
func (c *Cluster) run(dir string, programs ...program) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.ended:
		return fmt.Errorf("start %s: the cluster is at its end: %w", programs[0].name, c.cause)
	default:
	}
	c.programs = append(c.programs, nil)
	for _, p := range programs {
		process, err := c.starter.Start(proc.Spec{
			Name: p.name, Path: p.path, Args: p.args, Dir: dir,
			Log: filepath.Join(dir, logsDir, p.name+".log"), Note: filepath.Join(dir, notesDir, p.name+".json"),
			// Nothing else: etcd takes options from the environment, and KWOK from a file in the home folder.
			Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir},
		})
		if err != nil {
			return err
		}
		last := len(c.programs) - 1
		c.programs[last] = append(c.programs[last], process)
		c.watchers.Go(func() { c.watch(dir, p, process) })
	}
	return nil
}

// watch waits for the end of a program and sees to what follows from it.
func (c *Cluster) watch(dir string, p program, process *proc.Process) {
	err := process.Err()
	c.mu.Lock()
	meant := c.killed[process]
	c.mu.Unlock()
	switch {
	case meant:
		return
	case c.restart:
		pause := time.NewTimer(restartPause)
		defer pause.Stop()
		select {
		case <-c.ended:
			return
		case <-pause.C:
		}
		if err = c.run(dir, p); err == nil {
			return
		}
	case err == nil:
		err = fmt.Errorf("%s ended by itself", p.name)
	}
	c.endLife(err)
}

// serving waits until the API server is ready.
func serving(ctx context.Context, client kubernetes.Interface) error {
	return poll(ctx, func(ctx context.Context) error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// usable waits until pods can be created and run, and returns the number of nodes.
func usable(ctx context.Context, client kubernetes.Interface) (int, error) {
	if err := accountExists(ctx, client, metav1.NamespaceDefault); err != nil {
		return 0, fmt.Errorf("wait for the default service account: %w", err)
	}
	var nodes int
	err := poll(ctx, func(ctx context.Context) error {
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		nodes = len(list.Items)
		for _, node := range list.Items {
			if !nodeReady(node) {
				return fmt.Errorf("node %s is not ready", node.Name)
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("wait for the nodes: %w", err)
	}
	return nodes, nil
}

// accountExists waits for the service account without which no pod can be created in a namespace.
func accountExists(ctx context.Context, client kubernetes.Interface, namespace string) error {
	return poll(ctx, func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

func nodeReady(node corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue && len(node.Spec.Taints) == 0
		}
	}
	return false
}

// poll repeats try until it succeeds. When ctx ends first the error has the cause and what try said last.
func poll(ctx context.Context, try func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, readyPoll, true, func(ctx context.Context) (bool, error) {
		last = try(ctx)
		return last == nil, nil
	})
	switch {
	case err == nil:
		return nil
	case last == nil:
		return context.Cause(ctx)
	default:
		return fmt.Errorf("%w (%w)", context.Cause(ctx), last)
	}
}
