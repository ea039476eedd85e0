package service

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

// record decodes a line of a log.
func record(t *testing.T, line string) map[string]any {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		t.Fatalf("log line %q: %v", line, err)
	}
	return fields
}

func message(t *testing.T, line string) string {
	t.Helper()
	text, _ := record(t, line)["message"].(string)
	return text
}

func TestNewLogger(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log := NewLogger(&out, zerolog.InfoLevel, Identity{Service: "creator", Instance: "host-1-abc"})
	log.Debug().Msg("Not shown")
	log.Info().Str("pod", "p").Msg("Shown")
	got := record(t, out.String())
	stamp, _ := got["time"].(string)
	if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`).MatchString(stamp) {
		t.Errorf("time = %q, want UTC with milliseconds", stamp)
	}
	delete(got, "time")
	want := map[string]any{"level": "info", "service": "creator", "instance": "host-1-abc", "pod": "p", "message": "Shown"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestParseLevel(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"trace", "debug", "info", "warn", "error"} {
		if level, err := ParseLevel(text); err != nil || level.String() != text {
			t.Errorf("ParseLevel(%q) = %v, %v", text, level, err)
		}
	}
	for _, text := range []string{"", "INFO", "fatal", "panic", "disabled", "-1", "3", "verbose"} {
		if level, err := ParseLevel(text); err == nil {
			t.Errorf("ParseLevel(%q) = %v, want an error", text, level)
		}
	}
}
