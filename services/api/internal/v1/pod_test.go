package v1

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// fullEntry has everything that a record can have.
func fullEntry() Entry {
	return Entry{
		Position: events.Position{Created: 1, Sequence: 9}, Time: at(60),
		Record: events.Record{
			Event: events.Ready, Cluster: "main", Pod: "notebook-alice", User: "alice@example.org", Generation: "1-7", Command: "c", Silo: "silo1",
			Manifest: "https://example.org/n.yaml", Container: "main", Image: "debian:12", Reason: events.NotReady, Message: "m", Warnings: []string{"w"},
			Licenses: []events.License{{ID: "l", Status: "granted", Reason: "r"}}, HTTP: true, SSHPort: 30022, SSHUser: "dtu",
			TokenKeys: []string{"key"}, TokensAt: at(50),
			Observed: events.Observed{
				UID: "uid", ResourceVersion: "7", Phase: "Running", Ready: true, Restarts: 2, Node: "n1", NodeIP: "192.0.2.1",
				IPs: []string{"10.0.0.1", "fd00::1"}, StartTime: at(3),
			},
			ClaimedAt: at(0), LaunchingAt: at(1), LaunchedAt: at(2), ProgressAt: at(4), ReadyAt: at(5), DeletingAt: at(59),
		},
	}
}

// TestPodMember: a pod shows what the record says, field by field, and nothing that
// is nobody's business.
func TestPodMembers(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(podOf(fullEntry(), "pods.example.org"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"notebook-alice","user_id":"alice@example.org","generation":"1-7","event":"ready","reason":"NOT_READY","message":"m",` +
		`"warnings":["w"],"silo":"silo1","manifest_url":"https://example.org/n.yaml","container":"main","image":"debian:12",` +
		`"licenses":[{"id":"l","status":"granted","reason":"r"}],"phase":"Running","node":"n1","node_address":"192.0.2.1",` +
		`"addresses":["10.0.0.1","fd00::1"],"restarts":2,"url":"https://notebook-alice.pods.example.org","ssh_url":"ssh://dtu@pods.example.org:30022",` +
		`"created_at":"2026-01-02T12:00:00Z","launched_at":"2026-01-02T12:00:02Z","started_at":"2026-01-02T12:00:03Z","ready_at":"2026-01-02T12:00:05Z",` +
		`"deleting_at":"2026-01-02T12:00:59Z","updated_at":"2026-01-02T12:01:00Z","position":"1-9"}`
	if d := cmp.Diff(want, string(text)); d != "" {
		t.Errorf("pod (-want +got):\n%s", d)
	}
	bare := podOf(Entry{Record: events.Record{Event: events.Launched, Pod: "p", User: "u", HTTP: true, SSHPort: 1}, Time: at(1)}, "")
	if bare.URL != "" || bare.SSH != "" || !bare.Created.Equal(at(1)) {
		t.Errorf("a pod that was found, at a site without a domain: %+v", bare)
	}
	if p := podOf(Entry{Record: events.Record{SSHPort: 2, Pod: "p"}}, "d"); p.SSH != "ssh://root@d:2" || p.URL != "" {
		t.Errorf("ssh without a user: %+v", p)
	}
}

func TestTimeline(t *testing.T) {
	t.Parallel()
	step := func(second int, generation string, event events.Type, source string, cause ...string) Step {
		s := Step{Source: source, Entry: Entry{
			Time: at(second), Position: events.Position{Created: 1, Sequence: uint64(second + 1)},
			Record: events.Record{Pod: "p", User: "u", Generation: generation, Event: event},
		}}
		if len(cause) > 0 {
			s.Reason, s.Message = events.Reason(cause[0]), strings.Join(cause[1:], "")
		}
		return s
	}
	steps := []Step{
		step(0, "1-1", events.Claimed, "berth/creator/a"), step(2, "1-1", events.Failed, "berth/deleter/a", "TIMEOUT", "too slow"),
		step(3, "1-1", events.Gone, "berth/deleter/a"),
		step(10, "1-11", events.Claimed, "berth/creator/a"), step(11, "1-11", events.Launched, "berth/creator/b"),
		step(12, "1-11", events.Waiting, "berth/watcher/a", "PULLING", "one"), step(14, "1-11", events.Waiting, "berth/watcher/b", "PULLING", "two"),
		step(15, "1-11", events.Waiting, "berth/watcher/b", "STARTING"), step(18, "1-11", events.Ready, "berth/watcher/b"),
		step(17, "1-11", events.Unready, "old"), // A clock that goes after.
	}
	ready := 8.0
	second := Timeline{Name: "p", User: "u", Generation: "1-11", ReadyAfter: &ready, Total: 30, Phases: []Phase{
		{"claimed", "", "", "creator", at(10), 1, "1-11"},
		{"launched", "", "", "creator", at(11), 1, "1-12"},
		{"waiting", "PULLING", "two", "watcher", at(12), 3, "1-13"},
		{"waiting", "STARTING", "", "watcher", at(15), 3, "1-16"},
		{"ready", "", "", "watcher", at(18), 0, "1-19"},
		{"unready", "", "", "old", at(17), 23, "1-18"},
	}}
	tests := map[string]struct {
		steps      []Step
		generation string
		want       Timeline
		ok         bool
	}{
		"the newest life": {steps, "", second, true},
		"its generation":  {steps, "1-11", second, true},
		"a life that is over": {steps, "1-1", Timeline{Name: "p", User: "u", Generation: "1-1", Total: 3, Phases: []Phase{
			{"claimed", "", "", "creator", at(0), 2, "1-1"}, {"failed", "TIMEOUT", "too slow", "deleter", at(2), 1, "1-3"}, {"gone", "", "", "deleter", at(3), 0, "1-4"},
		}}, true},
		"no such life": {steps, "1-2", Timeline{}, false},
		"no life":      {nil, "", Timeline{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := timelineOf(tt.steps, tt.generation, 0, at(40))
			if d := cmp.Diff(tt.want, got); d != "" || ok != tt.ok {
				t.Errorf("ok %v, timeline (-want +got):\n%s", ok, d)
			}
		})
	}
}

// TestForgotten: only what a life may itself have lost makes its timeline incomplete.
func TestForgotten(t *testing.T) {
	t.Parallel()
	steps := func(text string) []Step { // As "1ready 1unready 2claimed", with a generation of one letter.
		var all []Step
		for word := range strings.FieldsSeq(text) {
			all = append(all, Step{Entry: Entry{Record: events.Record{Generation: word[:1], Event: events.Type(word[1:])}}})
		}
		return all
	}
	tests := map[string]struct {
		steps, generation string
		kept              int
		want              bool
	}{
		"few":                        {"1claimed 1ready", "1", 2, false},
		"as many as are kept":        {"1claimed 1ready 1ready", "1", 2, true},
		"all are kept":               {"1claimed 1ready 1ready", "1", 0, false},
		"those before lost theirs":   {"1claimed 1ready 2claimed 2ready", "2", 2, false},
		"those after took its place": {"1claimed 2claimed 2ready 2ready", "1", 2, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := forgotten(steps(tt.steps), tt.generation, tt.kept); got != tt.want {
				t.Errorf("forgotten: %v", got)
			}
		})
	}
}

// TestPages: whatever comes and goes between two pages, each pod that is there all
// the time is shown once.
func TestPages(t *testing.T) {
	t.Parallel()
	entries := func(names string) []Entry {
		var all []Entry
		for name := range strings.FieldsSeq(names) {
			all = append(all, Entry{Record: events.Record{Pod: name, User: "u", Event: events.Ready}})
		}
		return all
	}
	names := func(entries []Entry) string {
		var all []string
		for _, e := range entries {
			all = append(all, e.Pod)
		}
		return strings.Join(all, " ")
	}
	odd := func(e Entry) bool { return e.Pod[0]%2 == 1 }
	every := func(Entry) bool { return true }
	tests := map[string]struct {
		then    []string // What is there when each page is asked for.
		limit   int
		matches func(Entry) bool
		want    []string
	}{
		"none":                   {[]string{""}, 2, every, []string{""}},
		"one page":               {[]string{"a b"}, 2, every, []string{"a b"}},
		"several":                {[]string{"a b c d e", "a b c d e", "a b c d e"}, 2, every, []string{"a b", "c d", "e"}},
		"the last page is full":  {[]string{"a b c d", "a b c d"}, 2, every, []string{"a b", "c d"}},
		"the cursor's pod goes":  {[]string{"a b c", "a c"}, 2, every, []string{"a b", "c"}},
		"others come in between": {[]string{"b d f", "a b c d e f g"}, 2, every, []string{"b d", "e f"}},
		"a filter":               {[]string{"a b c d e f", "a b c d e f"}, 2, odd, []string{"a c", "e"}},
		"a filter, no more":      {[]string{"a b c d"}, 2, odd, []string{"a c"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after := ""
			for i, there := range tt.then {
				cut, next := page(entries(there), after, tt.limit, tt.matches)
				if got := names(cut); got != tt.want[i] {
					t.Errorf("page %d = %q, want %q", i, got, tt.want[i])
				}
				if next == "" {
					if i != len(tt.then)-1 && i != len(tt.want)-1 {
						t.Errorf("no page after page %d", i)
					}
					return
				}
				var err error
				if after, err = parsePageToken(next); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
