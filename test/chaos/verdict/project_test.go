package verdict

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
)

const (
	project  = "7f000000-0000-4000-8000-000000000001"
	limited  = "5e000000-0000-4000-8000-000000000001"
	plain    = "5e000000-0000-4000-8000-000000000002"
	projects = "project-" + project
	its      = "project:" + project
)

// household is the evidence of a project's life in which every promise was kept. It is started in second 1 and ready in second 2; a license
// has it restarted in second 4, and it is ready again in second 5; it is stopped in second 8 and gone in second 9. The books were looked at
// in the seconds 6 and 10.
func household(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, Evidence: Evidence{
		Settled: true, Settling: time.Second,
		Limits: Limits{
			Request: 10 * time.Second, WatchCreate: 60 * time.Second, WatchDelete: 30 * time.Second, TimeoutDelete: 20 * time.Second,
			Stale: time.Second, Settling: time.Minute, Hub: time.Minute, PullBackOffs: 3,
		},
		Holders: []Holders{{moment(1.2), limited, 1, 1}, {moment(9.1), limited, 1, 0}},
	}}
	first := s.life(1, "c1", "u1")
	s.ask(0.9, 2.5, Exchange{Endpoint: StartProject, Status: http.StatusCreated, Pod: projects, User: its, Generation: first, Ready: true})
	s.ask(3, 3.1, Exchange{Endpoint: PutLicense, License: plain})
	s.logOf(projects, 3.5, "", events.Fact{Kind: events.FactDelete, Restart: &events.Restart{Command: "c2", Cause: events.CauseLicenses}})
	s.projectPod(3.7, Deleted, "u1")
	s.logOf(projects, 3.8, "", events.Fact{Kind: events.FactGone})
	second := s.life(4, "c2", "u2")
	s.Books = append(s.Books, Books{
		At: moment(6), Sequence: uint64(len(s.Log)),
		Seats:    []Seat{{License: limited, Pod: projects, Generation: second}, {License: plain, Pod: projects, Generation: second}},
		Uses:     []Seat{{License: limited, Pod: projects, Generation: second}, {License: plain, Pod: projects, Generation: second}},
		Projects: []ProjectRow{{ID: project, State: "running", Licenses: map[string]string{limited: "active", plain: "active"}}},
		Licenses: []LicenseRow{
			{ID: limited, Valid: true, Limit: 1, Label: "a", Edition: "3"}, {ID: plain, Valid: true, Label: "b", Edition: "7"}, {ID: "another", Valid: true, Label: "c"},
		},
		Pods: []ProjectPod{{Pod: projects, UID: "u2", Project: project, Generation: second, Labels: map[string]string{"a": "3", "b": "7"}}},
	})
	s.ask(7.9, 8.1, Exchange{Endpoint: HubStop, Pod: projects, User: its})
	s.logOf(projects, 8, "", events.Fact{Kind: events.FactDelete, Stop: true})
	s.projectPod(8.5, Deleted, "u2")
	s.logOf(projects, 9, "", events.Fact{Kind: events.FactGone})
	s.Books = append(s.Books, Books{
		At: moment(10), Sequence: uint64(len(s.Log)), Projects: []ProjectRow{{ID: project, State: "opened", Licenses: map[string]string{limited: "active", plain: "active"}}},
		Licenses: s.Books[0].Licenses,
	})
	return s
}

// life is a life of the project's pod until it is ready, a second after its claim.
func (s *scene) life(at float64, command, uid string) (generation string) {
	s.t.Helper()
	g := s.logOf(projects, at, "", eventstest.Claim(projects, its, command))
	s.logOf(projects, at+0.2, "", events.Fact{
		Kind: events.FactLicense, Generation: g, Licenses: []events.License{{ID: limited, Status: "active"}, {ID: plain, Status: "active"}},
		Licensing: &events.Licensing{PodDigest: uid},
	}, eventstest.Launch(g))
	s.Pods = append(s.Pods, PodEvent{At: moment(at + 0.3), Kind: Added, Pod: projects, UID: uid, Command: command, Generation: g, User: its, Created: moment(at)})
	s.logOf(projects, at+0.4, "", eventstest.Launched(g, uid))
	s.logOf(projects, at+1, "", eventstest.Observe(g, eventstest.Ready(uid, "7")))
	return g
}

func (s *scene) projectPod(at float64, kind, uid string) {
	for _, p := range s.Pods {
		if p.UID == uid {
			p.At, p.Kind = moment(at), kind
			s.Pods = append(s.Pods, p)
			return
		}
	}
}

// between has the books of a moment between two lives in place of the last ones: a seat is kept.
func (s *scene) between() {
	b := &s.Books[1]
	at := slices.IndexFunc(s.Log, func(e Entry) bool { return e.Record.Event == events.Gone })
	b.At, b.Sequence, b.Seats = moment(3.9), s.Log[at].Sequence, []Seat{{License: limited, Pod: projects, Kept: true}}
	b.Projects[0].State, b.Projects[0].Error = "starting", "its next pod is about to be made"
}

// without takes the exchanges of an endpoint out of the evidence.
func (s *scene) without(endpoint string) {
	s.Exchanges = slices.DeleteFunc(s.Exchanges, func(x Exchange) bool { return x.Endpoint == endpoint })
}

func TestProjects(t *testing.T) {
	t.Parallel()
	running := func(s *scene) *Books { return &s.Books[0] }
	stopped := func(s *scene) *Books { return &s.Books[1] }
	// settled leaves the project as it was in second 6.
	settled := func(s *scene) {
		s.without(HubStop)
		s.Books = s.Books[:1]
	}
	for name, tc := range map[string]struct {
		happens func(s *scene)
		want    int // The statement that is broken, 0 for none.
		says    string
	}{
		"all is well": {func(*scene) {}, 0, ""},

		"one seat too many":     {func(s *scene) { s.Holders[0].Taken = 2 }, TrueBooks, "2 holders"},
		"active without a seat": {func(s *scene) { b := running(s); b.Seats, b.Uses = b.Seats[1:], b.Uses[1:] }, TrueBooks, "has no seat"},
		"a seat of nobody":      {func(s *scene) { b := stopped(s); b.Seats, b.Uses = running(s).Seats[:1], running(s).Uses[:1] }, TrueBooks, "not active on it"},
		"a seat of a license that does not count": {func(s *scene) {
			b := running(s)
			more := Seat{License: "another", Pod: projects, Generation: b.Pods[0].Generation}
			b.Seats, b.Uses = append(b.Seats, more), append(b.Uses, more)
		}, TrueBooks, "not active on it"},
		"the seat of another life": {func(s *scene) { running(s).Seats[0].Generation = s.Log[0].Record.Generation }, TrueBooks, "has no seat"},
		"a seat is kept for nobody": {func(s *scene) {
			stopped(s).Seats = []Seat{{License: limited, Pod: projects, Kept: true}}
		}, TrueBooks, "nothing follows"},
		"a seat is kept for the next one": {func(s *scene) { s.between() }, 0, ""},
		"a seat is kept for one that was refused": {func(s *scene) {
			s.between()
			s.outcome(11, "", events.Outcome{Verdict: events.Refused, Command: "c2", User: its, Reason: events.Deleted, Message: "stopped"})
		}, TrueBooks, "nothing follows"},
		"in use by nobody":    {func(s *scene) { stopped(s).Uses = running(s).Uses[:1] }, TrueBooks, "which has no seat of it"},
		"in use twice":        {func(s *scene) { b := running(s); b.Uses = append(b.Uses, b.Uses[0]) }, TrueBooks, "which has no seat of it"},
		"use was not noted":   {func(s *scene) { running(s).Uses = nil }, TrueBooks, "which has a seat of it"},
		"a state of long ago": {func(s *scene) { stopped(s).Projects[0].State = "running" }, TrueBooks, "row says running"},
		"a state of no record": {func(s *scene) {
			stopped(s).Projects = append(stopped(s).Projects, ProjectRow{ID: limited, State: "starting"})
		}, TrueBooks, "record is none"},
		"no state, no record": {func(s *scene) { stopped(s).Projects = append(stopped(s).Projects, ProjectRow{ID: limited}) }, 0, ""},
		"a request stays":     {func(s *scene) { stopped(s).Projects[0].Request = "start" }, Progress, "nobody takes"},
		"a request is not taken in time": {
			func(s *scene) { s.ask(11, 90, Exchange{Endpoint: HubStop, Pod: projects, User: its}) },
			NobodyWaits, "more than 1m0s",
		},
		"another status in the row": {func(s *scene) { running(s).Projects[0].Licenses[plain] = "exhausted" }, TrueBooks, `"exhausted" in the project's row`},

		"never at rest": {func(s *scene) { s.Moves = []string{"", "cmd.main.create.c1"} }, Progress, "cmd.main.create.c1"},

		"runs though it was stopped": {func(s *scene) {
			s.ask(5.5, 5.6, Exchange{Endpoint: StopProject, Status: http.StatusNoContent, Pod: projects, User: its})
		}, LastWish, "stop project was the last wish"},
		"comes back though it was stopped": {func(s *scene) { stopped(s).Projects[0].RetryAt = moment(99) }, LastWish, "is to be started at"},
		"does not run though it was started": {func(s *scene) {
			s.ask(9.5, 9.6, Exchange{Endpoint: HubStart, Pod: projects, User: its})
		}, LastWish, "for no reason"},
		"does not run, and says why": {func(s *scene) {
			s.ask(9.5, 9.6, Exchange{Endpoint: HubStart, Pod: projects, User: its})
			stopped(s).Projects[0].Error = "EVICTED"
		}, 0, ""},
		"is to run always and does not": {func(s *scene) {
			s.ask(9.5, 9.6, Exchange{Endpoint: HubStart, Pod: projects, User: its})
			stopped(s).Projects[0].Error, stopped(s).Projects[0].AlwaysRunning = "EVICTED", true
		}, LastWish, "is to run always"},
		"is to run always and will": {func(s *scene) {
			s.ask(9.5, 9.6, Exchange{Endpoint: HubStart, Pod: projects, User: its})
			p := &stopped(s).Projects[0]
			p.Error, p.AlwaysRunning, p.RetryAt = "EVICTED", true, moment(20)
		}, 0, ""},
		"is to run always and was given up": {func(s *scene) {
			s.ask(9.5, 9.6, Exchange{Endpoint: HubStart, Pod: projects, User: its})
			stopped(s).Projects[0].Error, stopped(s).Projects[0].AlwaysRunning = "GAVE_UP: it fails", true
		}, 0, ""},
		"nobody knows what was wished": {func(s *scene) {
			s.ask(9.5, 9.6, Exchange{Endpoint: StartProject, Pod: projects, User: its, Status: 409, Code: "CONFLICT", Message: "x"})
		}, 0, ""},
		"has no pod though the log says so": {func(s *scene) { running(s).Pods = nil }, LastWish, "for no reason"},

		"a start that is not in the log":   {func(s *scene) { s.Exchanges[0].Generation = "x-1" }, LastWish, "was not in the log"},
		"a start that is in the log later": {func(s *scene) { s.Exchanges[0].Ended = moment(0.95) }, LastWish, "was not in the log"},
		"a start that was not ready":       {func(s *scene) { s.Exchanges[0].Ended = moment(1.5) }, NobodyWaits, "was not ready yet"},
		"a restart that nothing followed": {func(s *scene) {
			s.ask(3.2, 3.3, Exchange{Endpoint: RestartProject, Status: http.StatusAccepted, Pod: projects, User: its, Generation: s.Log[0].Record.Generation})
		}, LastWish, "nothing was to follow"},
		"a restart that another pod followed": {func(s *scene) {
			s.ask(3.4, 3.6, Exchange{Endpoint: RestartProject, Status: http.StatusAccepted, Pod: projects, User: its, Generation: s.Log[0].Record.Generation})
		}, 0, ""},
		"a restart whose pod was there at once": {func(s *scene) {
			g := s.Books[0].Pods[0].Generation
			s.ask(3.4, 4.1, Exchange{Endpoint: RestartProject, Status: http.StatusAccepted, Pod: projects, User: its, Generation: g})
		}, 0, ""},
		"a start of another's pod": {func(s *scene) { s.Exchanges[0].Pod = "project-" + limited }, NobodyElses, "a pod of " + its},

		"an old edition":                {func(s *scene) { running(s).Licenses[1].Edition = "8" }, LicensesHold, `edition "7"`},
		"a lost edition":                {func(s *scene) { delete(running(s).Pods[0].Labels, "b") }, LicensesHold, `edition ""`},
		"an edition too many":           {func(s *scene) { running(s).Pods[0].Labels["c"] = "1" }, LicensesHold, "does not count"},
		"a license that is over":        {func(s *scene) { running(s).Licenses[1].Valid = false }, LicensesHold, "does not count"},
		"a license that was taken away": {func(s *scene) { delete(running(s).Projects[0].Licenses, plain) }, LicensesHold, "not attached any more"},
		"a license that was added":      {func(s *scene) { running(s).Projects[0].Licenses["another"] = "" }, LicensesHold, `"" on the pod`},
		"all seats were taken": {func(s *scene) {
			settled(s)
			b := running(s)
			b.Seats, b.Uses = b.Seats[1:], b.Uses[1:]
			for _, e := range s.Log {
				for i, l := range e.Record.Licenses {
					if l.ID == limited {
						e.Record.Licenses[i].Status = "exhausted"
					}
				}
			}
			b.Projects[0].Licenses[limited] = "exhausted"
			delete(b.Pods[0].Labels, "a")
			s.ask(8, 8.1, Exchange{Endpoint: StopProject, Pod: projects, User: its})
		}, 0, ""},

		"two pods": {func(s *scene) {
			s.Pods = slices.DeleteFunc(s.Pods, func(p PodEvent) bool { return p.Kind == Deleted && p.UID == "u1" })
		}, OnePod, "at the same time"},
		"a pod of another name": {func(s *scene) { s.Pods[0].Pod = "notebook" }, OnePod, "another's name"},
		"a label of another":    {func(s *scene) { running(s).Pods[0].Project = limited }, OnePod, "labelled as project"},

		"restarted for no change": {func(s *scene) { s.without(PutLicense) }, GoneIsGone, "nobody asked"},
		"stopped by nobody":       {func(s *scene) { s.without(HubStop) }, GoneIsGone, "nobody asked"},
		"stopped long before": {func(s *scene) {
			s.without(HubStop)
			s.ask(0.1, 0.2, Exchange{Endpoint: StopProject, Pod: projects, User: its})
		}, GoneIsGone, "nobody asked"},
		"died": {func(s *scene) {
			s.without(HubStop)
			s.Log = s.Log[:running(s).Sequence]
			g := running(s).Pods[0].Generation
			s.logOf(projects, 7, "", eventstest.Observe(g, eventstest.Ended("u2", "8")))
			s.logOf(projects, 8, "", events.Fact{Kind: events.FactDelete, Reason: events.Evicted})
			s.logOf(projects, 9, "", events.Fact{Kind: events.FactGone})
			stopped(s).Sequence, stopped(s).Projects[0].Error = uint64(len(s.Log)), "EVICTED"
		}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := household(t)
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

// TestUnrest: what does not agree now is told, and what did not before is not.
func TestUnrest(t *testing.T) {
	t.Parallel()
	s := household(t)
	s.Books[0].Seats = nil
	if found := Unrest(s.Evidence); len(found) > 0 {
		t.Errorf("the newest books agree: %+v", found)
	}
	s.Books = s.Books[:1]
	if found := Unrest(s.Evidence); len(found) == 0 {
		t.Error("no breach of seats that nobody has")
	}
	if found := Unrest(Evidence{}); found != nil {
		t.Errorf("without books: %+v", found)
	}
}
