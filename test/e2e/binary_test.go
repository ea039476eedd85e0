package e2e

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth/pkg/events/natsbus"
	"berth/test/programs"
)

// build makes devstack and the services as their users have them. It comes before
// the tests, which a compiler beside them would slow down.
func build(ctx context.Context, dir string) (devstack string, err error) {
	packages := []string{"berth/cmd/devstack"}
	for _, service := range all() {
		packages = append(packages, "berth/services/"+service)
	}
	return filepath.Join(dir, "devstack"), programs.Build(ctx, dir, packages...)
}

// process is a devstack that runs.
type process struct {
	*exec.Cmd
	data   string
	stdout *bufio.Reader
	stderr *lines
	ended  chan error
}

// lines is what a process says, line by line; a test can wait for a line.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// run starts devstack. Whatever becomes of the test, it does not outlive it.
func run(t *testing.T, data string, args ...string) *process {
	t.Helper()
	p := &process{data: data, stderr: &lines{}, ended: make(chan error, 1)}
	p.Cmd = exec.CommandContext(context.WithoutCancel(t.Context()), shared.devstack, append([]string{"--listen", "127.0.0.1:0", "--data", data}, args...)...)
	p.Env = append(os.Environ(), "LOG_LEVEL=warn")
	p.Stderr = p.stderr
	// A pipe of our own: Wait closes that of StdoutPipe before it has been read.
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout, p.stdout = in, bufio.NewReader(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	go func() { p.ended <- p.Wait() }()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = out.Close()
		if t.Failed() {
			t.Logf("devstack %v said:\n%s", args, p.stderr)
		}
	})
	return p
}

// ready waits for the line on stdout, and returns the site that it names.
func (p *process) ready(t *testing.T) *site {
	t.Helper()
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("no line on stdout: %v\n%s", err, p.stderr)
	}
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if !ok {
		t.Fatalf("stdout = %q, want ready and a URL", line)
	}
	env, err := os.ReadFile(filepath.Join(p.data, "env"))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(env)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		values[name] = strings.Trim(value, "'")
	}
	if values["BERTH_URL"] != url {
		t.Errorf("%s/env says %q, stdout %q", p.data, values["BERTH_URL"], url)
	}
	return &site{URL: url, ManifestsURL: values["MANIFESTS"], namespace: "berth", cluster: "main", log: natsbus.Options{URL: values["NATS_URL"]}}
}

// says waits for a text on stderr.
func (p *process) says(t *testing.T, text string) {
	t.Helper()
	eventually(t, "devstack says "+text, func() bool { return strings.Contains(p.stderr.String(), text) })
}

// exit waits for the end of the process and returns its exit code, -1 for one
// that was killed.
func (p *process) exit(t *testing.T) int {
	t.Helper()
	receive(t, "the end of devstack", p.ended)
	return p.ProcessState.ExitCode()
}

// signalled sends a signal, and sees to it that devstack ends cleanly in time.
func (p *process) signalled(t *testing.T, s syscall.Signal) {
	t.Helper()
	begun := time.Now()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d after %s, want 0\n%s", code, s, p.stderr)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s to end after %s", took, s)
	}
	p.alone(t)
}

// alone sees to it that no process is left that works in the data folder. After
// the death of its parent the kernel ends one within moments.
func (p *process) alone(t *testing.T) {
	t.Helper()
	var left []string
	eventually(t, "no process is left", func() bool {
		left = nil
		commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range commands {
			text, err := os.ReadFile(path)
			if err != nil {
				continue // It has ended meanwhile.
			}
			cwd, _ := os.Readlink(filepath.Join(filepath.Dir(path), "cwd"))
			if strings.Contains(string(text), p.data) || strings.HasPrefix(cwd, p.data) {
				left = append(left, strings.ReplaceAll(string(text), "\x00", " "))
			}
		}
		return len(left) == 0
	})
}

func TestDevstackUsage(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	nonsense, typo := write("kubeconfig", "nonsense"), write("config.yaml", "timeoutCreat: 5s\nnamespace: No_Name\n")
	nowhere := write("kubeconfig", `{"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}], "contexts": [{"name": "c", "context": {"cluster": "c"}}]}`)
	tests := map[string]struct {
		args   []string
		code   int
		stdout string
		stderr []string
	}{
		"help":                 {[]string{"--help"}, 0, "devstack: all of Berth on this machine", nil},
		"version":              {[]string{"--version"}, 0, "devstack ", nil},
		"a wrong flag":         {[]string{"--port", "1"}, 2, "", []string{"-port", "Try devstack --help."}},
		"an argument":          {[]string{"up"}, 2, "", []string{`"up"`}},
		"everybody may call":   {[]string{"--listen", "0.0.0.0:0"}, 2, "", []string{"--listen", "loopback"}},
		"no address":           {[]string{"--listen", "8080"}, 2, "", []string{"--listen", "127.0.0.1:8080"}},
		"a port in use":        {[]string{"--listen", taken.Addr().String()}, 1, "", []string{taken.Addr().String(), "choose another address with --listen"}},
		"a missing kubeconfig": {[]string{"--kubeconfig", "/nowhere"}, 2, "", []string{"--kubeconfig", "/nowhere"}},
		"a wrong kubeconfig":   {[]string{"--kubeconfig", nonsense}, 1, "", []string{nonsense}},
		"no API server":        {[]string{"--kubeconfig", nowhere}, 1, "", []string{nowhere, "127.0.0.1:1"}},
		"no URL of NATS":       {[]string{"--nats-url", "4222"}, 2, "", []string{"--nats-url", "nats://127.0.0.1:4222"}},
		"no NATS":              {[]string{"--nats-url", "nats://127.0.0.1:1"}, 1, "", []string{"--nats-url", "no servers available"}},
		"a missing config":     {[]string{"--config", "/nowhere.yaml"}, 2, "", []string{"/nowhere.yaml"}},
		"a wrong config":       {[]string{"--config", typo}, 2, "", []string{"timeoutCreate", "No_Name"}},
		"missing manifests":    {[]string{"--manifests", "/nowhere"}, 2, "", []string{"--manifests", "/nowhere"}},
		"a file for a folder":  {[]string{"--data", nonsense}, 1, "", []string{nonsense}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := run(t, filepath.Join(t.TempDir(), "data"), tc.args...)
			stdout, err := io.ReadAll(p.stdout)
			if err != nil {
				t.Fatal(err)
			}
			if code := p.exit(t); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if !strings.HasPrefix(string(stdout), tc.stdout) || tc.stdout == "" && len(stdout) > 0 {
				t.Errorf("stdout = %q, want %q…", stdout, tc.stdout)
			}
			for _, want := range tc.stderr {
				if !strings.Contains(p.stderr.String(), want) {
					t.Errorf("stderr = %q, want …%s…", p.stderr, want)
				}
			}
			p.alone(t)
		})
	}
}

// TestDevstackLives: it starts, does its job, stops when it is told to, leaves
// nothing behind even when it is killed, and finds what it had the next time.
func TestDevstackLives(t *testing.T) {
	t.Parallel()
	const user = "lena@devstack.org"
	data := filepath.Join(t.TempDir(), "data")
	p := run(t, data)
	s := p.ready(t)
	pod := s.create(t, user, "notebook")
	if !s.ready(t, user, pod) {
		t.Error("not ready")
	}

	second := run(t, data)
	if code := second.exit(t); code != 1 || !strings.Contains(second.stderr.String(), "another devstack uses "+data) {
		t.Errorf("a second one in the same folder: exit code %d\n%s", code, second.stderr)
	}
	if !s.ready(t, user, pod) {
		t.Error("the second one did harm")
	}

	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.exit(t)
	p.alone(t)
	p = run(t, data)
	s = p.ready(t)
	pods := s.list(t, user)
	if len(pods) != 1 || pods[0].Name != pod || pods[0].Event != "ready" || !s.ready(t, user, pod) {
		t.Errorf("after a kill and a start: %+v", pods)
	}
	s.remove(t, user, pod)
	if a := s.ask(t, "watch_delete_pod", map[string]any{"user_id": user, "pod_name": pod}); !a.Deleted {
		t.Errorf("watch_delete_pod: %d %s", a.Status, a.Text)
	}
	p.signalled(t, syscall.SIGTERM)
}

// TestDevstackInterrupted while it starts.
func TestDevstackInterrupted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		moment string
		args   []string
	}{
		"before the cluster runs":        {"starting Kubernetes", nil},
		"while the services are started": {"starting the services", []string{"--kubeconfig", shared.stack.Kubeconfig, "--config", "testdata/other.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := run(t, filepath.Join(t.TempDir(), "data"), tc.args...)
			p.says(t, tc.moment)
			p.signalled(t, syscall.SIGINT)
		})
	}
}
