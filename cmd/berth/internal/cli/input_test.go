package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/client"
)

// endless is a stdin that never says anything, as a terminal does where nobody types. begun is told of the first read.
type endless struct {
	begun context.CancelFunc
	over  <-chan struct{}
}

// Read implements io.Reader.
func (e endless) Read([]byte) (int, error) {
	e.begun()
	<-e.over
	return 0, io.EOF
}

// TestInterruptedInput: ctrl-C ends a command that waits for what somebody types.
func TestInterruptedInput(t *testing.T) {
	t.Parallel()
	const project = "8e03978e-40d5-43e8-bc93-6894a57f9324"
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"apply":            {[]string{"license", "apply", "-f", "-"}, "berth: -f: interrupted\n"},
		"preview, change":  {[]string{"license", "preview", "--project", project, "--change", "-"}, "berth: --change: interrupted\n"},
		"preview, set":     {[]string{"license", "preview", "--project", project, "--license", "-"}, "berth: --license: interrupted\n"},
		"preview, pod":     {[]string{"license", "preview", "--project", project, "--template", "-"}, "berth: --template: interrupted\n"},
		"replay":           {[]string{"license", "replay", "--change", "-"}, "berth: --change: interrupted\n"},
		"project":          {[]string{"project", "start", project, "--config", "-"}, "berth: --config: interrupted\n"},
		"project, as JSON": {[]string{"project", "start", project, "--config", "-", "--json"}, `{"error":{"code":"INTERRUPTED","message":"--config: interrupted"},"exit_code":130}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			over := make(chan struct{})
			defer close(over)
			var out, errs strings.Builder
			code := Run(ctx, Process{Args: test.args, Stdin: endless{interrupt, over}, Stdout: &out, Stderr: &errs})
			if code != ExitInterrupted || out.Len() > 0 {
				t.Errorf("code %d, want %d; stdout %q", code, ExitInterrupted, out.String())
			}
			if diff := cmp.Diff(test.want, errs.String()); diff != "" {
				t.Errorf("stderr (-want +got):\n%s", diff)
			}
		})
	}
}

// TestInput: what is read is bounded, and its faults say of what they are.
func TestInput(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := filepath.Join(folder, "f")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", maxInput+1)
	for name, test := range map[string]struct {
		name  string
		stdin io.Reader
		want  string
		fault string
	}{
		"a file":   {file, nil, "text", ""},
		"stdin":    {"-", strings.NewReader("typed"), "typed", ""},
		"no stdin": {"-", nil, "", ""},
		"all that": {"-", strings.NewReader(large[1:]), large[1:], ""},
		"too much": {"-", strings.NewReader(large), "", "--flag: stdin is larger than 4 MiB"},
		"a folder": {folder, nil, "", "is a directory"},
		"no file":  {file + "x", nil, "", "no such file"},
		"a fault":  {"-", io.LimitReader(failing{}, 1), "", "--flag: read stdin: invalid argument"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &app{Process: Process{Stdin: test.stdin}}
			text, err := a.readFile("--flag", test.name)
			if string(text) != test.want || (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
				t.Errorf("%.20q, %v; want %.20q, %q", text, err, test.want, test.fault)
			}
		})
	}
}

type failing struct{}

// Read implements io.Reader.
func (failing) Read([]byte) (int, error) { return 0, os.ErrInvalid }

// TestLicenseWords: what became of a license is said once.
func TestLicenseWords(t *testing.T) {
	t.Parallel()
	for want, l := range map[string]client.License{
		"a T: active":    {ID: "a", Title: "T", Status: "active"},
		"a: active":      {ID: "a", Status: "active"},
		"a T: exhausted": {ID: "a", Title: "T", Status: "exhausted", Reason: "exhausted"},
		"a T: ineffective (hosting_incompatible)": {ID: "a", Title: "T", Status: "ineffective", Reason: "hosting_incompatible"},
		"a": {ID: "a"},
	} {
		if got := licenseWords(l); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestFaultWords: a project that keeps its pod is not said to be without one.
func TestFaultWords(t *testing.T) {
	t.Parallel()
	pod := &client.Pod{Name: "p"}
	const lacks, keeps = "it does not run where it should: ", "so it keeps the one that it has: "
	for name, test := range map[string]struct {
		project client.Project
		want    string
	}{
		"ready":    {client.Project{Event: "ready", Pod: pod}, keeps},
		"starting": {client.Project{Event: "launched", Pod: pod}, keeps},
		"failed":   {client.Project{Event: "failed", Pod: pod}, lacks},
		"deleting": {client.Project{Event: "deleting", Pod: pod}, lacks},
		"none":     {client.Project{Event: "gone"}, lacks},
		"never":    {client.Project{}, lacks},
	} {
		test.project.Database.Project = &client.ProjectRow{Error: "PATCH_INVALID: why"}
		lines := besides(test.project)
		if len(lines) == 0 || !strings.HasSuffix(lines[0], test.want+"PATCH_INVALID: why") {
			t.Errorf("%s: %q, want %q", name, lines, test.want)
		}
	}
}
