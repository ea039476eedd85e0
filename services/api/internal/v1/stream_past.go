package v1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"berth/pkg/events"
)

// past is what a stream begins with: what was missed, or what is now, and why not
// the former where the client asked for it.
type past struct {
	resumes bool
	steps   []Step
	entries []Entry
	reset   string
}

// read reads the past. Few streams of a silo do at a time; none writes more than its
// header meanwhile.
func (s *stream) read(ctx context.Context) (p past, err error) {
	switch {
	case s.last != events.Position{}:
		if p.steps, p.reset, err = s.missed(ctx); err != nil || p.reset == "" {
			p.resumes = true
			return p, err
		}
	case s.why != "":
		p.reset = s.why
	case s.begun:
		p.reset = "the log was read again"
	}
	free, err := take(ctx, s.h.placesOf(s.caller.Silo.Name).snapshots)
	if err != nil {
		return past{}, err
	}
	defer free()
	p.entries, err = s.now(ctx)
	return p, err
}

// errReplay ends the reading of what a stream has missed.
var errReplay = errors.New("it takes too long to read what has happened since")

// missed returns what happened after the client's last position, or why that
// cannot be told.
func (s *stream) missed(ctx context.Context) (steps []Step, reset string, err error) {
	appended, there, err := s.appended(ctx)
	switch {
	case err != nil:
		return nil, "", err
	case !there:
		return nil, "the log does not have this position any more, or it is of another log", nil
	case time.Since(appended) > s.h.Retention:
		// What went since may have been forgotten.
		return nil, "the position is older than the log goes back", nil
	case s.foreign:
		return nil, "", nil
	}
	// The client knows that it is connected, however long it takes.
	if err := s.begin(); err != nil {
		return nil, "", err
	}
	limited, cancel := context.WithTimeoutCause(ctx, s.h.replayLimit(), errReplay)
	defer cancel()
	free, err := take(limited, s.h.placesOf(s.caller.Silo.Name).replays)
	if err == nil {
		steps, err = s.h.Past.After(limited, s.last, s.scope, maxReplay+1, func(r events.Record) bool { return s.wants(Entry{Record: r}) })
		free()
	}
	switch {
	case err != nil && ctx.Err() == nil && limited.Err() != nil:
		return nil, errReplay.Error(), nil
	case len(steps) > maxReplay:
		return nil, fmt.Sprintf("more than %d things have happened since", maxReplay), err
	}
	return steps, "", err
}

// appended returns when the record at the client's last position was appended, and
// whether the log has it. The place before the first record is as old as the log.
func (s *stream) appended(ctx context.Context) (at time.Time, there bool, err error) {
	if s.last.Sequence == 0 {
		return time.Unix(0, s.last.Created), s.last.Created == s.h.State.Epoch().Created, nil
	}
	return s.h.Past.RecordAt(ctx, s.last)
}

// now returns the newest records of the stream's pods, in the order of the log.
func (s *stream) now(ctx context.Context) ([]Entry, error) {
	if err := s.h.State.Ready(); err != nil {
		return nil, err
	}
	if s.foreign {
		return nil, nil
	}
	entries, err := s.h.State.Pods(ctx, s.scope.User)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e Entry) bool { return !s.wants(e) })
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Position.Sequence, b.Position.Sequence) })
	return entries, nil
}

// snapshot sends what is now. Whoever breaks off within it resumes after the last
// record that came: they come in the order of the log, and none with a position
// that the hub has not reached.
func (s *stream) snapshot(entries []Entry, from events.Position, why string) error {
	if err := s.begin(); err != nil {
		return err
	}
	if why != "" {
		s.event("reset", events.Position{}, mustJSON(StreamReset{Reason: why}))
		s.why = ""
	}
	s.ahead = map[string]uint64{}
	for _, e := range entries {
		id := e.Position
		if id.Sequence > from.Sequence {
			s.ahead[e.Pod] = id.Sequence
			id = from
		}
		s.event("pod", id, dataOf(e, s.h.IngressDomain))
		if err := s.spill(); err != nil {
			return err
		}
	}
	return s.synced(from)
}

// replay sends what was missed.
func (s *stream) replay(steps []Step, from events.Position) error {
	if err := s.begin(); err != nil {
		return err
	}
	at := s.last
	for _, step := range steps {
		at = step.Position
		if !s.wants(step.Entry) || s.ahead[step.Pod] >= at.Sequence {
			continue
		}
		s.event("pod", at, dataOf(step.Entry, s.h.IngressDomain))
		if err := s.spill(); err != nil {
			return err
		}
	}
	// The leader was asked after the subscription began: it had all that the hub had.
	if from.Created == at.Created && from.Sequence > at.Sequence {
		at = from
	}
	return s.synced(at)
}
