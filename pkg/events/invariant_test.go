package events_test

import (
	"cmp"
	"errors"
	"reflect"
	"slices"
	"strconv"

	"berth/pkg/events"
)

// checkStep asserts what holds of every call of Next.
func (h *history) checkStep(before events.Record, f events.Fact, next events.Record, changed bool, err error) {
	if (err != nil || !changed) && !h.same(before, next) {
		h.fault("%s after %s: not changed, error %v, and yet another record", f.Kind, before.Event, err)
	}
	if err != nil && changed {
		h.fault("%s after %s: changed with error %v", f.Kind, before.Event, err)
	}
	if h.last(f.Record.Pod).Event != before.Event {
		h.fault("%s modified the record before", f.Kind)
	}
	foreign := f.Kind != events.FactClaim && before.Event != "" && f.Generation != before.Generation
	if foreign && !errors.Is(err, events.ErrGeneration) {
		h.fault("%s of %q to %q: error %v", f.Kind, f.Generation, before.Generation, err)
	}
	if changed {
		known := next
		if known.Generation == "" {
			known.Generation = generationAt(len(h.log))
		}
		if again, twice, err := events.Next(known, f); twice || err != nil && !errors.Is(err, events.ErrOver) {
			h.fault("%s twice makes %s, then %s, error %v", f.Kind, next.Event, again.Event, err)
		}
	}
	// A delete always wins.
	if current := h.last(f.Record.Pod); current.Event != "" && current.Event != events.Deleting && current.Event != events.Gone {
		d := remove()
		d.Generation = current.Generation
		if r, wins, err := events.Next(current, d); !wins || err != nil || r.Event != events.Deleting {
			h.fault("a delete of a %s pod: %s, changed %t, error %v", current.Event, r.Event, wins, err)
		}
	}
}

// same compares two records: by what tells one state from another, and in some
// of the histories by everything, which takes long.
func (h *history) same(a, b events.Record) bool {
	return a.Event == b.Event && a.Generation == b.Generation && a.Command == b.Command && a.Reason == b.Reason &&
		a.Observed.ResourceVersion == b.Observed.ResourceVersion && (!h.thorough || reflect.DeepEqual(a, b))
}

// rank orders the events of a pod's life. Those of one rank may take turns.
func rank(before []events.Type, t events.Type) int {
	switch t {
	case events.Claimed:
		return 0
	case events.Licensed:
		return 1
	case events.Launching:
		return 2
	case events.Waiting, events.Running:
		if !slices.Contains(before, events.Licensed) && !slices.Contains(before, events.Launched) {
			return 0
		}
		if !slices.Contains(before, events.Launched) {
			return 2
		}
		return 4
	case events.Launched:
		return 3
	case events.Ready, events.Unready:
		return 5
	case events.Ended:
		return 6
	case events.Failed:
		return 7
	case events.Deleting:
		return 8
	default:
		return 9
	}
}

// checkOrder asserts what may follow what has been seen of a generation.
func (h *history) checkOrder(l *life, next events.Record) {
	if len(l.types) == 0 {
		if next.Event != events.Claimed {
			h.fault("a life began with %s", next.Event)
		}
		return
	}
	last := l.types[len(l.types)-1]
	version, err := strconv.Atoi(cmp.Or(next.Observed.ResourceVersion, "0"))
	if err != nil || version < l.version {
		h.fault("%s of resource version %d after %d, error %v", next.Event, version, l.version, err)
	}
	l.version = version
	if rank(l.types[:len(l.types)-1], last) > rank(l.types, next.Event) {
		h.fault("backwards: %v, then %s", l.types, next.Event)
	}
	switch {
	case last == events.Deleting && next.Event != events.Gone, last == events.Gone:
		h.fault("%s after %s", next.Event, last)
	case next.Event == events.Gone && last != events.Deleting:
		h.fault("gone after %s", last)
	case last == events.Failed && next.Event != events.Deleting:
		h.fault("%s after failed", next.Event)
	case next.Event == events.Failed && l.readyAt:
		h.fault("failed after it was ready: %v", l.types)
	case next.Event == events.Ended && !l.readyAt:
		h.fault("ended before it was ready: %v", l.types)
	case slices.Contains(l.types, next.Event) && (next.Event == events.Launched || next.Event == events.Licensed || next.Event == events.Failed):
		h.fault("%s twice: %v", next.Event, l.types)
	}
}

// conclude asserts what holds when everything has been delivered.
func (h *history) conclude() {
	claims := map[string]int{}
	for key, n := range h.claims {
		claims[key[1]] += n
	}
	for _, c := range h.creates {
		o := h.outcomes[c.id]
		switch {
		case o.Verdict == "":
			h.fault("%s has no outcome", c.id)
		case o.Verdict == events.Accepted && claims[c.id] != 1:
			h.fault("%s was accepted and has %d claims", c.id, claims[c.id])
		case o.Verdict != events.Accepted && claims[c.id] != 0:
			h.fault("%s was %s and has %d claims", c.id, o.Verdict, claims[c.id])
		}
	}
	for generation, l := range h.lives {
		first := slices.IndexFunc(l.types, events.Type.Outcome)
		last := l.types[len(l.types)-1]
		switch {
		case (l.asked || last == events.Deleting) && first < 0:
			h.fault("%s never came to an outcome: %v", generation, l.types)
		case last == events.Deleting:
			h.fault("%s never went: %v", generation, l.types)
		}
	}
}
