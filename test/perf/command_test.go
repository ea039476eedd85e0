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
		"help":            {args: []string{"--help"}, wantCode: service.ExitClean, wantStdout: "alone    a user"},
		"unknown flag":    {args: []string{"--fast"}, wantCode: service.ExitUsage, wantStderr: "-fast"},
		"argument":        {args: []string{"now"}, wantCode: service.ExitUsage, wantStderr: `"now"`},
		"no users":        {args: []string{"--users", "0"}, wantCode: service.ExitUsage, wantStderr: "--users must be positive"},
		"negative rounds": {args: []string{"--rounds=-1"}, wantCode: service.ExitUsage, wantStderr: "--rounds must be positive"},
		"no such scenario": {
			args: []string{"--scenario", "pods,fast"}, wantCode: service.ExitUsage,
			wantStderr: `perf: there is no scenario "fast", only pods, full, projects, alone, polls, abandon, list, start; see perf --help` + "\n",
		},
		"half a pod's polls": {args: []string{"--polls", "7"}, wantCode: service.ExitUsage, wantStderr: "multiple of 20"},
		"nothing to draw":    {args: []string{"--scenario=list", "--svg=x.svg"}, wantCode: service.ExitUsage, wantStderr: "--svg"},
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
