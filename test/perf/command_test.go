package main

import (
	"bytes"
	"strings"
	"testing"

	"berth/pkg/service"
)

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args       []string
		wantCode   int
		wantStdout string
		wantStderr string
	}{
		"help":            {args: []string{"--help"}, wantCode: service.ExitClean, wantStdout: "Usage: perf"},
		"unknown flag":    {args: []string{"--fast"}, wantCode: service.ExitUsage, wantStderr: "-fast"},
		"argument":        {args: []string{"now"}, wantCode: service.ExitUsage, wantStderr: `"now"`},
		"no users":        {args: []string{"--users", "0"}, wantCode: service.ExitUsage, wantStderr: "must be positive"},
		"negative rounds": {args: []string{"--rounds=-1"}, wantCode: service.ExitUsage, wantStderr: "must be positive"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if got := run(tc.args, &stdout, &stderr); got != tc.wantCode {
				t.Errorf("exit code %d, want %d", got, tc.wantCode)
			}
			if !strings.Contains(stdout.String(), tc.wantStdout) || !strings.Contains(stderr.String(), tc.wantStderr) {
				t.Errorf("stdout %q and stderr %q, want %q and %q in them", &stdout, &stderr, tc.wantStdout, tc.wantStderr)
			}
		})
	}
}
