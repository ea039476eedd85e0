package verdict

import (
	"slices"
	"strings"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
)

const (
	alice   = "alice@example.org"
	mallory = "mallory@example.org"
	pod     = "notebook-alice"
)

// moment is a time of the run, in seconds after its begin.
func moment(seconds float64) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

// scene is evidence in the making.
type scene struct {
	t *testing.T
	Evidence
}

// log appends to the log what a fact makes of the newest record of the pod.
func (s *scene) log(at float64, trace string, facts ...events.Fact) string {
	s.t.Helper()
	return s.logOf(pod, at, trace, facts...)
}

func (s *scene) logOf(name string, at float64, trace string, facts ...events.Fact) string {
	s.t.Helper()
	for _, fact := range facts {
		var before events.Record
		for _, e := range s.Log {
			if e.Record != nil && e.Record.Pod == name {
				before = *e.Record
			}
		}
		fact.At = moment(at)
		if fact.Generation == "" {
			fact.Generation = before.Generation
		}
		next, changed, err := events.Next(before, fact)
		if err != nil || !changed {
			s.t.Fatalf("%s after %s: changed %t, %v", fact.Kind, before.Event, changed, err)
		}
		n := uint64(len(s.Log) + 1)
		if next.Generation == "" {
			next.Generation = events.At(moment(0), n).String()
		}
		s.Log = append(s.Log, Entry{Sequence: n, At: moment(at), Trace: trace, Record: &next})
	}
	return s.Log[len(s.Log)-1].Record.Generation
}

func (s *scene) outcome(at float64, trace string, o events.Outcome) {
	o.Cluster = "main"
	s.Log = append(s.Log, Entry{Sequence: uint64(len(s.Log) + 1), At: moment(at), Trace: trace, Outcome: &o})
}

func (s *scene) ask(begun, ended float64, x Exchange) {
	x.Begun, x.Ended, x.Replica = moment(begun), moment(ended), "api-0"
	if x.User == "" {
		x.User = alice
	}
	if x.Status == 0 && !x.Abandoned {
		x.Status = 200
	}
	s.Exchanges = append(s.Exchanges, x)
}

func (s *scene) pod(at float64, kind, uid, command, generation string) {
	s.Pods = append(s.Pods, PodEvent{
		At: moment(at), Kind: kind, Pod: pod, UID: uid, Command: command, Generation: generation, User: alice, Created: moment(at).Truncate(time.Second),
	})
}

// whole is the evidence of a pod's life in which every promise was kept: it is
// claimed in second 1, ready in second 2, and gone in second 9.
func whole(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, Evidence: Evidence{
		Settled: true, Settling: time.Second,
		Limits: Limits{
			Request: 10 * time.Second, WatchCreate: 60 * time.Second, WatchDelete: 30 * time.Second, TimeoutDelete: 20 * time.Second,
			Stale: time.Second, Settling: time.Minute, PullBackOffs: 3,
		},
		Quiet: &Quiet{For: time.Second, Requests: map[string]int{"PUT leases": 2, "LIST pods": 0}},
	}}
	s.outcome(1, "t1", events.Outcome{Verdict: events.Accepted, Command: "c1", User: alice, Pod: pod})
	g := s.log(1, "t1", eventstest.Claim(pod, alice, "c1"))
	s.log(1.2, "t1", eventstest.License(g), eventstest.Launch(g))
	s.pod(1.3, Added, "u1", "c1", g)
	s.log(1.4, "t1", eventstest.Launched(g, "u1"))
	s.log(2, "t1", eventstest.Observe(g, eventstest.Ready("u1", "7")))
	s.pod(2, Changed, "u1", "c1", g)
	s.ask(0.9, 1.5, Exchange{Endpoint: Create, Pod: pod, Trace: "t1"})
	s.ask(1.6, 2.1, Exchange{Endpoint: WatchCreate, Pod: pod, Yes: true})
	s.ask(3, 3.1, Exchange{Endpoint: WatchCreate, Pod: pod, Yes: true})
	s.ask(3, 3.1, Exchange{Endpoint: WatchCreate, Pod: pod, User: mallory})
	s.ask(3, 3.1, Exchange{Endpoint: Delete, Pod: pod, User: mallory, Status: 404, Code: "NOT_FOUND", Message: "no"})
	s.ask(3, 3.1, Exchange{Endpoint: WatchDelete, Pod: pod, User: mallory, Yes: true})
	s.ask(3, 3.1, Exchange{Endpoint: WatchDelete, Pod: pod})
	s.ask(3, 3.1, Exchange{Endpoint: GetPods, Pods: []Listed{{pod, alice, g}}})
	s.log(8, "", eventstest.Delete(g))
	s.ask(7.9, 8.1, Exchange{Endpoint: Delete, Pod: pod, Yes: true})
	s.pod(8.5, Deleted, "u1", "c1", g)
	s.log(9, "", eventstest.Gone(g))
	s.Probes = append(s.Probes, Probe{At: moment(9.1), Pod: pod, Generation: g})
	s.ask(8.2, 9.1, Exchange{Endpoint: WatchDelete, Pod: pod, Yes: true})
	s.ask(9.5, 9.6, Exchange{Endpoint: WatchCreate, Pod: pod})
	// A create that came to nothing.
	s.outcome(10, "t2", events.Outcome{Verdict: events.Expiry, Command: "c2", User: alice, Reason: events.Expired, Message: "too late"})
	s.ask(5, 10, Exchange{Endpoint: Create, Trace: "t2", Status: 503, Code: "EXPIRED", Message: "too late"})
	s.ask(5, 300, Exchange{Endpoint: WatchCreate, Pod: pod, Abandoned: true})
	return s
}

// generation is that of the whole scene's pod.
func (s *scene) generation() string { return s.Log[1].Record.Generation }

func TestCheck(t *testing.T) {
	t.Parallel()
	const forever = 400
	for name, tc := range map[string]struct {
		happens func(s *scene)
		want    int // The statement that is broken, 0 for none.
		says    string
	}{
		"all is well": {func(*scene) {}, 0, ""},

		"two pods of a command":       {func(s *scene) { s.pod(1.35, Added, "u2", "c1", s.generation()) }, OnePod, "made 2 pods"},
		"a pod of nobody":             {func(s *scene) { s.pod(3, Added, "u2", "", "") }, OnePod, "no command"},
		"a pod of another generation": {func(s *scene) { s.pod(3, Added, "u2", "c9", "x-1") }, OnePod, "does not know"},
		"a pod after it expired":      {func(s *scene) { s.pod(11, Added, "u2", "c2", s.generation()) }, OnePod, "command c2 is expired"},
		"claimed after it expired":    {func(s *scene) { s.log(11, "t2", eventstest.Claim(pod, alice, "c2")); s.end(12) }, OnePod, "503"},
		"claimed twice": {func(s *scene) {
			s.append(11, func(r *events.Record) { r.Pod, r.Generation = "other", "g2" })
		}, OnePod, "2 claims"},
		"made after a 503": {func(s *scene) {
			s.ask(0.9, 1.5, Exchange{Endpoint: Create, Trace: "t1", Status: 503, Code: "UNAVAILABLE", Message: "x"})
		}, OnePod, "answered 503"},
		"lived on after a refusal": {func(s *scene) {
			s.ask(0.9, 1.5, Exchange{Endpoint: Create, Trace: "t1", Status: 422, Code: "POD_REJECTED", Message: "x"})
		}, OnePod, "lived on"},
		"one request, two commands": {func(s *scene) {
			s.outcome(11, "t2", events.Outcome{Verdict: events.Refused, Command: "c3", User: alice, Reason: events.NameExhausted, Message: "x"})
		}, OnePod, "became 2 commands"},

		"an order that is not allowed": {func(s *scene) {
			s.Log[4].Record.Event, s.Log[5].Record.Event = s.Log[5].Record.Event, s.Log[4].Record.Event
		}, OneOutcome, "must not follow"},
		"a record twice":      {func(s *scene) { s.Log = slices.Insert(s.Log, 6, s.Log[5]) }, OneOutcome, "must not follow"},
		"a record is missing": {func(s *scene) { s.Log = slices.Delete(s.Log, 4, 5) }, OneOutcome, "must not follow"},
		"a record by nobody":  {func(s *scene) { s.Log[5].Record.Image = "other" }, OneOutcome, "must not follow"},
		"no way back":         {func(s *scene) { s.append(9.5, func(r *events.Record) { r.Event = events.Ready }) }, OneOutcome, "must not follow"},
		"decided twice": {func(s *scene) {
			s.outcome(11, "t2", events.Outcome{Verdict: events.Accepted, Command: "c2", User: alice, Pod: pod})
		}, OneOutcome, "must not follow expired"},
		"accepted and forgotten": {func(s *scene) {
			s.outcome(11, "", events.Outcome{Verdict: events.Accepted, Command: "c3", User: alice, Pod: pod})
		}, OneOutcome, "never claimed"},
		"no outcome":         {func(s *scene) { s.log(11, "", eventstest.Claim(pod, alice, "c3")) }, OneOutcome, "no outcome"},
		"a message was lost": {func(s *scene) { s.Lost = []uint64{3} }, OneOutcome, "message 3"},
		"nobody can read it": {func(s *scene) { s.Log = append(s.Log, Entry{Sequence: 99, Unreadable: "x"}) }, OneOutcome, "message 99"},
		"the name is corrected": {func(s *scene) {
			s.Log = slices.Insert(s.Log, 0, Entry{At: moment(0.9), Trace: "t1", Outcome: &events.Outcome{
				Cluster: "main", Verdict: events.Accepted, Command: "c1", User: alice, Pod: "lost",
			}})
		}, 0, ""},

		"a wrong true": {func(s *scene) { s.ask(1, 1.3, Exchange{Endpoint: WatchCreate, Pod: pod, Yes: true}) }, NobodyWaits, "was not ready"},
		"true of another time": {
			func(s *scene) { s.ask(12, 13, Exchange{Endpoint: WatchCreate, Pod: pod, Yes: true}) },
			NobodyWaits, "was not ready",
		},
		"a true that lags":              {func(s *scene) { s.ask(8.5, 8.6, Exchange{Endpoint: WatchCreate, Pod: pod, Yes: true}) }, NobodyWaits, "was not ready"},
		"a wrong false":                 {func(s *scene) { s.ask(1.6, 2.1, Exchange{Endpoint: WatchCreate, Pod: pod}) }, NobodyWaits, "neither failed nor removed"},
		"a false to a wait":             {func(s *scene) { s.ask(3, 8.1, Exchange{Endpoint: WatchCreate, Pod: pod}) }, 0, ""},
		"a false before it was claimed": {func(s *scene) { s.ask(0.5, 1.1, Exchange{Endpoint: WatchCreate, Pod: pod}) }, 0, ""},
		"too early deleted":             {func(s *scene) { s.ask(8.2, 8.9, Exchange{Endpoint: WatchDelete, Pod: pod, Yes: true}) }, NobodyWaits, "was not gone"},
		"not deleted, though":           {func(s *scene) { s.ask(8.2, 8.9, Exchange{Endpoint: WatchDelete, Pod: pod}) }, NobodyWaits, "being deleted or gone"},
		"not deleted in time":           {func(s *scene) { s.ask(8.2, 28.3, Exchange{Endpoint: WatchDelete, Pod: pod}) }, 0, ""},
		"a delete of nothing":           {func(s *scene) { s.ask(3, 4, Exchange{Endpoint: Delete, Pod: pod, Yes: true}) }, NobodyWaits, "nobody was deleting"},
		"a pod denied": {func(s *scene) {
			s.ask(3, 4, Exchange{Endpoint: Delete, Pod: pod, Status: 404, Code: "NOT_FOUND", Message: "x"})
		}, NobodyWaits, "was there"},
		"an unclaimed name": {func(s *scene) { s.ask(0.5, 0.9, Exchange{Endpoint: Create, Pod: pod, Trace: "t1"}) }, NobodyWaits, "had not claimed"},
		"too long":          {func(s *scene) { s.ask(10, forever, Exchange{Endpoint: WatchCreate, Pod: pod}) }, NobodyWaits, "more than"},
		"given up":          {func(s *scene) { s.ask(10, 11, Exchange{Endpoint: WatchCreate, Pod: pod, Left: true}) }, NobodyWaits, "more than"},

		"there after gone": {func(s *scene) { s.Probes[0].Found = s.generation() }, GoneIsGone, "is in the cluster"},
		"another there":    {func(s *scene) { s.Probes[0].Found = "other" }, 0, ""},
		"made after gone":  {func(s *scene) { s.pod(12, Added, "u1", "c1", s.generation()) }, GoneIsGone, "then pod u1 was made"},
		"deleted, and nobody asked": {func(s *scene) {
			s.Exchanges = slices.DeleteFunc(s.Exchanges, func(x Exchange) bool { return x.Endpoint == Delete && x.User == alice })
		}, GoneIsGone, "nobody asked"},
		"deleted, and its user asked in an earlier life": {func(s *scene) {
			s.Exchanges = slices.DeleteFunc(s.Exchanges, func(x Exchange) bool { return x.Endpoint == Delete && x.User == alice })
			s.ask(0.1, 0.2, Exchange{Endpoint: Delete, Pod: pod, Status: 404, Code: "NOT_FOUND", Message: "x"})
		}, GoneIsGone, "nobody asked"},
		"deleted, and its user has not heard of it": {func(s *scene) {
			s.Exchanges = slices.DeleteFunc(s.Exchanges, func(x Exchange) bool { return x.Endpoint == Delete && x.User == alice })
			s.ask(5, 6, Exchange{Endpoint: Delete, Pod: pod, Abandoned: true})
		}, 0, ""},
		"never gone":      {func(s *scene) { s.Log = slices.Delete(s.Log, 7, 8) }, GoneIsGone, "not gone"},
		"a pod is left":   {func(s *scene) { s.Left.Pods = []string{pod + " uid u1"} }, GoneIsGone, "left over: pod"},
		"a claim is left": {func(s *scene) { s.Left.Belongings = []string{"claim user-storage-alice"} }, GoneIsGone, "left over: belonging"},
		"a timer is left": {func(s *scene) { s.Left.Commands = []string{"cmd.main.timer.c1.create"} }, GoneIsGone, "left over: command"},
		"a dead letter":   {func(s *scene) { s.Left.DeadLetters = []string{"dead.main.launch.c1"} }, GoneIsGone, "left over: dead letter"},

		"another's pod listed": {func(s *scene) {
			s.ask(3, 4, Exchange{Endpoint: GetPods, User: mallory, Pods: []Listed{{pod, alice, s.generation()}}})
		}, NobodyElses, "shows a pod of"},
		"another's pod as one's own": {func(s *scene) {
			s.ask(3, 4, Exchange{Endpoint: GetPods, User: mallory, Pods: []Listed{{pod, mallory, s.generation()}}})
		}, NobodyElses, "shows a pod of"},
		"a pod of no log": {func(s *scene) {
			s.ask(3, 4, Exchange{Endpoint: GetPods, Pods: []Listed{{pod, alice, "x-1"}}})
		}, NobodyElses, "does not know"},
		"a pod is not shown":            {func(s *scene) { s.ask(3, 4, Exchange{Endpoint: GetPods}) }, NobodyWaits, "does not show"},
		"a pod is not shown yet":        {func(s *scene) { s.ask(1.9, 2, Exchange{Endpoint: GetPods}) }, 0, ""},
		"a pod is not shown any more":   {func(s *scene) { s.ask(8.9, 9.2, Exchange{Endpoint: GetPods}) }, 0, ""},
		"a pod is not shown to another": {func(s *scene) { s.ask(3, 4, Exchange{Endpoint: GetPods, User: mallory}) }, 0, ""},
		"another's pod watched": {
			func(s *scene) { s.ask(3, 4, Exchange{Endpoint: WatchCreate, Pod: pod, User: mallory, Yes: true}) },
			NobodyElses, "whose pod it is not",
		},
		"another's pod deleted": {
			func(s *scene) { s.ask(8, 9, Exchange{Endpoint: Delete, Pod: pod, User: mallory, Yes: true}) },
			NobodyWaits, "nobody was deleting",
		},
		"another's pod made": {func(s *scene) {
			s.ask(0.9, 1.5, Exchange{Endpoint: Create, Pod: pod, User: mallory, Trace: "t1"})
		}, NobodyElses, "named a pod of"},

		"failed without a reason": {func(s *scene) {
			s.log(11, "", eventstest.Claim(pod, alice, "c3"))
			s.log(12, "", events.Fact{Kind: events.FactFail, Message: "x"})
			s.end(13)
		}, ReasonsNamed, "failed with reason"},
		"failed without a word": {func(s *scene) {
			s.log(11, "", eventstest.Claim(pod, alice, "c3"))
			s.log(12, "", events.Fact{Kind: events.FactFail, Reason: events.Timeout})
			s.end(13)
		}, ReasonsNamed, "failed with reason"},
		"failed with reason and word": {func(s *scene) {
			s.log(11, "", eventstest.Claim(pod, alice, "c3"))
			s.log(12, "", events.Fact{Kind: events.FactFail, Reason: events.Timeout, Message: "x"})
			s.end(13)
		}, 0, ""},
		"refused without a reason": {func(s *scene) {
			s.outcome(11, "", events.Outcome{Verdict: events.Refused, Command: "c3", User: alice, Message: "x"})
		}, ReasonsNamed, "outcome refused"},
		"an answer of no list": {func(s *scene) {
			s.ask(3, 4, Exchange{Endpoint: GetPods, Status: 500, Code: "OOPS", Message: "x"})
		}, ReasonsNamed, "answered 500"},

		"a list in between": {func(s *scene) { s.Quiet.Requests["LIST pods"] = 1 }, QuietSteady, "1 times LIST pods"},
		"nobody looked":     {func(s *scene) { s.Quiet = nil }, 0, ""},
		"never quiet":       {func(s *scene) { s.Settled = false }, Progress, "still moved"},
		"late quiet":        {func(s *scene) { s.Settling = time.Hour }, Progress, "1h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := whole(t)
			tc.happens(s)
			found := Check(s.Evidence)
			if tc.want == 0 {
				if len(found) > 0 {
					t.Errorf("broken: %+v", found)
				}
				return
			}
			if !slices.ContainsFunc(found, func(b Breach) bool { return b.Statement == tc.want && strings.Contains(b.Text, tc.says) }) {
				t.Errorf("found %+v, want statement %d with %q", found, tc.want, tc.says)
			}
			if Statement(tc.want) == "" {
				t.Errorf("statement %d says nothing", tc.want)
			}
		})
	}
}

// end takes the newest life of the pod to its end.
func (s *scene) end(at float64) {
	s.log(at, "", events.Fact{Kind: events.FactDelete}, events.Fact{Kind: events.FactGone})
}

// append adds a changed copy of the newest record.
func (s *scene) append(at float64, change func(*events.Record)) {
	for _, e := range slices.Backward(s.Log) {
		if e.Record != nil {
			r := *e.Record
			change(&r)
			s.Log = append(s.Log, Entry{Sequence: uint64(len(s.Log) + 1), At: moment(at), Record: &r})
			return
		}
	}
}

// TestHistory tells of everything that has to do with a breach's pod, in the
// order of time, and of nothing else.
func TestHistory(t *testing.T) {
	t.Parallel()
	s := whole(t)
	s.Faults = []Fault{{1, "kill", "creator-0", moment(1.25), moment(1.35)}, {2, "kill", "creator-0", moment(300), moment(301)}}
	s.ask(3, 4, Exchange{Endpoint: WatchCreate, Pod: "another"})
	text := History(s.Evidence, Breach{Statement: 3, Pod: pod, At: moment(2)})
	for _, want := range []string{"create_pod", "outcome accepted", "claimed", "kube  added", "ready", "fault 1 kill", "gone", "look"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing of %q in\n%s", want, text)
		}
	}
	for _, never := range []string{"another", "fault 2"} {
		if strings.Contains(text, never) {
			t.Errorf("%q in\n%s", never, text)
		}
	}
	lines := strings.Split(text, "\n")
	if !slices.IsSorted(lines[:len(lines)-1]) && !slices.IsSortedFunc(lines[:len(lines)-1], func(a, b string) int { return strings.Compare(a[:14], b[:14]) }) {
		t.Errorf("not in the order of time:\n%s", text)
	}
	if History(s.Evidence, Breach{}) != "" {
		t.Error("a history of no pod")
	}
}
