package events_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
)

func restart(command string) events.Fact {
	return fact(events.FactDelete, func(f *events.Fact) { f.Restart = &events.Restart{Command: command, Cause: events.CauseAsked} })
}

func licensesChange() events.Fact {
	return fact(events.FactDelete, func(f *events.Fact) { f.Restart = &events.Restart{Command: "r3", Cause: events.CauseLicenses} })
}

// restartAfter is a restart that somebody asks for who knows of the stops up to a place in the log.
func restartAfter(stop uint64, command string) events.Fact {
	f := restart(command)
	f.Restart.LastStop = &stop
	return f
}

func stopAt(place uint64) events.Fact {
	f := stop()
	f.StopAt = place
	return f
}

func stop() events.Fact { return fact(events.FactDelete, func(f *events.Fact) { f.Stop = true }) }

func TestNextRestart(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		facts []events.Fact
		want  string // The command that follows, empty for none.
	}{
		"a delete":                      {[]events.Fact{remove()}, ""},
		"a restart":                     {[]events.Fact{restart("r1")}, "r1"},
		"the first of two":              {[]events.Fact{restart("r1"), restart("r2")}, "r1"},
		"a restart of what is deleting": {[]events.Fact{remove(), restart("r1")}, "r1"},
		"a delete after it":             {[]events.Fact{restart("r1"), remove()}, "r1"},
		"licenses and what is deleting": {[]events.Fact{remove(), licensesChange()}, ""},
		"licenses":                      {[]events.Fact{licensesChange()}, "r3"},
		"a stop after it":               {[]events.Fact{restart("r1"), stop()}, ""},
		"a stop alone":                  {[]events.Fact{stop()}, ""},
		"a stop that it did not know":   {[]events.Fact{restartAfter(4, "r1"), stopAt(5)}, ""},
		"a stop that it knew":           {[]events.Fact{restartAfter(5, "r1"), stopAt(5)}, "r1"},
		"a stop with no place":          {[]events.Fact{restartAfter(5, "r1"), stop()}, ""},
		"no knowledge of stops":         {[]events.Fact{restart("r1"), stopAt(5)}, ""},
		"a stop between two":            {[]events.Fact{restartAfter(4, "r1"), restartAfter(5, "r2")}, "r2"},
		"two and no stop between":       {[]events.Fact{restartAfter(5, "r1"), restartAfter(5, "r2")}, "r1"},
		"the older one comes last":      {[]events.Fact{restartAfter(5, "r2"), restartAfter(4, "r1")}, "r2"},
		"a stop between two, late":      {[]events.Fact{restartAfter(4, "r1"), restartAfter(5, "r2"), stopAt(5)}, "r2"},
		"gone keeps it":                 {[]events.Fact{restart("r1"), gone()}, "r1"},
		"too late":                      {[]events.Fact{remove(), gone(), restart("r1")}, ""},
		"after a failure":               {[]events.Fact{restart("r1")}, "r1"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := states(t)["ready"]
			if name == "after a failure" {
				r = states(t)["failed"]
			}
			for _, f := range tc.facts {
				r, _, _ = events.Next(r, f)
			}
			got := ""
			if r.Restart != nil {
				got = r.Restart.Command
			}
			if got != tc.want {
				t.Errorf("%s follows, want %q", got, tc.want)
			}
			last := tc.facts[len(tc.facts)-1]
			if again, changed, err := events.Next(r, last); changed || err != nil && !errors.Is(err, events.ErrOver) {
				t.Errorf("once more: changed %t, error %v, %+v", changed, err, again.Restart)
			}
		})
	}
}

// What is amended leaves a pod where it is in its life.
func TestNextAmend(t *testing.T) {
	t.Parallel()
	idle := fact(events.FactIdle, func(f *events.Fact) { f.IdleStopAt = at(300).In(time.FixedZone("elsewhere", 3600)) })
	busy := fact(events.FactIdle)
	other := fact(events.FactRelicense, func(f *events.Fact) { f.Licenses = []events.License{{ID: "77aa", Status: "active"}} })
	none := fact(events.FactRelicense)
	for state, before := range states(t) {
		if before.Event == "" || before.Event.Over() || before.Unlicensed() {
			for _, f := range []events.Fact{idle, other} {
				if _, changed, err := events.Next(before, f); changed || err == nil {
					t.Errorf("%s of a %s pod: changed %t, error %v", f.Kind, state, changed, err)
				}
			}
			continue
		}
		for name, tc := range map[string]struct {
			facts []events.Fact
			want  func(*events.Record)
		}{
			"idle":           {[]events.Fact{idle}, func(r *events.Record) { r.IdleStopAt = at(300) }},
			"busy again":     {[]events.Fact{idle, busy}, func(*events.Record) {}},
			"other licenses": {[]events.Fact{other}, func(r *events.Record) { r.Licenses = other.Licenses }},
			"no licenses":    {[]events.Fact{other, none}, func(r *events.Record) { r.Licenses = []events.License{} }},
		} {
			after, want := before, before
			want.Licensing = nil
			tc.want(&want)
			for _, f := range tc.facts {
				var changed bool
				var err error
				if after, changed, err = events.Next(after, f); err != nil || !changed {
					t.Errorf("%s, %s: changed %t, error %v", state, name, changed, err)
				}
			}
			if diff := diffRecords(want, after); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", state, name, diff)
			}
			if _, changed, err := events.Next(after, tc.facts[len(tc.facts)-1]); changed || err != nil {
				t.Errorf("%s, %s, once more: changed %t, error %v", state, name, changed, err)
			}
		}
	}
}

// The explanation is large and true of one moment: it is in the log once.
func TestNextLicensing(t *testing.T) {
	t.Parallel()
	how := &events.Licensing{TemplateDigest: "aa", Explanation: json.RawMessage(`{"steps":[]}`)}
	f := license()
	f.Licensing, f.Container, f.Image = how, "project", "example.org/project:2"
	r, changed, err := events.Next(states(t)["claimed"], f)
	if err != nil || !changed {
		t.Fatalf("changed %t, error %v", changed, err)
	}
	if diff := cmp.Diff(how, r.Licensing); diff != "" || r.Container != "project" || r.Image != "example.org/project:2" {
		t.Errorf("container %s, image %s, licensing (-want +got):\n%s", r.Container, r.Image, diff)
	}
	if again, changed, err := events.Next(r, f); changed || err != nil || again.Licensing == nil {
		t.Errorf("once more: changed %t, error %v", changed, err)
	}
	for _, next := range []events.Fact{launch(), fail(), remove()} {
		if after, _, err := events.Next(r, next); err != nil || after.Licensing != nil || after.Image != "example.org/project:2" {
			t.Errorf("%s: error %v, licensing %v", next.Kind, err, after.Licensing)
		}
	}
}
