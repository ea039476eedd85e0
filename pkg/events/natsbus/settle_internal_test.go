package natsbus

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"berth/pkg/events"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	broken := errors.New("no answer")
	permanent := Permanent(events.PodRejected, broken)
	tests := map[string]struct {
		err               error
		attempt, attempts uint64
		want              verdict
	}{
		"done":                             {nil, 1, 64, verdict{name: "ack"}},
		"done at last":                     {nil, 64, 64, verdict{name: "ack"}},
		"broken":                           {broken, 1, 64, verdict{name: "again", delay: 100 * time.Millisecond}},
		"broken twice":                     {broken, 2, 64, verdict{name: "again", delay: 200 * time.Millisecond}},
		"broken for long":                  {broken, 7, 64, verdict{name: "again", delay: 5 * time.Second}},
		"broken for very long":             {broken, 1 << 40, 1 << 41, verdict{name: "again", delay: 5 * time.Second}},
		"broken once too often":            {broken, 64, 64, verdict{name: "dead", reason: events.RetriesExhausted, text: "no answer"}},
		"broken more often than that":      {broken, 65, 64, verdict{name: "dead", reason: events.RetriesExhausted, text: "no answer"}},
		"permanent":                        {permanent, 1, 64, verdict{name: "dead", reason: events.PodRejected, text: "no answer"}},
		"permanent, wrapped":               {fmt.Errorf("launch: %w", permanent), 1, 64, verdict{name: "dead", reason: events.PodRejected, text: "no answer"}},
		"permanent at the last":            {permanent, 64, 64, verdict{name: "dead", reason: events.PodRejected, text: "no answer"}},
		"again":                            {Again(time.Minute, broken), 3, 64, verdict{name: "again", delay: time.Minute}},
		"again, wrapped":                   {fmt.Errorf("launch: %w", Again(time.Minute, broken)), 3, 64, verdict{name: "again", delay: time.Minute}},
		"again once too often":             {Again(time.Minute, broken), 64, 64, verdict{name: "dead", reason: events.RetriesExhausted, text: "no answer"}},
		"permanent wins over again":        {Again(time.Minute, permanent), 1, 64, verdict{name: "dead", reason: events.PodRejected, text: "no answer"}},
		"only one attempt is granted":      {broken, 1, 1, verdict{name: "dead", reason: events.RetriesExhausted, text: "no answer"}},
		"errors keep what they were of":    {errors.Join(broken, nil), 1, 64, verdict{name: "again", delay: 100 * time.Millisecond}},
		"a delay of nothing is at once":    {Again(0, broken), 1, 64, verdict{name: "again"}},
		"the second delay is not the last": {broken, 6, 64, verdict{name: "again", delay: 3200 * time.Millisecond}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := judge(tc.err, tc.attempt, tc.attempts); got != tc.want {
				t.Errorf("verdict %+v, want %+v", got, tc.want)
			}
			if tc.err != nil && !errors.Is(tc.err, broken) {
				t.Errorf("%v hides its cause", tc.err)
			}
		})
	}
}

func TestHeaderText(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, want string }{
		"plain":         {"no answer", "no answer"},
		"several lines": {"a\r\nX-Evil: b\tc", "a  X-Evil: b c"},
		"too long":      {strings.Repeat("é", 2000), strings.Repeat("é", 1024)},
		"not UTF-8":     {"a\xffb", "a\uFFFDb"},
	}
	for name, tc := range tests {
		if got := headerText(tc.text); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// A dead letter is read by people, for a week.
func TestWithoutVariables(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]events.Command{
		"create": {Stage: events.StageCreate, Create: &events.CreateRequest{
			ManifestURL: "https://example.org/n.yaml?token=secret", Settings: map[string]map[string]string{"main": {"A": "secret"}},
			Deadline: time.Now(),
		}},
		"launch": {Stage: events.StageLaunch, Pod: "p", Generation: "1-1", Rendered: []byte(`{"env":"secret"}`)},
	} {
		c.ID, c.Cluster, c.User = "id", "main", "u"
		data, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		kept := withoutVariables(data)
		if strings.Contains(string(kept), "secret") {
			t.Errorf("%s: %s", name, kept)
		}
		if back, err := events.ParseCommand(kept); err != nil || back.ID != c.ID || back.Stage != c.Stage || back.User != c.User {
			t.Errorf("%s: %+v, error %v", name, back, err)
		}
	}
	if kept := withoutVariables([]byte("poison")); string(kept) != "poison" {
		t.Errorf("a message that is no command is kept as %q", kept)
	}
}
