package track_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/cmd/berth/internal/progress"
	"berth/cmd/berth/internal/track"
	"berth/pkg/client"
)

// service tells events, then fails.
type service struct {
	tell     []client.Event
	then     error
	phases   []client.Phase
	timeline error
	after    string
}

func (s *service) Events(_ context.Context, stream client.Stream) iter.Seq2[client.Event, error] {
	s.after = stream.After
	return func(yield func(client.Event, error) bool) {
		for _, e := range s.tell {
			if !yield(e, nil) {
				return
			}
		}
		yield(client.Event{}, s.then)
	}
}

func (s *service) Timeline(context.Context, string, string, string) (client.Timeline, error) {
	return client.Timeline{Phases: s.phases}, s.timeline
}

var (
	synced  = client.Event{Kind: client.Synced, Position: "1-90"}
	reset   = client.Event{Kind: client.Reset}
	missing = &client.Problem{Status: 404, Reason: "NOT_FOUND"}
	start   = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// pod is an event of the log at a place: an event with its reason, maybe of another generation.
func pod(place int, event string, other ...string) client.Event {
	event, reason, _ := strings.Cut(event, " ")
	p := client.Pod{Name: "n", User: "u", Generation: "1-7", Event: event, Reason: reason, CreatedAt: start, UpdatedAt: start, Position: fmt.Sprint("1-", place)}
	if len(other) > 0 {
		p.Generation = other[0]
	}
	return client.Event{Kind: client.PodChanged, Position: p.Position, Pod: p}
}

func TestWait(t *testing.T) {
	t.Parallel()
	claimed := pod(7, "claimed").Pod
	ready := pod(12, "ready").Pod
	adopted := pod(12, "running", "uid-4711").Pod
	type events = []client.Event
	tests := map[string]struct {
		known   client.Pod
		goal    track.Goal
		service service
		after   string
		told    string
		reached bool
		last    string
		err     string
	}{
		"becomes ready": {
			claimed, track.Ready,
			service{tell: events{pod(8, "licensed"), synced, pod(9, "waiting PULLING"), pod(10, "ready"), pod(11, "unready")}},
			"1-7",
			"claimed,licensed|waiting PULLING|ready", true, "ready", "",
		},
		"was ready already":     {ready, track.Ready, service{tell: events{pod(9, "running"), pod(12, "ready"), synced}}, "1-7", "claimed,running,ready", true, "ready", ""},
		"was ready, and is not": {ready, track.Ready, service{tell: events{pod(12, "ready"), pod(13, "unready"), synced, pod(14, "ready")}}, "1-7", "claimed,ready,unready|ready", true, "ready", ""},
		"fails":                 {claimed, track.Ready, service{tell: events{synced, pod(9, "failed CRASHED")}}, "1-7", "claimed|failed CRASHED", false, "failed CRASHED", ""},
		"has failed": {
			claimed, track.Ready, service{tell: events{pod(9, "failed CRASHED"), pod(10, "deleting"), synced}}, "1-7", "claimed,failed CRASHED", false, "failed CRASHED", "",
		},
		"ends":           {claimed, track.Ready, service{tell: events{synced, pod(9, "ended COMPLETED")}}, "1-7", "claimed|ended COMPLETED", false, "ended COMPLETED", ""},
		"an adopted pod": {adopted, track.Ready, service{tell: events{synced, pod(13, "ready", "uid-4711")}}, "1-12", "running|ready", true, "ready", ""},
		"another's life": {claimed, track.Ready, service{tell: events{synced, pod(20, "claimed", "1-20")}}, "1-7", "claimed|gone", false, "gone", ""},
		"failed and gone": {claimed, track.Ready, service{then: missing, phases: []client.Phase{
			{Event: "claimed", Position: "1-7"}, {Event: "failed", Reason: "IMAGE_PULL", Position: "1-8"}, {Event: "gone", Position: "1-10"},
		}}, "1-7", "claimed,failed IMAGE_PULL", false, "failed IMAGE_PULL", ""},
		"gone, and forgotten": {claimed, track.Ready, service{then: missing, timeline: missing}, "1-7", "claimed,gone", false, "gone", ""},
		"goes meanwhile": {claimed, track.Ready, service{tell: events{synced, pod(8, "waiting PULLING")}, then: missing, phases: []client.Phase{
			{Event: "claimed", Position: "1-7"}, {Event: "waiting", Reason: "PULLING", Position: "1-8"}, {Event: "deleting", Position: "1-9"}, {Event: "gone", Position: "1-10"},
		}}, "1-7", "claimed|waiting PULLING|deleting,gone", false, "gone", ""},
		"a log made anew": {
			claimed, track.Ready, service{tell: events{reset, pod(99, "running"), synced, pod(100, "ready")}}, "1-7", "running|ready", true, "ready", "",
		},
		"a log made anew, without it": {claimed, track.Ready, service{tell: events{synced, pod(8, "waiting PULLING"), reset, synced}}, "1-7", "claimed|waiting PULLING|gone PULLING", false, "gone PULLING", ""},
		"goes":                        {ready, track.Gone, service{tell: events{pod(13, "deleting"), synced, pod(14, "gone")}}, "1-7", "claimed,deleting|gone", true, "gone", ""},
		"has gone":                    {ready, track.Gone, service{then: missing, timeline: missing}, "1-7", "claimed,gone", true, "gone", ""},
		"nobody deletes it":           {ready, track.Gone, service{tell: events{pod(12, "ready"), synced}}, "1-7", "claimed,ready", false, "ready", ""},
		"the service refuses":         {claimed, track.Ready, service{tell: events{synced}, then: errors.New("no")}, "1-7", "claimed", false, "claimed", "no"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told []string
			text := func(c progress.Change) string { return strings.TrimSpace(string(c.Event) + " " + string(c.Reason)) }
			tracker := track.Tracker{API: &tt.service, Pod: tt.known, Goal: tt.goal, OnChange: func(changes []progress.Change) {
				var all []string
				for _, c := range changes {
					all = append(all, text(c))
				}
				told = append(told, strings.Join(all, ","))
			}}
			result, err := tracker.Wait(t.Context())
			problem := ""
			if err != nil {
				problem = err.Error()
			}
			want := []any{tt.told, tt.reached, tt.last, tt.err, tt.after}
			got := []any{strings.Join(told, "|"), result.Reached, text(result.Last), problem, tt.service.after}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("told, reached, last, error, after (-want +got):\n%s", d)
			}
		})
	}
}
