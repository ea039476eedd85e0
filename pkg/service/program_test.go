package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"berth/pkg/service/config"
)

// outcome is what a program has done.
type outcome struct {
	code           int
	stdout, stderr string
}

// runProgram calls the program with arguments, variables and signals.
func runProgram(p Program, args []string, env map[string]string, signals <-chan os.Signal) outcome {
	var stdout, stderr strings.Builder
	environ := make([]string, 0, len(env))
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	code := p.main(call{
		args: args, environ: environ, getenv: func(name string) string { return env[name] },
		stdout: &stdout, stderr: &stderr, signals: signals,
	})
	return outcome{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

func TestProgramCommandLine(t *testing.T) {
	t.Parallel()
	faulty := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(faulty, []byte("namespace: Berth\nreplicas: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args       []string
		env        map[string]string
		wantCode   int
		wantStdout string
		wantStderr string
	}{
		"version":            {args: []string{"--version"}, wantStdout: "creator " + Version() + " go1."},
		"help":               {args: []string{"--help"}, wantStdout: "creator: makes pods\n\nUsage: creator [flags]\n"},
		"help names default": {args: []string{"-h"}, wantStdout: "(default 127.0.0.1:8080; port 0"},
		"unknown flag":       {args: []string{"--nope"}, wantCode: ExitUsage, wantStderr: "creator: flag provided but not defined: -nope\nTry creator --help.\n"},
		"argument":           {args: []string{"start"}, wantCode: ExitUsage, wantStderr: "creator: unexpected argument \"start\"\nTry creator --help.\n"},
		"missing file":       {args: []string{"--config", faulty + "x"}, wantCode: ExitUsage, wantStderr: "creator: the configuration has faults:\n" + faulty + "x: cannot be read: "},
		"faults": {
			args: []string{"--config", faulty}, env: map[string]string{"BACKEND_CLUSTER": "a.b"}, wantCode: ExitUsage,
			wantStderr: "creator: the configuration has faults:\n" + faulty + ":1: namespace: ",
		},
		"two passwords": {
			env: map[string]string{"NATS_PASSWORD": "hidden", "NATS_PASSWORD_FILE": faulty}, wantCode: ExitUsage,
			wantStderr: "creator: NATS_PASSWORD and NATS_PASSWORD_FILE are both set: keep one\n",
		},
		"no password": {
			env: map[string]string{"NATS_USER": "creator"}, wantCode: ExitUsage,
			wantStderr: "creator: NATS_USER is set without a password: set NATS_PASSWORD or NATS_PASSWORD_FILE\n",
		},
		"no file with a password": {
			env: map[string]string{"NATS_PASSWORD_FILE": faulty + "x"}, wantCode: ExitUsage, wantStderr: "creator: NATS_PASSWORD_FILE: open ",
		},
		"empty file with a password": {
			env: map[string]string{"NATS_PASSWORD_FILE": os.DevNull}, wantCode: ExitUsage,
			wantStderr: "creator: NATS_PASSWORD_FILE: /dev/null must hold one password, of at most 4096 bytes\n",
		},
		"endless file with a password": {
			env: map[string]string{"NATS_PASSWORD_FILE": "/dev/zero"}, wantCode: ExitUsage,
			wantStderr: "creator: NATS_PASSWORD_FILE: /dev/zero must hold one password, of at most 4096 bytes\n",
		},
		"log level": {env: map[string]string{"LOG_LEVEL": "loud"}, wantCode: ExitUsage, wantStderr: `creator: LOG_LEVEL: log level "loud" is unknown: use trace, debug, info, warn or error` + "\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := Program{Name: "creator", Summary: "makes pods", Listen: "127.0.0.1:8080", Run: func(context.Context, Process) error {
				t.Error("the service runs")
				return nil
			}}
			got := runProgram(p, tc.args, tc.env, nil)
			if got.code != tc.wantCode || !strings.Contains(got.stdout, tc.wantStdout) || !strings.Contains(got.stderr, tc.wantStderr) {
				t.Errorf("exit code %d, stdout %q, stderr %q;\nwant %d, %q, %q", got.code, got.stdout, got.stderr, tc.wantCode, tc.wantStdout, tc.wantStderr)
			}
			if (tc.wantStdout == "") != (got.stdout == "") || (tc.wantStderr == "") != (got.stderr == "") {
				t.Errorf("stdout %q, stderr %q: one too many", got.stdout, got.stderr)
			}
		})
	}
}

func TestProgramProcess(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(file, []byte("namespace: pods\nlogLevel: error\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("hid den\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	type seen struct{ Service, Listen, NATSURL, User, Password, Kubeconfig, DatabaseURL, Namespace, Level string }
	tests := map[string]struct {
		args []string
		env  map[string]string
		want seen
	}{
		"defaults": {want: seen{
			Service: "creator", Listen: "127.0.0.1:0", NATSURL: "nats://127.0.0.1:4222", Namespace: "berth", Level: "info",
		}},
		"everything": {
			args: []string{"--config", file, "--listen", ":9090"},
			env: map[string]string{
				"NATS_URL": "nats://n:4222", "KUBECONFIG": "/k", "DATABASE_URL": "postgres://d", "LOG_LEVEL": "debug",
				"BACKEND_NAMESPACE": "others", "NATS_USER": "maker", "NATS_PASSWORD": "hidden",
			},
			want: seen{
				Service: "creator", Listen: ":9090", NATSURL: "nats://n:4222", User: "maker", Password: "hidden", Kubeconfig: "/k", DatabaseURL: "postgres://d",
				Namespace: "others", Level: "debug",
			},
		},
		"password in a file": {
			env: map[string]string{"NATS_PASSWORD_FILE": secret},
			want: seen{
				Service: "creator", Listen: "127.0.0.1:0", NATSURL: "nats://127.0.0.1:4222", User: "creator", Password: "hid den",
				Namespace: "berth", Level: "info",
			},
		},
		"level of the configuration": {
			args: []string{"-config=" + file},
			want: seen{Service: "creator", Listen: "127.0.0.1:0", NATSURL: "nats://127.0.0.1:4222", Namespace: "pods", Level: "error"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runProgram(Program{Name: "creator", Run: func(ctx context.Context, p Process) error {
				if p.Traces == nil || zerolog.Ctx(ctx).GetLevel() != p.Log.GetLevel() {
					t.Error("the process has no traces, or its context not its logger")
				}
				got := seen{p.Service, p.Listen, p.NATSURL, p.NATSUser, p.NATSPassword, p.Kubeconfig, p.DatabaseURL, p.Config.Namespace, p.Log.GetLevel().String()}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("process (-want +got):\n%s", diff)
				}
				return nil
			}}, tc.args, tc.env, nil)
			if got.code != ExitClean || got.stdout != "" {
				t.Errorf("program = %+v", got)
			}
		})
	}
}

func TestProgramLogsNotices(t *testing.T) {
	t.Parallel()
	got := runProgram(Program{Name: "creator", Run: func(context.Context, Process) error { return nil }}, nil,
		map[string]string{"BACKEND_PODCACHEDIR": "/tmp", "BACKEND_WHITELISTMANIFESTREGEX": "https://a/.*"}, nil)
	fields := record(t, got.stderr)
	if fields["message"] != "Configuration noticed" || fields["key"] != "BACKEND_PODCACHEDIR" || fields["level"] != "warn" {
		t.Errorf("record of the notice = %v", fields)
	}
}

func TestProgramEnds(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		run      func(ctx context.Context, p Process) error
		signals  []os.Signal
		wantCode int
		wantLog  string
	}{
		"by itself": {run: func(context.Context, Process) error { return nil }},
		"with an error": {
			run: func(context.Context, Process) error { return errors.New("broken") }, wantCode: ExitFailure, wantLog: `"error":"broken"`,
		},
		"canceled by something else": {
			run: func(context.Context, Process) error { return context.Canceled }, wantCode: ExitFailure, wantLog: "Service failed",
		},
		"after a signal": {
			run:     func(ctx context.Context, _ Process) error { <-ctx.Done(); return nil },
			signals: []os.Signal{syscall.SIGTERM}, wantLog: `"signal":"terminated"`,
		},
		"after a signal, with the end of its context": {
			run:     func(ctx context.Context, _ Process) error { <-ctx.Done(); return fmt.Errorf("wait: %w", ctx.Err()) },
			signals: []os.Signal{syscall.SIGINT}, wantLog: "Draining",
		},
		"after a signal, with its cause": {
			run:     func(ctx context.Context, _ Process) error { <-ctx.Done(); return context.Cause(ctx) },
			signals: []os.Signal{syscall.SIGINT}, wantLog: "Draining",
		},
		"after a signal, with an error": {
			run:     func(ctx context.Context, _ Process) error { <-ctx.Done(); return errors.New("file: disk full") },
			signals: []os.Signal{syscall.SIGTERM}, wantCode: ExitFailure, wantLog: "disk full",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signals := make(chan os.Signal, len(tc.signals))
			for _, s := range tc.signals {
				signals <- s
			}
			got := runProgram(Program{Name: "creator", Run: tc.run}, nil, nil, signals)
			if got.code != tc.wantCode || !strings.Contains(got.stderr, tc.wantLog) {
				t.Errorf("exit code %d, log %q; want %d, %q", got.code, got.stderr, tc.wantCode, tc.wantLog)
			}
		})
	}
}

func TestProgramSecondSignalKills(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		signals := make(chan os.Signal, 2)
		signals <- syscall.SIGTERM
		signals <- syscall.SIGINT
		got := runProgram(Program{Name: "creator", Run: func(context.Context, Process) error { <-release; return nil }}, nil, nil, signals)
		if got.code != ExitKilled {
			t.Errorf("exit code %d, want %d", got.code, ExitKilled)
		}
		close(release)
	})
}

func TestProgramGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		signals := make(chan os.Signal, 1)
		signals <- syscall.SIGTERM
		begun := time.Now()
		got := runProgram(Program{Name: "creator", Run: func(context.Context, Process) error { <-release; return nil }}, nil, nil, signals)
		if got.code != ExitFailure || time.Since(begun) != giveUp {
			t.Errorf("exit code %d after %v, want %d after %v", got.code, time.Since(begun), ExitFailure, giveUp)
		}
		close(release)
	})
}

// TestProgramSignals sends this process a real signal.
func TestProgramSignals(t *testing.T) {
	args := os.Args
	os.Args = []string{"creator"}
	t.Cleanup(func() { os.Args = args })
	t.Setenv("BACKEND_WHITELISTMANIFESTREGEX", "https://example\\.org/.*")
	code := Main("creator", func(ctx context.Context, p Process) error {
		reloaded := make(chan config.Config, 1)
		defer p.Reloads.Subscribe(func(c config.Config) { reloaded <- c })()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			return err
		}
		if diff := cmp.Diff(p.Config.Namespace, (<-reloaded).Namespace); diff != "" {
			t.Errorf("namespace after a reload (-want +got):\n%s", diff)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			return err
		}
		<-ctx.Done()
		var s SignalError
		if !errors.As(context.Cause(ctx), &s) || s.Signal != syscall.SIGTERM {
			t.Errorf("cause = %v, want the signal", context.Cause(ctx))
		}
		wantError(t, s, "received terminated")
		return nil
	})
	if code != ExitClean {
		t.Errorf("exit code %d, want %d", code, ExitClean)
	}
}
