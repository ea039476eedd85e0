package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

// parentVariable makes the test binary start a server in the folder that it names, and wait to be killed.
const parentVariable = "LOCAL_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentVariable); dir != "" {
		os.Exit(parent(dir))
	}
	goleak.VerifyTestMain(m)
}

func parent(dir string) int {
	s, err := Start(context.Background(), Options{Dir: dir, Progress: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.URL)
	<-s.Done()
	return 1
}

// start starts a server in a folder below one that is this user's alone, as a test's is.
func start(t *testing.T, opts Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if strings.HasPrefix(sql, "SELECT") || strings.HasPrefix(sql, "SHOW") {
		var value string
		if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
			t.Fatal(err)
		}
		return value
	}
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	return ""
}

// TestLife: data stays, whether the server is stopped or killed; the port is the one asked for.
func TestLife(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	query(t, s.URL, `CREATE TABLE kept AS SELECT 'yes' AS value`)
	if got := query(t, s.URL, `SHOW fsync`); got != "off" {
		t.Errorf("fsync is %s", got)
	}
	if second, err := Start(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second start = %v, %v, want %v", second, err, ErrInUse)
	}
	// A client that stays does not keep the server.
	conn, err := pgx.Connect(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }() // The server has ended it.
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if log, err := os.ReadFile(filepath.Join(dir, "logs", "postgres.log")); err != nil || !strings.Contains(string(log), "received fast shutdown request") {
		t.Errorf("it was not told to end its connections: %v\n%s", err, log)
	}
	again := start(t, Options{Dir: dir, Port: s.Port, Durable: true})
	if again.URL != s.URL || query(t, again.URL, `SELECT value FROM kept`) != "yes" || query(t, again.URL, `SHOW fsync`) != "on" {
		t.Errorf("the second server is not the first one: %d, %d", again.Port, s.Port)
	}
	if err := again.Kill(); err != nil {
		t.Error(err)
	}
	third := start(t, Options{Dir: dir, Port: s.Port})
	if query(t, third.URL, `SELECT value FROM kept`) != "yes" {
		t.Error("the data is lost")
	}
	third.process.Signal(syscall.SIGKILL)
	if err := third.Err(); err == nil {
		t.Error("a killed server has ended well")
	}
}

// TestKilledParent: kill -9 of the process that started it leaves no server, and the next start on the folder works.
func TestKilledParent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), parentVariable+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 200)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "server", "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	number, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	query(t, strings.TrimSpace(string(line[:n])), `CREATE TABLE kept AS SELECT 'yes' AS value`)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // It was killed.
	s := start(t, Options{Dir: dir})
	if runs(pid) {
		t.Errorf("process %d still runs", pid)
	}
	if query(t, s.URL, `SELECT value FROM kept`) != "yes" {
		t.Error("the data is lost")
	}
}

// TestUser: root's server is not root's.
func TestUser(t *testing.T) {
	t.Parallel()
	s := start(t, Options{Dir: t.TempDir()})
	conn, err := pgx.Connect(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", conn.PgConn().PID()))
	if err := errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(status), "\nUid:\t0\t") {
		t.Errorf("it runs as root:\n%s", status)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	if _, err := Start(t.Context(), Options{}); err == nil {
		t.Error("started without a folder")
	}
	if _, err := Start(t.Context(), Options{Dir: t.TempDir(), Port: 1 << 20}); err == nil {
		t.Error("started on a port that is none")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "server"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Options{Dir: dir}); err == nil {
		t.Error("started in a folder that has something else")
	}
}

func TestBinaries(t *testing.T) {
	empty := t.TempDir()
	t.Setenv("PATH", empty)
	if got, err := binaries(filepath.Join(empty, "*", "bin")); !errors.Is(err, ErrNoBinaries) || !strings.Contains(err.Error(), "Debian package postgresql") {
		t.Errorf("binaries = %q, %v, want %v", got, err, ErrNoBinaries)
	}
	for _, version := range []string{"9", "15", "main", "16"} {
		folder := filepath.Join(empty, version, "bin")
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, program := range []string{"initdb", "postgres"} {
			// The newest is not whole.
			if version == "16" && program == "postgres" {
				continue
			}
			if err := os.WriteFile(filepath.Join(folder, program), nil, 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := binaries(filepath.Join(empty, "*", "bin")); err != nil || got != filepath.Join(empty, "15", "bin") {
		t.Errorf("binaries = %q, %v", got, err)
	}
}
