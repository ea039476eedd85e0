package events_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
)

// What each fact makes of each state: the event that follows, = for no change,
// or the error.
const whatFollows = `
           claim   rival   found    stray    license  launch    wait    launched pulling running ready   unready ended  hopeless terminating fail   delete   gone  finish
none       claimed claimed launched launched order    order     order   order    order   order   order   order   order  order    order       order  order    order  order
claimed    =       taken   =        taken    licensed order     waiting order    =       =       =       =       =      =        =           failed deleting order  order
unlicensed =       taken   =        taken    licensed order     =       order    =       =       =       =       =      =        =           failed deleting order  order
licensed   =       taken   =        taken    =        launching waiting order    =       =       =       =       =      =        =           failed deleting order  order
pending    =       taken   =        taken    =        launching =       order    =       =       =       =       =      =        =           failed deleting order  order
launching  =       taken   =        taken    =        =         waiting launched =       =       =       =       =      =        =           failed deleting order  order
launched   =       taken   =        taken    =        =         =       =        waiting running ready   running failed failed   deleting    failed deleting order  launched
waiting    =       taken   =        taken    =        =         =       =        =       running ready   running failed failed   deleting    failed deleting order  waiting
running    =       taken   =        taken    =        =         =       =        =       =       ready   =       failed failed   deleting    failed deleting order  running
copying    =       taken   =        taken    =        =         =       =        =       =       =       running failed failed   deleting    failed deleting order ready
ready      =       taken   =        taken    =        =         =       =        =       =       =       unready ended  unready  deleting    order  deleting order  ready
unready    =       taken   =        taken    =        =         =       =        =       =       =       =       ended  unready  deleting    order  deleting order  unready
ended      =       taken   =        taken    =        =         =       =        =       =       =       =       =      ended    deleting    order  deleting order  ended
failed     =       taken   =        taken    over     over      over    over     over    over    over    over    over   over     over        over   deleting order  over
deleting   =       taken   =        taken    over     over      over    over     over    over    over    over    over   over     over        over   =        gone  over
gone       over    claimed over     launched over     over      over    over     over    over    over    over    over   over     over        over   over     =     over
`

func facts() map[string]events.Fact {
	rival := claim()
	rival.Record.Command, rival.Record.User = "another", "bob@dtu.dk"
	found := fact(events.FactAdopt, func(f *events.Fact) {
		f.Generation, f.Record, f.Observed = "", claim().Record, ready().Observed
		f.Record.Generation = generation
	})
	stray := fact(events.FactAdopt, func(f *events.Fact) {
		f.Generation, f.Record, f.Observed = "", claim().Record, events.Observed{UID: "another"}
		f.Record.Command = ""
	})
	return map[string]events.Fact{
		"claim": claim(), "rival": rival, "found": found, "stray": stray, "license": license(), "launch": launch(),
		"wait": wait(), "launched": launched(), "pulling": pulling(), "running": running(), "ready": ready(), "unready": unready(),
		"ended": ended(), "hopeless": hopeless(), "terminating": terminating(), "fail": fail(), "delete": remove(), "gone": gone(), "finish": finish(),
	}
}

func states(tb testing.TB) map[string]events.Record {
	tb.Helper()
	toLaunched := []events.Fact{claim(), license(), launch(), launched()}
	with := func(more ...events.Fact) events.Record { return after(tb, append(toLaunched[:4:4], more...)...) }
	return map[string]events.Record{
		"none":       {},
		"claimed":    after(tb, claim()),
		"unlicensed": after(tb, claim(), wait()),
		"licensed":   after(tb, claim(), license()),
		"pending":    after(tb, claim(), license(), wait()),
		"launching":  after(tb, claim(), license(), launch()),
		"launched":   with(),
		"waiting":    with(pulling()),
		"running":    with(running()),
		"copying":    after(tb, claim(), license(), withTokens(), launched(), ready()),
		"ready":      with(ready()),
		"unready":    with(ready(), unready()),
		"ended":      with(ready(), ended()),
		"failed":     with(pulling(), fail()),
		"deleting":   with(ready(), remove()),
		"gone":       with(ready(), remove(), gone()),
	}
}

func TestNextEveryFactInEveryState(t *testing.T) {
	t.Parallel()
	sentinels := map[string]error{"taken": events.ErrTaken, "order": events.ErrOrder, "over": events.ErrOver}
	lines := strings.Split(strings.TrimSpace(whatFollows), "\n")
	names := strings.Fields(lines[0])
	if got, want := len(lines)-1, len(states(t)); got != want || len(names) != len(facts()) {
		t.Fatalf("the table has %d states and %d facts, want %d and %d", got, len(names), want, len(facts()))
	}
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		for i, name := range names {
			t.Run(cells[0]+"/"+name, func(t *testing.T) {
				t.Parallel()
				before, f, want := states(t)[cells[0]], facts()[name], cells[i+1]
				got, changed, err := events.Next(before, f)
				if !errors.Is(err, sentinels[want]) {
					t.Fatalf("error %v, want %q", err, want)
				}
				if _, fails := sentinels[want]; fails || want == "=" {
					if changed {
						t.Errorf("changed to %q, want %q", got.Event, want)
					}
					if diff := diffRecords(before, got); diff != "" {
						t.Errorf("the record before is not returned (-want +got):\n%s", diff)
					}
					return
				}
				if !changed || string(got.Event) != want {
					t.Errorf("got %q, changed %t, want %q", got.Event, changed, want)
				}
			})
		}
	}
}

// diffRecords compares what a reader of the log would see.
func diffRecords(want, got events.Record) string {
	w, errW := json.MarshalIndent(want, "", "  ")
	g, errG := json.MarshalIndent(got, "", "  ")
	return cmp.Diff(string(w), string(g)) + cmp.Diff(errW, errG)
}

func TestNextOtherGenerationChangesNothing(t *testing.T) {
	t.Parallel()
	for state, before := range states(t) {
		for name, f := range facts() {
			if f.Generation == "" || state == "none" {
				continue
			}
			for _, other := range []string{"", "1767323045000000000-2"} {
				f.Generation = other
				got, changed, err := events.Next(before, f)
				if diff := diffRecords(before, got); !errors.Is(err, events.ErrGeneration) || changed || diff != "" {
					t.Errorf("%s of %q in %s: changed %t, error %v (-want +got):\n%s", name, other, state, changed, err, diff)
				}
			}
		}
	}
	for _, f := range []events.Fact{ready(), terminating(), ended()} {
		f.Observed.UID = "another"
		before := states(t)["running"]
		if got, changed, err := events.Next(before, f); !errors.Is(err, events.ErrGeneration) || changed || diffRecords(before, got) != "" {
			t.Errorf("an observation of another uid: changed %t, error %v", changed, err)
		}
	}
}

func TestNextUnknownFact(t *testing.T) {
	t.Parallel()
	if _, changed, err := events.Next(states(t)["ready"], fact("resurrect")); changed || !errors.Is(err, events.ErrOrder) {
		t.Errorf("changed %t, error %v, want ErrOrder", changed, err)
	}
}

func TestNextFillsTheRecord(t *testing.T) {
	t.Parallel()
	full := after(t, claim(), license(), launch(), launched(), pulling(), ready(), unready(), ended(), remove(), gone())
	want := claim().Record
	want.Event, want.Generation = events.Gone, generation
	want.Licenses = license().Licenses
	want.Observed = ended().Observed
	want.ClaimedAt = at(0)
	want.LaunchingAt, want.LaunchedAt, want.ProgressAt, want.ReadyAt, want.DeletingAt = at(1), at(1), at(1), at(1), at(1)
	if diff := diffRecords(want, full); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}

	// The reason is what is true now; a failure's stays.
	reasons := map[string]struct {
		facts []events.Fact
		want  events.Reason
	}{
		"waiting":            {[]events.Fact{claim(), license(), wait()}, events.StoragePending},
		"licenses waited":    {[]events.Fact{claim(), wait(), license()}, ""},
		"launching waits on": {[]events.Fact{claim(), license(), wait(), launch()}, events.StoragePending},
		"launching fails on": {
			[]events.Fact{claim(), license(), launch(), fact(events.FactWait, func(f *events.Fact) { f.Reason = events.Unavailable }), launch()}, events.Unavailable,
		},
		"launched clears it":   {[]events.Fact{claim(), license(), wait(), launch(), launched()}, ""},
		"tokens are missing":   {[]events.Fact{claim(), license(), withTokens(), launched(), ready()}, events.TokensPending},
		"tokens are copied":    {[]events.Fact{claim(), license(), withTokens(), launched(), ready(), finish()}, ""},
		"ready clears it":      {[]events.Fact{claim(), license(), launch(), launched(), pulling(), ready()}, ""},
		"ended":                {[]events.Fact{claim(), license(), launch(), launched(), ready(), ended()}, events.OOMKilled},
		"ended before ready":   {[]events.Fact{claim(), license(), launch(), launched(), ended()}, events.OOMKilled},
		"failed":               {[]events.Fact{claim(), license(), fail()}, events.Timeout},
		"failed, then deleted": {[]events.Fact{claim(), license(), fail(), remove(), gone()}, events.Timeout},
		"deleted by its user":  {[]events.Fact{claim(), license(), wait(), remove()}, ""},
		"deleted outside":      {[]events.Fact{claim(), license(), launch(), launched(), ready(), terminating()}, events.DeletedOutside},
	}
	for name, tc := range reasons {
		if got := after(t, tc.facts...).Reason; got != tc.want {
			t.Errorf("%s: reason %q, want %q", name, got, tc.want)
		}
	}

	again := claim()
	again.Record.Command = "the next one"
	reused, _, err := events.Next(full, again)
	want = again.Record
	want.Event, want.ClaimedAt = events.Claimed, at(0)
	if diff := diffRecords(want, reused); err != nil || diff != "" {
		t.Errorf("a reused name takes over from the pod before, error %v (-want +got):\n%s", err, diff)
	}
}

// Another attempt to launch is told after a while, so that a delete knows until
// when the pod may still appear; it is no progress.
func TestNextLaunchAgain(t *testing.T) {
	t.Parallel()
	again := func(seconds int) events.Fact {
		return fact(events.FactLaunch, func(f *events.Fact) { f.At = at(seconds) })
	}
	launching := after(t, claim(), license(), launch())
	if got, changed, err := events.Next(launching, again(5)); changed || err != nil || !got.LaunchingAt.Equal(at(1)) {
		t.Errorf("soon: launching since %s, changed %t, error %v", got.LaunchingAt, changed, err)
	}
	got, changed, err := events.Next(launching, again(40))
	if !changed || err != nil || !got.LaunchingAt.Equal(at(40)) || !got.ProgressAt.Equal(at(1)) {
		t.Errorf("later: launching since %s, progress at %s, changed %t, error %v", got.LaunchingAt, got.ProgressAt, changed, err)
	}
	if after, changed, err := events.Next(got, again(40)); changed || err != nil || diffRecords(got, after) != "" {
		t.Errorf("twice: changed %t, error %v", changed, err)
	}
}

func TestNextObservations(t *testing.T) {
	t.Parallel()
	backOff := func(version string, on bool) events.Fact {
		return observe(events.Observed{ResourceVersion: version, Phase: "Pending", Reason: events.ImagePull, BackOff: on, Progress: 1})
	}
	launchedPod := []events.Fact{claim(), license(), launch(), launched()}
	tests := map[string]struct {
		facts []events.Fact
		want  events.Type
		check func(events.Record) string
	}{
		"the third back-off of a pull fails the create": {
			facts: []events.Fact{backOff("1", true), backOff("2", false), backOff("3", true), backOff("4", false), backOff("5", true)},
			want:  events.Failed,
			check: func(r events.Record) string {
				return cmp.Diff(3, r.Observed.PullBackOffs) + cmp.Diff(events.ImagePull, r.Reason)
			},
		},
		"a back-off that goes on is one": {
			facts: []events.Fact{backOff("1", true), backOff("2", true), backOff("3", true), backOff("4", true)},
			want:  events.Waiting,
			check: func(r events.Record) string { return cmp.Diff(1, r.Observed.PullBackOffs) },
		},
		"a stale version is ignored": {
			facts: []events.Fact{ready(), running(), pulling()},
			want:  events.Ready,
		},
		"versions are numbers, not text": {
			facts: []events.Fact{
				observe(events.Observed{ResourceVersion: "999", Phase: "Running", Ready: true}),
				observe(events.Observed{ResourceVersion: "1000", Phase: "Running"}),
			},
			want: events.Unready,
		},
		"a version that is no number is not older": {
			facts: []events.Fact{
				observe(events.Observed{ResourceVersion: "999", Phase: "Running", Ready: true}),
				observe(events.Observed{ResourceVersion: "x", Phase: "Running"}),
			},
			want: events.Unready,
		},
		"a new pod of which nobody says anything is still launched": {
			facts: []events.Fact{observe(events.Observed{ResourceVersion: "1", Phase: "Pending"})},
			want:  events.Launched,
		},
		"progress never shrinks": {
			facts: []events.Fact{running(), observe(events.Observed{ResourceVersion: "103", Phase: "Pending", Reason: events.Pulling, Progress: 1})},
			want:  events.Waiting,
			check: func(r events.Record) string { return cmp.Diff(3, r.Observed.Progress) },
		},
		"what was ready is not failed for being hopeless": {
			facts: []events.Fact{ready(), hopeless()},
			want:  events.Unready,
		},
		"what has ended stays so": {
			facts: []events.Fact{ready(), ended(), observe(events.Observed{ResourceVersion: "200", Phase: "Running", Ready: true})},
			want:  events.Ended,
			check: func(r events.Record) string { return cmp.Diff(events.OOMKilled, r.Reason) },
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := after(t, launchedPod...)
			for _, f := range tc.facts {
				next, changed, err := events.Next(r, f)
				if err != nil {
					t.Fatalf("observe: %v", err)
				}
				if again, twice, _ := events.Next(next, f); twice {
					t.Errorf("the same observation again changes %q to %q", next.Event, again.Event)
				}
				if changed {
					r = next
				}
			}
			if r.Event != tc.want {
				t.Errorf("got %q, want %q", r.Event, tc.want)
			}
			if tc.check != nil {
				if diff := tc.check(r); diff != "" {
					t.Errorf("record (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestNextProgressTime(t *testing.T) {
	t.Parallel()
	r := after(t, claim(), license(), launch(), launched())
	times := map[int]time.Time{}
	waiting := observe(events.Observed{ResourceVersion: "104", Phase: "Running", Reason: events.Crashed, Progress: 1})
	for i, f := range []events.Fact{pulling(), running(), waiting, ready()} {
		f.At = at(10 + i)
		next, changed, err := events.Next(r, f)
		if err != nil {
			t.Fatal(err)
		}
		if changed {
			r = next
		}
		times[i] = r.ProgressAt
	}
	// The third is no progress; the fourth is older than it and ignored.
	want := map[int]time.Time{0: at(10), 1: at(11), 2: at(11), 3: at(11)}
	if diff := cmp.Diff(want, times); diff != "" {
		t.Errorf("progress_at (-want +got):\n%s", diff)
	}
}

func TestNextWritesUTC(t *testing.T) {
	t.Parallel()
	f := ready()
	zone := time.FixedZone("half an hour off", 9*3600+1800)
	f.At, f.Observed.StartTime = at(5).In(zone), at(4).In(zone)
	r, _, err := events.Next(after(t, claim(), license(), launch(), launched()), f)
	if err != nil || r.ReadyAt.Location() != time.UTC || r.Observed.StartTime.Location() != time.UTC || !r.ReadyAt.Equal(at(5)) {
		t.Errorf("ready at %s, started at %s, error %v, want UTC", r.ReadyAt, r.Observed.StartTime, err)
	}
}

func TestNextAdoption(t *testing.T) {
	t.Parallel()
	stray := facts()["stray"]
	first, changed, err := events.Next(events.Record{}, stray)
	if err != nil || !changed || first.Event != events.Launched || first.Observed.UID != "another" {
		t.Fatalf("got %+v, changed %t, error %v", first, changed, err)
	}
	if _, changed, err := events.Next(first, stray); err != nil || changed {
		t.Errorf("the same pod found again: changed %t, error %v", changed, err)
	}
	other := stray
	other.Observed.UID = "a third"
	if _, changed, err := events.Next(first, other); !errors.Is(err, events.ErrTaken) || changed {
		t.Errorf("another pod of that name: changed %t, error %v, want ErrTaken", changed, err)
	}
	dead := first
	dead.Event = events.Gone
	if _, changed, err := events.Next(dead, stray); !errors.Is(err, events.ErrOver) || changed {
		t.Errorf("the same pod after its end: changed %t, error %v, want ErrOver", changed, err)
	}
}

func TestNextClipsMessages(t *testing.T) {
	t.Parallel()
	const limit = 2048
	tests := map[string]struct{ message, want string }{
		"short":                {"not enough cpu", "not enough cpu"},
		"at the limit":         {strings.Repeat("x", limit), strings.Repeat("x", limit)},
		"over the limit":       {strings.Repeat("x", limit+1), strings.Repeat("x", limit-3) + "…"},
		"in a character":       {"x" + strings.Repeat("é", limit), "x" + strings.Repeat("é", (limit-4)/2) + "…"},
		"not UTF-8":            {"a\xffb\xc3", "a\uFFFDb\uFFFD"},
		"with U+0000":          {"boom\x00, \x00\x00no", "boom, no"},
		"not UTF-8, all of it": {strings.Repeat("\xff", limit), "\uFFFD"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failing := fail()
			failing.Message = tc.message
			r, _, err := events.Next(after(t, claim()), failing)
			if err != nil || r.Message != tc.want {
				t.Errorf("failed with %d bytes, want %d, error %v", len(r.Message), len(tc.want), err)
			}
			seen := pulling()
			seen.Observed.Message = tc.message
			r, _, err = events.Next(after(t, claim(), license(), launch(), launched()), seen)
			if err != nil || r.Message != tc.want || r.Observed.Message != tc.want {
				t.Errorf("observed with %d bytes, want %d, error %v", len(r.Message), len(tc.want), err)
			}
			o, _, err := events.NextOutcome(events.Outcome{}, events.Outcome{Verdict: events.Refused, Message: tc.message})
			if err != nil || o.Message != tc.want {
				t.Errorf("refused with %d bytes, want %d, error %v", len(o.Message), len(tc.want), err)
			}
		})
	}
}

func TestNextOutcome(t *testing.T) {
	t.Parallel()
	outcome := func(v events.Verdict, pod string) events.Outcome {
		return events.Outcome{Verdict: v, Cluster: cluster, Command: command, User: user, Pod: pod}
	}
	accepted, renamed := outcome(events.Accepted, pod), outcome(events.Accepted, pod+"-2")
	refused, expired := outcome(events.Refused, ""), outcome(events.Expiry, "")
	tests := map[string]struct {
		current, proposed events.Outcome
		want              events.Outcome
		wantChanged       bool
		wantErr           error
	}{
		"first accepted":                 {events.Outcome{}, accepted, accepted, true, nil},
		"first refused":                  {events.Outcome{}, refused, refused, true, nil},
		"first expired":                  {events.Outcome{}, expired, expired, true, nil},
		"the same again":                 {accepted, accepted, accepted, false, nil},
		"another name after a lost race": {accepted, renamed, renamed, true, nil},
		"no name left":                   {accepted, refused, refused, true, nil},
		"expired comes too late":         {accepted, expired, accepted, false, events.ErrDecided},
		"accepted comes too late":        {expired, accepted, expired, false, events.ErrDecided},
		"refused comes too late":         {expired, refused, expired, false, events.ErrDecided},
		"refused is final":               {refused, accepted, refused, false, events.ErrDecided},
		"refused does not expire":        {refused, expired, refused, false, events.ErrDecided},
		"each stop is one more":          {outcome(events.Stopped, ""), outcome(events.Stopped, ""), outcome(events.Stopped, ""), true, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, changed, err := events.NextOutcome(tc.current, tc.proposed)
			if diff := cmp.Diff(tc.want, got); diff != "" || changed != tc.wantChanged || !errors.Is(err, tc.wantErr) {
				t.Errorf("changed %t, error %v, want %t, %v (-want +got):\n%s", changed, err, tc.wantChanged, tc.wantErr, diff)
			}
		})
	}
}
