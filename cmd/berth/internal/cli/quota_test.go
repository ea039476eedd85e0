package cli

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQuota(t *testing.T) {
	t.Parallel()
	const none = `{"network":false,"member_host":false,"privileged":false,"always_running":false,"memory_request":200,` +
		`"memory_limit":1000,"cpu_request":0.02,"cpu_limit":1,"disk_quota":3000,"idle_timeout":1800,` +
		`"dedicated_vm":false,"dedicated_disks":[],"gpu":false}`
	const start = `{"id":"a","now":"2026-03-01T12:00:00Z","project":{"site_license_list":[["x",{}]]}}`
	for name, test := range map[string]struct {
		args     []string
		stdin    io.Reader
		wantCode int
		wantOut  string
		wantErr  string
	}{
		"compute": {
			args:    []string{"quota", "compute"},
			stdin:   strings.NewReader("{\"id\":\"a\"}\nnothing\n" + `{"id":2,"site_licenses_list":[["x",{"quota":{"dedicated_vm":{"machine":"cray"}}}]]}`),
			wantOut: `{"id":"a","quota":` + none + `,"reasons":{}}` + "\n" + `{"id":null,"error":"parse JSON: invalid character 'o' in literal null (expecting 'u')"}` + "\n" + `{"id":2,"error":"unknown_vm_machine"}` + "\n",
		},
		"check": {
			args:    []string{"quota", "check"},
			stdin:   strings.NewReader(start),
			wantOut: `{"id":"a","site_license_list":[["x",{"status":"expired","reason":"expired"}]],"run_quota":` + none + `,"last_used":[]}` + "\n",
		},
		"no stdin": {args: []string{"quota", "compute"}},
		"arguments": {
			args: []string{"quota", "compute", "cases.jsonl"}, wantCode: ExitUsage,
			wantErr: "berth: unknown command \"cases.jsonl\" for \"berth quota compute\"\nTry berth quota compute --help.\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, errs strings.Builder
			code := Run(t.Context(), Process{Args: test.args, Stdin: test.stdin, Stdout: &out, Stderr: &errs})
			if code != test.wantCode {
				t.Errorf("code %d, want %d", code, test.wantCode)
			}
			if diff := cmp.Diff(test.wantOut, out.String()); diff != "" {
				t.Errorf("stdout (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.wantErr, errs.String()); diff != "" {
				t.Errorf("stderr (-want +got):\n%s", diff)
			}
		})
	}
}

func TestQuotaEndsEarly(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	waiting, hold := io.Pipe()
	t.Cleanup(func() { _ = hold.Close() })
	gone, away := io.Pipe()
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		context  func() context.Context
		stdin    io.Reader
		stdout   io.Writer
		wantCode int
		wantErr  string
	}{
		"interrupted":        {func() context.Context { return ended }, waiting, io.Discard, ExitInterrupted, "berth: answer stdin: interrupted\n"},
		"the reader is gone": {t.Context, strings.NewReader("{}\n"), away, ExitFailed, "berth: answer stdin: write answers: io: read/write on closed pipe\n"},
	} {
		var errs strings.Builder
		code := Run(test.context(), Process{Args: []string{"quota", "compute"}, Stdin: test.stdin, Stdout: test.stdout, Stderr: &errs})
		if code != test.wantCode {
			t.Errorf("%s: code %d, want %d", name, code, test.wantCode)
		}
		if diff := cmp.Diff(test.wantErr, errs.String()); diff != "" {
			t.Errorf("%s: stderr (-want +got):\n%s", name, diff)
		}
	}
}
