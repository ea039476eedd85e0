package cli

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
)

// lines hands on what is written, a line at a time.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		l <- strings.TrimSuffix(line, "\n")
	}
	return len(b), nil
}

// TestEventsGoOn follows the log through a restart of NATS and through a log
// that is made anew, until ctrl-C.
func TestEventsGoOn(t *testing.T) {
	t.Parallel()
	server := eventstest.NewListeningServer(t)
	bus := eventstest.NewBus(t, server, "test")
	eventstest.Bring(t, bus, "a", "alice", events.Claimed)

	out, notices := make(lines, 100), make(lines, 100)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var code int
	var running sync.WaitGroup
	running.Go(func() {
		code = Run(ctx, Process{
			Args:    []string{"events", "--all", "--type", "claimed,licensed"},
			Environ: []string{"NATS_URL=" + server.URL()}, Stdout: out, Stderr: notices,
		})
	})
	expect := func(want string) {
		t.Helper()
		// The time is that of the test.
		if _, got, _ := strings.Cut(eventstest.Receive(t, want, out), "  "); got != want {
			t.Errorf("line %q, want %q", got, want)
		}
	}
	const claimed, licensed = "a                               alice                     claimed", "b                               bob                       licensed"
	expect(claimed)

	server.Restart()
	bus = eventstest.NewBus(t, server, "again") // The first may not know yet that it has lost its connection.
	eventstest.Bring(t, bus, "b", "bob", events.Launching)
	expect(strings.Replace(licensed, "licensed", "claimed", 1))
	expect(licensed)

	server.Wipe()
	bus = eventstest.NewBus(t, server, "anew")
	eventstest.Bring(t, bus, "a", "alice", events.Claimed)
	expect(claimed)

	// That the log was made anew is told by another than what becomes of the connection, which may be later.
	const lost, back = "berth: lost the connection to NATS; trying again", "berth: connected to NATS again"
	want := []string{lost, back, lost, back, "berth: the log was made anew; reading it from its start"}
	var told []string
	for range want {
		told = append(told, eventstest.Receive(t, "a notice", notices))
	}
	cancel(errors.New("interrupt signal received"))
	running.Wait()
	if code != ExitOK {
		t.Errorf("exit code %d, want %d", code, ExitOK)
	}
	for len(notices) > 0 {
		told = append(told, <-notices)
	}
	slices.Sort(want)
	slices.Sort(told)
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("notices (-want +got):\n%s", diff)
	}
}

// TestForeignMessages shows what this version cannot read as far as it can.
func TestForeignMessages(t *testing.T) {
	t.Parallel()
	server := eventstest.NewListeningServer(t)
	eventstest.NewBus(t, server, "test")
	nc, err := nats.Connect(server.URL(), nats.Timeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	const newer = `{"type":"berth.pod.teleported.v2",
 "data":{"a": 1}}`
	for event, data := range map[events.Type]string{"teleported": newer, events.Ready: "no JSON"} {
		if _, err := nc.Request(events.PodSubject("main", "p", "alice\x1b", event), []byte(data), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (stdout, stderr string) {
		var out, errs strings.Builder
		args = append([]string{"events", "--all", "--no-follow", "--nats-url", server.URL()}, args...)
		if code := Run(t.Context(), Process{Args: args, Stdout: &out, Stderr: &errs}); code != ExitOK {
			t.Errorf("exit code %d", code)
		}
		return out.String(), errs.String()
	}
	stdout, stderr := run()
	for _, event := range []string{"teleported", "ready"} {
		if !strings.Contains(stdout, "Z  p                               alice\uFFFD                    "+event+"\n") {
			t.Errorf("no line for %s:\n%s", event, stdout)
		}
	}
	if stderr != "" {
		t.Errorf("stderr: %s", stderr)
	}
	stdout, stderr = run("--json")
	if diff := cmp.Diff(`{"type":"berth.pod.teleported.v2","data":{"a":1}}`+"\n", stdout); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	if !strings.HasSuffix(stderr, ", which is no JSON\n") {
		t.Errorf("stderr: %s", stderr)
	}
}

func TestEventsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	var errs strings.Builder
	code := Run(t.Context(), Process{Args: []string{"events"}, Environ: []string{"NATS_URL=nats://127.0.0.1:1"}, Stdout: io.Discard, Stderr: &errs})
	if code != ExitUnavailable || !strings.HasPrefix(errs.String(), "berth: connect to NATS: ") {
		t.Errorf("code %d, stderr %q, want %d", code, &errs, ExitUnavailable)
	}
}
