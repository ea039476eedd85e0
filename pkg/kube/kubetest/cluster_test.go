package kubetest

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"

	"berth/pkg/kube/kubetest/proc"
)

// TestSecondCluster runs a cluster beside the shared one, with everything on that is off by default, and then breaks it.
func TestSecondCluster(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	first := shared.Cluster(t)
	dir := t.TempDir()
	second, err := Start(ctx, Options{Dir: dir, Nodes: 3, Durable: true, Exec: true, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := second.Stop(); err != nil {
			t.Error(err)
		}
	})
	if first.URL == second.URL {
		t.Fatalf("both clusters are at %s", first.URL)
	}
	config, err := clientcmd.BuildConfigFromFlags("", second.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(second.Kubeconfig); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v, %v; want mode 0600", info, err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 3 {
		t.Errorf("%d nodes, %v; want 3", len(nodes.Items), err)
	}
	pod := createPod(ctx, t, client, "default", "")
	updates := watchPod(ctx, t, client, pod)
	for look(pod) != "Running running ready" {
		_, pod = next(ctx, t, updates)
	}
	if got := execIn(ctx, t, config, client, pod, "pwd"); got != os.TempDir()+"\n" {
		t.Errorf("pwd in the pod says %q", got)
	}
	if uid := execIn(ctx, t, config, client, pod, "id", "-u"); uid == "0\n" {
		t.Error("exec runs as root")
	}
	crash(ctx, t, second, client, pod)
	kill(t, filepath.Join(dir, notesDir, "kwok.json"))
	if err := second.Wait(ctx); err == nil || !strings.Contains(err.Error(), "kwok: signal: killed") {
		t.Errorf("after the death of kwok, Wait says %v", err)
	}
}

// crash kills the API server and starts it again, twice. It is back with its data, at the same address, and the cluster counts as whole.
func crash(ctx context.Context, t *testing.T, c *Cluster, client kubernetes.Interface, pod *corev1.Pod) {
	t.Helper()
	for range 2 {
		if err := errors.Join(c.KillAPIServer(), c.KillAPIServer()); err != nil {
			t.Error(err)
		}
		if _, err := client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{}); err == nil {
			t.Error("an API server that was killed answers")
		}
		if err := c.StartAPIServer(ctx); err != nil {
			t.Fatal(err)
		}
		after, err := client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil || after.UID != pod.UID {
			t.Errorf("after a crash: pod %s, %v", after.UID, err)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.Wait(ended); err != nil {
		t.Errorf("Wait after a crash that was meant: %v", err)
	}
}

func execIn(ctx context.Context, t *testing.T, config *rest.Config, client kubernetes.Interface, pod *corev1.Pod, command ...string) string {
	t.Helper()
	request := client.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: "main", Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(config, "GET", request.URL().String())
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr}); err != nil {
		t.Fatalf("exec %v: %v, %s", command, err, &stderr)
	}
	return stdout.String()
}

// TestRestart: a program that dies is started again, and the cluster goes on.
func TestRestart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	dir := t.TempDir()
	c, err := Start(ctx, Options{Dir: dir, Nodes: 1, Restart: true, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	client, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kube-scheduler", "kwok"} {
		kill(t, filepath.Join(dir, notesDir, name+".json"))
	}
	pod := createPod(ctx, t, client, "default", "")
	updates := watchPod(ctx, t, client, pod)
	for look(pod) != "Running running ready" {
		_, pod = next(ctx, t, updates)
	}
	ended, end := context.WithCancel(ctx)
	end()
	if err := c.Wait(ended); err != nil {
		t.Errorf("Wait: %v", err)
	}
}

// TestKilledParent kills the process that started a cluster. Nothing may be left of it, and the next start must find its data.
func TestKilledParent(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	dir := t.TempDir()
	cmd := startParent(ctx, t, dir)

	if _, err := Start(ctx, Options{Dir: dir}); !errors.Is(err, ErrInUse) {
		t.Errorf("start in a folder in use: %v, want %v", err, ErrInUse)
	}
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, kubeconfigFile))
	if err != nil {
		t.Fatal(err)
	}
	before, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	pod := createPod(ctx, t, before, "default", "")

	pids := notedPIDs(t, dir)
	if len(pids) != 5 {
		t.Errorf("%d programs are noted, want 5", len(pids))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Its end by SIGKILL is an error by definition.
	_ = cmd.Wait()
	wantNoProcess(ctx, t, pids)

	again, err := Start(ctx, Options{Dir: dir, Nodes: 2, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := again.Stop(); err != nil {
			t.Error(err)
		}
		if err := again.Stop(); err != nil {
			t.Errorf("stop again: %v", err)
		}
		if err := again.Wait(context.WithoutCancel(ctx)); err != nil {
			t.Errorf("wait after stop: %v", err)
		}
	})
	client := newClient(t, again)
	err = poll(ctx, func(ctx context.Context) error {
		kept, err := client.CoreV1().Pods("default").Get(ctx, pod.Name, metav1.GetOptions{})
		if err == nil && look(kept) != "Running running ready" {
			err = errors.New(look(kept))
		}
		return err
	})
	if err != nil {
		t.Errorf("the pod of the first run: %v", err)
	}
}

// startParent runs this test binary as the owner of a cluster and returns when the cluster is ready.
func startParent(ctx context.Context, t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), parentVariable+"="+dir)
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the parent says %q, %v", line, err)
	}
	return cmd
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script string
		want   string
		tries  int
	}{
		"a program ends":        {script: "echo no space left >&2; exit 3", want: "no space left", tries: 1},
		"a port is taken":       {script: "echo listen: address already in use >&2; exit 1", want: "address already in use", tries: startTries},
		"a program ends with 0": {script: "exit 0", want: "ended by itself", tries: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts, err := Options{Dir: t.TempDir()}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			_, err = startClaimed(t.Context(), opts, fakePrograms(t, "echo >>started\n"+tt.script))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("start: %v, want an error with %q", err, tt.want)
			}
			// Etcd and the API server start together; the first to end ends the other.
			started, err := os.ReadFile(filepath.Join(opts.Dir, "started"))
			if n := len(started); err != nil || n < tt.tries || n > 2*tt.tries {
				t.Errorf("%d programs were started, %v; want %d tries", n, err, tt.tries)
			}
			if pids := notedPIDs(t, opts.Dir); len(pids) > 0 {
				t.Errorf("programs %v are still noted", pids)
			}
		})
	}
}

// fakePrograms returns a script for every program.
func fakePrograms(t *testing.T, script string) Paths {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fake")
	// Another process writes it: what this one has open for writing, a child that is just being forked has open too, and cannot be started.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `cat >"$1" && chmod 700 "$1"`, "sh", path)
	cmd.Stdin = strings.NewReader("#!/bin/sh\n" + script)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return Paths{Etcd: path, APIServer: path, ControllerManager: path, Scheduler: path, Kwok: path}
}

// TestStartCancelled cancels a start as soon as the first programs run.
func TestStartCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	_, err := Start(ctx, Options{Dir: dir, Progress: writerFunc(cancel)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("start: %v, want %v", err, context.Canceled)
	}
	if pids := notedPIDs(t, dir); len(pids) > 0 {
		t.Errorf("programs %v are still noted", pids)
	}
	lock, err := proc.Claim(dir, 0o700, ErrInUse)
	if err != nil {
		t.Fatalf("the folder is not free again: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
}

// writerFunc is called for every line of progress.
type writerFunc func()

func (f writerFunc) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]Options{"no folder": {}, "negative nodes": {Dir: "x", Nodes: -1}} {
		if _, err := Start(t.Context(), opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func notedPIDs(t *testing.T, dir string) []int {
	t.Helper()
	notes, err := filepath.Glob(filepath.Join(dir, notesDir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, path := range notes {
		pids = append(pids, notedPID(t, path))
	}
	return pids
}

func notedPID(t *testing.T, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), `"pid":`)
	number, _, _ := strings.Cut(rest, ",")
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("note %s: %v", data, err)
	}
	return pid
}

func kill(t *testing.T, note string) {
	t.Helper()
	if err := syscall.Kill(notedPID(t, note), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// wantNoProcess waits until none of the processes runs. One that nobody reaps stays as a zombie, which has no command line.
func wantNoProcess(ctx context.Context, t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		err := poll(ctx, func(context.Context) error {
			cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
			if err == nil && len(cmdline) > 0 {
				return errors.New(strings.ReplaceAll(string(cmdline), "\x00", " "))
			}
			return nil
		})
		if err != nil {
			t.Errorf("process %d is left: %v", pid, err)
		}
	}
}
