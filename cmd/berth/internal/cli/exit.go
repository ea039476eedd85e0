package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"berth/cmd/berth/internal/progress"
	"berth/pkg/client"
	"berth/pkg/events"
)

// The exit codes.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitNotFound    = 3
	ExitUnavailable = 4
	ExitTimeout     = 5
	// ExitInterrupted is what shells make of a program that SIGINT has ended: 128 + 2.
	ExitInterrupted = 130
)

// exitCodes describes the exit codes for --help.
func exitCodes() string {
	return `    0  success
    1  the operation failed: the pod failed or ended, a delete did not come to its
       end, a configuration has faults, doctor found a problem; the output says why
    2  wrong usage
    3  there is no such pod, or it is not this user's; no such project or license
    4  the service, or NATS, cannot be reached or is not available; a service that is
       away is tried for 5 seconds
    5  --timeout is over; what was asked for goes on
  130  interrupted by ctrl-C; what was asked for goes on
  141  whoever reads the output has gone away, as head does (SIGPIPE)
`
}

// The codes of errors in JSON that are not reasons of Berth.
const (
	codeFailed      = "FAILED"
	codeUsage       = "USAGE"
	codeUnreachable = "UNREACHABLE"
	codeWaitTimeout = "WAIT_TIMEOUT"
	codeInterrupted = "INTERRUPTED"
)

// failure is how a command fails.
type failure struct {
	// code is the exit code.
	code int
	// reason is one of Berth's, or of those above.
	reason  string
	message string
	pod     string
	// hint is a command to go on with, for people; help is the one whose --help
	// says what is wrong.
	hint, help string
	// told says that there is nothing more to tell.
	told bool
}

// Error implements error.
func (f *failure) Error() string { return f.message }

// usage is the failure of a command line that is wrong.
func usage(format string, values ...any) *failure {
	return &failure{code: ExitUsage, reason: codeUsage, message: fmt.Sprintf(format, values...)}
}

// asFailure makes a failure of any error of a command. All but failures come
// from the reading of the command line.
func asFailure(err error, command *cobra.Command) *failure {
	var f *failure
	if !errors.As(err, &f) {
		f = usage("%s", err)
	}
	if f.reason == codeUsage {
		f.help = command.CommandPath()
	}
	return f
}

// report tells a failure on stderr.
func (a *app) report(f *failure, asJSON bool) {
	if f.told {
		return
	}
	if asJSON {
		type problem struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		}
		a.writeJSON(a.Stderr, struct {
			Error    problem `json:"error"`
			ExitCode int     `json:"exit_code"`
			Pod      string  `json:"pod_name,omitempty"`
		}{problem{f.reason, f.message}, f.code, f.pod})
		return
	}
	fmt.Fprintln(a.Stderr, "berth:", progress.Clean(f.message))
	switch {
	case f.hint != "":
		fmt.Fprintln(a.Stderr, "Go on with:", f.hint)
	case f.help != "":
		fmt.Fprintf(a.Stderr, "Try %s --help.\n", f.help)
	}
}

var (
	// errTimeout is the cause of a context whose --timeout is over.
	errTimeout = errors.New("--timeout is over")
	// errClosed is the cause of a context whose command is over.
	errClosed = errors.New("the command is over")
)

// failed makes a failure of an error of a request to the service. ctx is the
// command's, with its time-out.
func failed(ctx context.Context, what string, err error) *failure {
	var f *failure
	var p *client.Problem
	told := errors.As(err, &p)
	switch cause := context.Cause(ctx); {
	case errors.As(err, &f):
		return f
	// While the service has said that it is busy, or was not reached at all, nothing goes on.
	case errors.Is(cause, errTimeout) && !told && (!client.Unsent(err) || client.Uncertain(err)):
		return &failure{code: ExitTimeout, reason: codeWaitTimeout, message: what + ": no answer in time"}
	case cause != nil && !errors.Is(cause, errTimeout):
		return &failure{code: ExitInterrupted, reason: codeInterrupted, message: what + ": interrupted"}
	}
	f = &failure{code: ExitFailed, reason: codeFailed, message: what + ": " + err.Error()}
	switch {
	case !told && (errors.Is(err, client.ErrNoAnswer) || errors.Is(err, client.ErrForeign)), told && p.Reason == "":
		f.code, f.reason = ExitUnavailable, codeUnreachable
	case !told:
	default:
		f.code, f.reason = exitOf(p), p.Reason
	}
	return f
}

// exitOf is the exit code of what the service says.
func exitOf(p *client.Problem) int {
	switch reason := events.Reason(p.Reason); {
	case p.Busy(), reason == events.Unavailable, reason == events.Expired:
		return ExitUnavailable
	case reason == events.NotFound, reason == events.ProjectUnknown:
		return ExitNotFound
	case reason == events.RequestInvalid:
		return ExitUsage
	default:
		return ExitFailed
	}
}

// writeJSON writes one line of JSON.
func (a *app) writeJSON(to io.Writer, value any) {
	var line strings.Builder
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		fmt.Fprintln(a.Stderr, "berth: write JSON:", err)
		return
	}
	fmt.Fprint(to, line.String())
}
