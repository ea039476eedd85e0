package v1

import (
	"slices"
	"strings"
	"time"

	"berth/pkg/events"
)

// Timeline is what happened to a pod of a user, phase by phase.
type Timeline struct {
	Name       string  `json:"name" jsonschema:"the name of the pod"`
	User       string  `json:"user_id" jsonschema:"whose pod it was"`
	Generation string  `json:"generation" jsonschema:"which pod of that name"`
	Phases     []Phase `json:"phases" jsonschema:"what happened, in order; the last one is the state of the pod"`
	// ReadyAfter is how long it took from the claim until the pod was ready.
	ReadyAfter *float64 `json:"ready_after_seconds,omitempty" jsonschema:"how long it took from the claim of the name until the pod was ready"`
	Total      float64  `json:"total_seconds" jsonschema:"how long the pod has been there"`
	Incomplete bool     `json:"incomplete,omitempty" jsonschema:"true where the log may have forgotten phases: another may seem to last longer than it did"`
}

// Phase is a time in which a pod was in one state.
type Phase struct {
	Event    string    `json:"event" jsonschema:"the state"`
	Reason   string    `json:"reason,omitempty" jsonschema:"why"`
	Message  string    `json:"message,omitempty" jsonschema:"the reason in words, as it was last"`
	By       string    `json:"by" jsonschema:"the service that said so"`
	Started  time.Time `json:"started_at" jsonschema:"when it began"`
	Duration float64   `json:"duration_seconds" jsonschema:"how long it took, or has taken so far"`
	Position string    `json:"position" jsonschema:"where in the log it began"`
}

// timelineOf makes the timeline of one life of a pod out of what the log has of the
// name and user, in the order of the log: the newest life, or that of a
// generation. kept is how many records of each event the log keeps, 0 for all. ok is false
// where there is none.
func timelineOf(steps []Step, generation string, kept int, now time.Time) (t Timeline, ok bool) {
	if len(steps) == 0 {
		return Timeline{}, false
	}
	if generation == "" {
		generation = steps[len(steps)-1].Generation
	}
	var last Step
	for _, s := range steps {
		if s.Generation != generation {
			continue
		}
		t.Name, t.User, t.Generation = s.Pod, s.User, generation
		t.add(s)
		last = s
		if s.Event == events.Ready && t.ReadyAfter == nil {
			after := seconds(s.Time.Sub(t.Phases[0].Started))
			t.ReadyAfter = &after
		}
	}
	if len(t.Phases) == 0 {
		return Timeline{}, false
	}
	if t.Incomplete = forgotten(steps, generation, kept); t.Incomplete && !last.ReadyAt.IsZero() && !last.ClaimedAt.IsZero() {
		// The first that the log still has need not be the first that there was.
		after := seconds(last.ReadyAt.Sub(last.ClaimedAt))
		t.ReadyAfter = &after
	}
	begun, end := t.Phases[0].Started, now
	if !last.ClaimedAt.IsZero() && t.Incomplete {
		begun = last.ClaimedAt
	}
	if t.Phases[len(t.Phases)-1].Event == string(events.Gone) {
		end = last.Time
	}
	for i := range t.Phases {
		until := end
		if i+1 < len(t.Phases) {
			until = t.Phases[i+1].Started
		}
		t.Phases[i].Duration = seconds(until.Sub(t.Phases[i].Started))
	}
	t.Total = seconds(end.Sub(begun))
	return t, true
}

// forgotten says whether the log may have forgotten records of a generation: of some
// event it has as many as it keeps, and the first of them is not of a life before.
func forgotten(steps []Step, generation string, kept int) bool {
	if kept == 0 {
		return false
	}
	begins := slices.IndexFunc(steps, func(s Step) bool { return s.Generation == generation })
	first, count := map[events.Type]int{}, map[events.Type]int{}
	for i, s := range steps {
		if count[s.Event]++; count[s.Event] == 1 {
			first[s.Event] = i
		}
	}
	for event, n := range count {
		if n >= kept && first[event] >= begins {
			return true
		}
	}
	return false
}

// add goes on with the phase under way, or begins the next one.
func (t *Timeline) add(s Step) {
	if n := len(t.Phases); n > 0 {
		if p := &t.Phases[n-1]; p.Event == string(s.Event) && p.Reason == string(s.Reason) {
			p.Message = s.Message
			return
		}
	}
	t.Phases = append(t.Phases, Phase{
		Event: string(s.Event), Reason: string(s.Reason), Message: s.Message, By: serviceOf(s.Source),
		Started: s.Time.UTC(), Position: s.Position.String(),
	})
}

// serviceOf is the service in the source of an event, berth/<service>/<instance>.
// Which instance it was is the operator's business.
func serviceOf(source string) string {
	source = strings.TrimPrefix(source, "berth/")
	service, _, _ := strings.Cut(source, "/")
	return service
}

// seconds rounds to milliseconds. The clocks of two services may differ: nothing
// takes less than no time.
func seconds(d time.Duration) float64 { return float64(max(d, 0).Milliseconds()) / 1000 }
