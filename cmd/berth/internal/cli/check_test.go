package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/cmd/berth/internal/silo"
	"berth/pkg/events"
)

func TestParseSettings(t *testing.T) {
	t.Parallel()
	got, err := parseSettings([]string{"notebook.LANG=da_DK", "notebook.EMPTY=", "side-car.A.B=x=y, z", "n.odd~name=1"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]string{
		"notebook": {"LANG": "da_DK", "EMPTY": ""}, "side-car": {"A.B": "x=y, z"}, "n": {"odd~name": "1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	for _, text := range []string{"", "secret", "=secret", "notebook=secret", "notebook.=secret", ".A=secret", "Notebook.A=secret", "n.a b=secret", "n.æ=secret"} {
		_, err := parseSettings([]string{text})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: error %v, want one without the value", text, err)
		}
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add("notebook.LANG=da_DK")
	f.Add("=")
	f.Fuzz(func(t *testing.T, text string) {
		settings, err := parseSettings([]string{text})
		if err != nil {
			return
		}
		for container, variables := range settings {
			for name, value := range variables {
				if back := container + "." + name + "=" + value; back != text {
					t.Errorf("%q was read as %q", text, back)
				}
			}
		}
	})
}

func TestAge(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"0:0:0": "", "0:0:11": "11s", "0:3:4": "3m04s", "2:3:4": "2h03m", "100:0:0": "4d4h",
		"": "", "yesterday": "yesterday", "1:2": "1:2", "0:-1:0": "0:-1:0", "a:b:c": "a:b:c",
	}
	for text, want := range tests {
		if got := age(text); got != want {
			t.Errorf("age(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestAgain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		app  app
		want string
	}{
		"all from the environment": {
			app{Process: Process{Environ: []string{"BERTH_USER=bob", "BERTH_USER=alice", "BERTH_URL=http://a:1"}}, user: "alice", url: "http://a:1"},
			"berth pods list",
		},
		"the default":        {app{url: defaultURL}, "berth pods list"},
		"all from flags":     {app{user: "alice@dtu.dk", url: "http://a:1/it's"}, `berth pods list --user alice@dtu.dk --url 'http://a:1/it'\''s'`},
		"never the password": {app{url: "http://me:secret@a:1"}, "berth pods list --url http://me:xxxxx@a:1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tt.app.again("pods list"); got != tt.want {
				t.Errorf("again: %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFailed(t *testing.T) {
	t.Parallel()
	live := t.Context()
	late, cancel := context.WithTimeoutCause(t.Context(), 0, errTimeout)
	t.Cleanup(cancel)
	interrupted, stop := context.WithCancelCause(t.Context())
	stop(errors.New("interrupt signal received"))
	tests := map[string]struct {
		ctx    context.Context //nolint:containedctx // A case of the table.
		err    error
		code   int
		reason string
	}{
		"not found":        {live, &silo.Error{Status: 404, Reason: events.NotFound}, ExitNotFound, "NOT_FOUND"},
		"malformed":        {live, &silo.Error{Status: 400, Reason: events.RequestInvalid}, ExitUsage, "REQUEST_INVALID"},
		"refused":          {live, &silo.Error{Status: 500, Reason: events.ImagePull}, ExitFailed, "IMAGE_PULL"},
		"bad manifest URL": {live, &silo.Error{Status: 502, Reason: events.ManifestUnreachable}, ExitFailed, "MANIFEST_UNREACHABLE"},
		"unavailable":      {live, &silo.Error{Status: 503, Reason: events.Unavailable}, ExitUnavailable, "UNAVAILABLE"},
		"expired":          {live, &silo.Error{Status: 503, Reason: events.Expired}, ExitUnavailable, "EXPIRED"},
		"a proxy":          {live, &silo.Error{Status: 502}, ExitUnavailable, "UNREACHABLE"},
		"nobody there":     {live, &silo.Error{Err: io.EOF}, ExitUnavailable, "UNREACHABLE"},
		"anything else":    {live, io.EOF, ExitFailed, "FAILED"},
		"a failure":        {live, fmt.Errorf("x: %w", usage("y")), ExitUsage, "USAGE"},
		"too late":         {late, &silo.Error{Err: errTimeout}, ExitTimeout, "WAIT_TIMEOUT"},
		"busy too long":    {late, &silo.Error{Status: 503, Reason: events.Unavailable}, ExitUnavailable, "UNAVAILABLE"},
		"interrupted":      {interrupted, &silo.Error{Err: io.EOF}, ExitInterrupted, "INTERRUPTED"},
		"interrupted late": {interrupted, &silo.Error{Status: 503}, ExitInterrupted, "INTERRUPTED"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := failed(tt.ctx, "do it", tt.err)
			if f.code != tt.code || f.reason != tt.reason {
				t.Errorf("code %d %s, want %d %s (%s)", f.code, f.reason, tt.code, tt.reason, f.message)
			}
		})
	}
}

func TestResultThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	var errs strings.Builder
	reader, writer := io.Pipe()
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	code := Run(t.Context(), Process{Args: []string{"config", "example"}, Stdout: writer, Stderr: &errs})
	if want := "berth: write the result: io: read/write on closed pipe\n"; code != ExitFailed || errs.String() != want {
		t.Errorf("code %d, stderr %q, want %d, %q", code, &errs, ExitFailed, want)
	}
}

func TestTimeoutOfZeroIsNone(t *testing.T) {
	t.Parallel()
	ctx, cancel := withTimeout(t.Context(), 0)
	if _, limited := ctx.Deadline(); limited {
		t.Error("there is a deadline")
	}
	cancel()
	if !errors.Is(context.Cause(ctx), errClosed) {
		t.Errorf("cause %v, want the end of the command", context.Cause(ctx))
	}
	limited, cancel := withTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-limited.Done()
	if !errors.Is(context.Cause(limited), errTimeout) {
		t.Errorf("cause %v, want the time-out", context.Cause(limited))
	}
}
