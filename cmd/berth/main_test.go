package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

// leakChecked runs the tests, then looks for goroutines that are left.
type leakChecked struct{ *testing.M }

// Run implements testscript.TestingM.
func (m leakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"berth": main})
}

// TestScripts runs the command line as a program: each script with a service
// and a NATS server of its own.
func TestScripts(t *testing.T) {
	t.Parallel()
	type site struct {
		*fakeAPI

		server  *eventstest.Server
		bus     *natsbus.Bus
		command *exec.Cmd
	}
	siteOf := func(ts *testscript.TestScript) *site { return ts.Value("site").(*site) }
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			tb := env.T().(testing.TB)
			server := eventstest.NewListeningServer(tb)
			api, url := newFakeAPI(tb)
			env.Values["site"] = &site{fakeAPI: api, server: server, bus: eventstest.NewBus(tb, server, "test")}
			// The race detector would wait a second before each program ends.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			env.Setenv("BERTH_URL", url)
			env.Setenv("BERTH_USER", "alice@example.org")
			env.Setenv("NATS", server.URL()) // Scripts that want the log set NATS_URL to it.
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// exits CODE PROGRAM ARGS… runs a program that ends with the code.
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				code := 0
				if exit, ok := errors.AsType[*exec.ExitError](err); ok {
					code = exit.ExitCode()
				} else {
					ts.Check(err)
				}
				if strconv.Itoa(code) != args[0] {
					ts.Fatalf("exit code %d, want %s", code, args[0])
				}
			},
			// interrupt sends ctrl-C to the program in the background, once it waits for something.
			"interrupt": func(ts *testscript.TestScript, _ bool, _ []string) {
				s := siteOf(ts)
				<-s.watch
				s.command = ts.BackgroundCmds()[0]
				ts.Check(s.command.Process.Signal(os.Interrupt))
			},
			// exited CODE says how it has ended.
			"exited": func(ts *testscript.TestScript, _ bool, args []string) {
				if code := siteOf(ts).command.ProcessState.ExitCode(); strconv.Itoa(code) != args[0] {
					ts.Fatalf("exit code %d, want %s", code, args[0])
				}
			},
			// bring POD USER EVENT lets the log tell the life of a pod up to an event.
			"bring": func(ts *testscript.TestScript, _ bool, args []string) {
				s := siteOf(ts)
				eventstest.Bring(s.tb, s.bus, args[0], args[1], events.Type(args[2]))
			},
		},
	})
}
