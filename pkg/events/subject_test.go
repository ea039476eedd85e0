package events_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
)

func TestToken(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ name, want string }{
		"plain":             {"jupyter-alice_2", "jupyter-alice_2"},
		"a mail address":    {"alice@dtu.dk", "alice@dtu%2Edk"},
		"a project":         {"project:0f7c", "project%3A0f7c"},
		"empty":             {"", "%"},
		"a percent sign":    {"%", "%25"},
		"written like this": {"%2E", "%252E"},
		"wildcards":         {"a.*.>", "a%2E%2A%2E%3E"},
		"spaces":            {"a b\tc\r\n", "a%20b%09c%0D%0A"},
		"not ASCII":         {"ø", "%C3%B8"},
		"zero":              {"\x00", "%00"},
		"not UTF-8":         {"\xff", "%FF"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := events.Token(tc.name); got != tc.want {
				t.Errorf("token %q, want %q", got, tc.want)
			}
			if got, err := events.ParseToken(tc.want); err != nil || got != tc.name {
				t.Errorf("read back %q, error %v, want %q", got, err, tc.name)
			}
		})
	}
	for _, token := range []string{"", "a.b", "*", ">", "a b", "%2", "%2e", "%G0", "%41", "%%", "a%", "ø"} {
		if got, err := events.ParseToken(token); !errors.Is(err, events.ErrSubject) {
			t.Errorf("token %q: %q, error %v, want ErrSubject", token, got, err)
		}
	}
}

func TestSubjects(t *testing.T) {
	t.Parallel()
	got := map[string]string{
		"pod":         events.PodSubject("main", "p-1", "project:0f7c", events.Ready),
		"pod filter":  events.PodFilter("main", "p.1"),
		"claims":      events.PodClaims("main", "p.1"),
		"user":        events.UserFilter("main", "a*b"),
		"cluster":     events.ClusterFilter("eu.north"),
		"gone":        events.EventFilter("main", events.Gone),
		"outcome":     events.OutcomeSubject("main", command),
		"outcomes":    events.OutcomeFilter("main"),
		"mark":        events.MarkSubject("main"),
		"command":     events.CommandSubject("main", events.StageLaunch, command),
		"commands":    events.CommandFilter("main", events.StageLaunch),
		"timer":       events.TimerSubject("main", command, events.TimerCreate),
		"timers":      events.TimerFilter("main", command),
		"dead letter": events.DeadLetterSubject("main", events.StageLaunch, "cmd.main.x y"),
		"heartbeat":   events.HeartbeatSubject("eu.north"),
		"storage":     events.StorageSubject("main", "a.b@c"),
		"storages":    events.StorageFilter("main"),
		"audit":       events.AuditSubject("main", "silo.1", "a.>", "create_pod"),
		"nobody's":    events.AuditSubject("main", "", "", "get_pods"),
		"tokens":      events.TokenSubject("main", "p-1", "17-3"),
		"all tokens":  events.TokenFilter("main"),
		"bound":       events.BoundSubject("main"),
		"own":         events.OwnFilter("main", "", "a.b@c"),
		"confirm":     events.ConfirmSubject("main"),
	}
	want := map[string]string{
		"pod":         "pods.main.p-1.project%3A0f7c.ready",
		"pod filter":  "pods.main.p%2E1.*.*",
		"claims":      "pods.main.p%2E1.*.claimed",
		"user":        "pods.main.*.a%2Ab.*",
		"cluster":     "pods.eu%2Enorth.>",
		"gone":        "pods.main.*.*.gone",
		"outcome":     "outcomes.main." + command,
		"outcomes":    "outcomes.main.*",
		"mark":        "marks.main.complete",
		"command":     "cmd.main.launch." + command,
		"commands":    "cmd.main.launch.*",
		"timer":       "cmd.main.timer." + command + ".create",
		"timers":      "cmd.main.timer." + command + ".*",
		"dead letter": "dead.main.launch.cmd%2Emain%2Ex%20y",
		"heartbeat":   "berth.heartbeat.eu%2Enorth",
		"storage":     "storage.main.a%2Eb@c",
		"storages":    "storage.main.*",
		"audit":       "audit.main.silo%2E1.a%2E%3E.create_pod",
		"nobody's":    "audit.main.%.%.get_pods",
		"tokens":      "$KV.BERTH_TOKENS.main.p-1.17-3",
		"all tokens":  "$KV.BERTH_TOKENS.main.*.*",
		"bound":       "berth.bound.main",
		"own":         "pods.main.%.a%2Eb@c.*",
		"confirm":     "berth.confirm.main",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("subjects (-want +got):\n%s", diff)
	}
	streams := map[string][]string{
		events.LogStream: events.LogSubjects(), events.CommandStream: events.CommandSubjects(), events.DeadLetterStream: events.DeadLetterSubjects(),
		events.AuditStream: events.AuditSubjects(), events.TokenStream: events.TokenSubjects(),
	}
	wantStreams := map[string][]string{
		"LOG": {"pods.>", "outcomes.>", "storage.>", "marks.>"}, "COMMANDS": {"cmd.>"}, "DEAD_LETTERS": {"dead.>"},
		"AUDIT": {"audit.>"}, "KV_BERTH_TOKENS": {"$KV.BERTH_TOKENS.>"},
	}
	if diff := cmp.Diff(wantStreams, streams); diff != "" {
		t.Errorf("streams (-want +got):\n%s", diff)
	}
	if c, u, err := events.ParseStorageSubject(got["storage"]); c != "main" || u != "a.b@c" || err != nil {
		t.Errorf("storage subject read as %q, %q, %v", c, u, err)
	}
	if c, p, g, err := events.ParseTokenSubject(got["tokens"]); c != "main" || p != "p-1" || g != "17-3" || err != nil {
		t.Errorf("token subject read as %q, %q, %q, %v", c, p, g, err)
	}
	for _, subject := range []string{"$KV.OTHER.main.p.1-1", "$KV.BERTH_TOKENS.main.p", "$KV.BERTH_TOKENS.main.p.1-1.x", "tokens.main.p.1"} {
		if _, _, _, err := events.ParseTokenSubject(subject); !errors.Is(err, events.ErrSubject) {
			t.Errorf("%s: error %v", subject, err)
		}
	}
}

// matches says whether a NATS subject matches a filter.
func matches(filter, subject string) bool {
	f, s := strings.Split(filter, "."), strings.Split(subject, ".")
	for i, token := range f {
		if token == ">" {
			return len(s) > i
		}
		if i >= len(s) || token != "*" && token != s[i] {
			return false
		}
	}
	return len(f) == len(s)
}

func TestFiltersMatchTheirsOnly(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "a.b", "*", ">", "", "a b", "%", "claimed", "gone", "timer"}
	for _, c := range names {
		for _, p := range names {
			for _, u := range names {
				for _, e := range []events.Type{events.Claimed, events.Gone} {
					subject := events.PodSubject(c, p, u, e)
					for filter, want := range map[string]bool{
						events.ClusterFilter("a"):            c == "a",
						events.EventFilter("a", events.Gone): c == "a" && e == events.Gone,
						events.PodFilter("a", "b"):           c == "a" && p == "b",
						events.PodClaims("a", "b"):           c == "a" && p == "b" && e == events.Claimed,
						events.UserFilter("a", "*"):          c == "a" && u == "*",
						events.OutcomeFilter("a"):            false,
						events.MarkSubject("a"):              false,
					} {
						if got := matches(filter, subject); got != want {
							t.Errorf("%s matches %s: %t, want %t", filter, subject, got, want)
						}
					}
				}
			}
		}
	}
	for _, stage := range events.Stages() {
		filter := events.CommandFilter("a", stage)
		for _, id := range names {
			if !matches(filter, events.CommandSubject("a", stage, id)) || matches(filter, events.CommandSubject("b", stage, id)) {
				t.Errorf("%s does not match its own commands only", filter)
			}
			if timer := events.TimerSubject("a", id, events.TimerDelete); matches(filter, timer) || !matches(events.TimerFilter("a", id), timer) {
				t.Errorf("the timer %s is consumed, or not found", timer)
			}
		}
	}
}

func TestParseSubjects(t *testing.T) {
	t.Parallel()
	key, err := events.ParsePodSubject("pods.main.p%2E1.alice@dtu%2Edk.of-a-later-version")
	want := events.Key{Cluster: "main", Pod: "p.1", User: "alice@dtu.dk", Event: "of-a-later-version"}
	if diff := cmp.Diff(want, key); diff != "" || err != nil {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
	for _, s := range []string{
		"", "pods", "pods.main.p.u", "pods.main.p.u.ready.now", "outcomes.main.p.u.ready", "pods.main..u.ready",
		"pods.main.*.u.ready", "pods.main.p.u.>", "Pods.main.p.u.ready", "pods.main.p%2e1.u.ready", "pods.main.p\x00.u.ready",
	} {
		if key, err := events.ParsePodSubject(s); !errors.Is(err, events.ErrSubject) || key != (events.Key{}) {
			t.Errorf("%q: %v, error %v, want ErrSubject", s, key, err)
		}
	}
	cluster, id, err := events.ParseOutcomeSubject("outcomes.eu%2Enorth.c-1")
	if cluster != "eu.north" || id != "c-1" || err != nil {
		t.Errorf("outcome of %q in %q, error %v", id, cluster, err)
	}
	cluster, stage, id, err := events.ParseCommandSubject("cmd.main.launch.c-1")
	if cluster != "main" || stage != events.StageLaunch || id != "c-1" || err != nil {
		t.Errorf("command %q of stage %q in %q, error %v", id, stage, cluster, err)
	}
	for _, s := range []string{"", "cmd.main.launch", "outcomes.main", "cmd.main.timer.c-1.create", "outcomes.main.c.1", "cmd.main.lau nch.c"} {
		_, _, outcomeErr := events.ParseOutcomeSubject(s)
		_, _, _, commandErr := events.ParseCommandSubject(s)
		if !errors.Is(outcomeErr, events.ErrSubject) || !errors.Is(commandErr, events.ErrSubject) {
			t.Errorf("%q: errors %v, %v, want ErrSubject", s, outcomeErr, commandErr)
		}
	}
}

func TestPosition(t *testing.T) {
	t.Parallel()
	p := events.At(at(0), 42)
	if got, want := p.String(), "1767323045000000000-42"; got != want {
		t.Errorf("position %s, want %s", got, want)
	}
	if back, err := events.ParsePosition(p.String()); err != nil || back != p {
		t.Errorf("read back %v, error %v, want %v", back, err, p)
	}
	for _, s := range []string{"", "42", "-", "1-", "-1", "1-x", "x-1", "1--1", "1-2-3", "99999999999999999999-1", "1-99999999999999999999"} {
		if got, err := events.ParsePosition(s); err == nil {
			t.Errorf("%q is read as %v", s, got)
		}
	}
}
