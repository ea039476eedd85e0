package cli

import (
	"io"
	"strings"
	"testing"
)

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
