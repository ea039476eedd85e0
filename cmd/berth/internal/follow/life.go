package follow

import (
	"context"

	"berth/pkg/events"
)

// Life is the present life of one pod of a user: what happened since its name
// was claimed, and what happens to it now.
type Life struct {
	Log                *Log
	Cluster, Pod, User string
	// After is where the log ended before the pod was asked for; the life begins
	// with the first claim after it. Nil means the newest life in the log.
	After *events.Position
}

// Follow calls emit with what has happened so far, in one piece, and from then
// on with each thing that happens, until ctx ends; it returns the cause. What
// this version cannot read is left out.
func (l Life) Follow(ctx context.Context, emit func([]events.Event)) error {
	q := Query{Cluster: l.Cluster, Pod: l.Pod, User: l.User, From: FromLife}
	begun := true
	if l.After != nil {
		q.From, q.After, begun = FromPosition, *l.After, false
	}
	var past []events.Event
	caughtUp := false
	return l.Log.Read(ctx, q, Reader{
		Message: func(m Message) error {
			e, err := events.Parse(m.Data)
			if err != nil || e.Record == nil {
				return nil
			}
			if begun = begun || e.Record.Event == events.Claimed; !begun {
				return nil
			}
			if caughtUp {
				emit([]events.Event{e})
			} else {
				past = append(past, e)
			}
			return nil
		},
		CaughtUp: func() error {
			caughtUp = true
			if len(past) > 0 {
				emit(past)
			}
			return nil
		},
		// What a log that is made anew says of the pod is about this life: its claim is not told again.
		Anew: func() { begun = true },
	})
}
