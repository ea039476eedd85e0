package events_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/pkg/events"
)

// Every name has one token, no two share one, and none adds a token or a
// wildcard to a subject.
func FuzzToken(f *testing.F) {
	for _, s := range []string{"", "alice@dtu.dk", "%", "%2E", "a.*.>", "\xff", "ø", "project:0f7c", "a b"} {
		f.Add(s, "alice")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		token := events.Token(a)
		if token == "" || strings.ContainsAny(token, ".*> \t\r\n\x00") || strings.Contains(token, "$") {
			t.Errorf("%q becomes %q", a, token)
		}
		if back, err := events.ParseToken(token); err != nil || back != a {
			t.Errorf("%q becomes %q, read back as %q, error %v", a, token, back, err)
		}
		if (token == events.Token(b)) != (a == b) {
			t.Errorf("%q and %q share a token", a, b)
		}
		// Read as a token, a text is refused or is written just so.
		if name, err := events.ParseToken(b); err == nil && events.Token(name) != b {
			t.Errorf("%q is read as %q, which is written %q", b, name, events.Token(name))
		} else if err != nil && !errors.Is(err, events.ErrSubject) {
			t.Errorf("%q: error %v, want ErrSubject", b, err)
		}
	})
}

// Whatever the cluster, the pod and the user are called, the subject says so
// and only so.
func FuzzPodSubject(f *testing.F) {
	f.Add("main", "jupyter-alice", "alice@dtu.dk", "ready")
	f.Add("eu.north", "*", ">", "")
	f.Add("", "%", "project:0f7c", "a.b")
	f.Add("pods.main.p.u.ready", "pods.main.*.u.ready", "\xff", "gone")
	f.Fuzz(func(t *testing.T, cluster, pod, user, event string) {
		subject := events.PodSubject(cluster, pod, user, events.Type(event))
		if strings.Count(subject, ".") != 4 || strings.ContainsAny(subject, "*> \t\r\n") || !strings.HasPrefix(subject, "pods.") {
			t.Errorf("subject %q", subject)
		}
		want := events.Key{Cluster: cluster, Pod: pod, User: user, Event: events.Type(event)}
		if key, err := events.ParsePodSubject(subject); err != nil || key != want {
			t.Errorf("%q is read as %v, error %v, want %v", subject, key, err, want)
		}
		for _, filter := range []string{events.ClusterFilter(cluster), events.PodFilter(cluster, pod), events.UserFilter(cluster, user)} {
			if !matches(filter, subject) {
				t.Errorf("%s does not match %s", filter, subject)
			}
		}
		// A text that is taken for a subject is the subject of what it says.
		if key, err := events.ParsePodSubject(cluster); err == nil && events.PodSubject(key.Cluster, key.Pod, key.User, key.Event) != cluster {
			t.Errorf("%q is read as %v", cluster, key)
		}
		if c, id, err := events.ParseOutcomeSubject(events.OutcomeSubject(cluster, pod)); err != nil || c != cluster || id != pod {
			t.Errorf("the outcome of %q in %q is read as that of %q in %q, error %v", pod, cluster, id, c, err)
		}
		c, s, id, err := events.ParseCommandSubject(events.CommandSubject(cluster, events.Stage(event), pod))
		if err != nil || c != cluster || string(s) != event || id != pod {
			t.Errorf("the command %q is read as %q of %q in %q, error %v", pod, id, s, c, err)
		}
	})
}

// What can be read can be written, and means the same then.
func FuzzParse(f *testing.F) {
	seed(f, "events")
	const head = `{"specversion":"1.0","id":"1","source":"s","time":"2026-01-02T03:04:05Z","type":"berth.`
	for _, rest := range []string{
		`pod.ready.v1","data":{"event":"ready","cluster":"c","pod_name":"p","user_id":"u","x":[1, 2],"Observed":{"y":{}}}}`,
		`pod.gone.v1","data":{"event":"gone","cluster":"c","pod_name":"p","user_id":"u","USER_ID":"v","licenses":[],"ready_at":"2026-01-02T03:04:05+09:30"}}`,
		`outcome.refused.v1","data":{"verdict":"refused","cluster":"c","command_id":"1","message":"<>"}}`,
		`mark.complete.v1","data":{"cluster":"c","created":1,"pods":2}}`,
	} {
		f.Add([]byte(head + rest))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := events.Parse(b)
		if err != nil {
			if !errors.Is(err, events.ErrMalformed) && !errors.Is(err, events.ErrUnknownType) && !errors.Is(err, events.ErrTooLarge) {
				t.Errorf("error %v is none of the codec's", err)
			}
			return
		}
		first, err := e.Marshal()
		if errors.Is(err, events.ErrTooLarge) {
			return // Escapes took it over the limit.
		}
		if err != nil {
			t.Fatalf("was read and cannot be written: %v", err)
		}
		back, err := events.Parse(first)
		if err != nil {
			t.Fatalf("was written and cannot be read: %v: %s", err, first)
		}
		second, err := back.Marshal()
		if err != nil || string(first) != string(second) {
			t.Errorf("means something else when it is written again, error %v:\n%s\n%s", err, first, second)
		}
		if e.Record != nil {
			subject := events.PodSubject(e.Record.Cluster, e.Record.Pod, e.Record.User, e.Record.Event)
			if len(subject) > events.MaxSubject {
				t.Errorf("subject of %d bytes", len(subject))
			}
		}
	})
}

// What can be read can be written, and means the same then.
func FuzzParseCommand(f *testing.F) {
	seed(f, "commands")
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := events.ParseCommand(b)
		if err != nil {
			if !errors.Is(err, events.ErrMalformed) && !errors.Is(err, events.ErrStage) && !errors.Is(err, events.ErrTooLarge) {
				t.Errorf("error %v is none of the codec's", err)
			}
			return
		}
		first, err := c.Marshal()
		if errors.Is(err, events.ErrTooLarge) {
			return // Escapes took it over the limit.
		}
		if err != nil {
			t.Fatalf("was read and cannot be written: %v", err)
		}
		back, err := events.ParseCommand(first)
		if err != nil {
			t.Fatalf("was written and cannot be read: %v: %s", err, first)
		}
		second, err := back.Marshal()
		if err != nil || string(first) != string(second) || back.Subject() != c.Subject() {
			t.Errorf("means something else when it is written again, error %v:\n%s\n%s", err, first, second)
		}
	})
}

// seed adds the golden files of a folder.
func seed(f *testing.F, folder string) {
	f.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", folder, "*.json"))
	if err != nil || len(names) == 0 {
		f.Fatalf("no seeds in %s, error %v", folder, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}
