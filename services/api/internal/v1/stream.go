package v1

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"berth/pkg/events"
	"berth/services/api/internal/access"
)

const (
	// heartbeat is how often a stream says that it is alive.
	heartbeat = 15 * time.Second
	// writeLimit is how long a client may take to read what is sent at once.
	writeLimit = 10 * time.Second
	// retryHint is how long a client is told to wait before it connects again.
	retryHint = 2 * time.Second
	// maxReplay is how many records a stream that resumes is sent again; one that is
	// further behind begins with what is now.
	maxReplay = 2000
	// maxReplays is how many streams of a silo read from the log at a time, maxSnapshots
	// how many read what is now.
	maxReplays, maxSnapshots = 8, 8
	// replayLimit is how long a stream that resumes may wait for its turn to read from the
	// log, and read; one that takes longer begins with what is now.
	replayLimit = 15 * time.Second
	// maxStreams is how many streams a silo may have open on a replica.
	maxStreams = 4096
	// maxUserStreams is how many of them may be of one user.
	maxUserStreams = 128
)

// Scope says whose records are read: those of one pod name, of one user, or of
// both. Empty text stands for any.
type Scope struct{ Pod, User string }

// StreamReset is the data of the event reset.
type StreamReset struct {
	Reason string `json:"reason" jsonschema:"why the stream cannot go on after Last-Event-ID"`
}

// StreamSynced is the data of the event synced.
type StreamSynced struct {
	Position string `json:"position" jsonschema:"up to where in the log everything has been sent"`
}

// stream is one stream of server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html).
type stream struct {
	h     *Handler
	w     http.ResponseWriter
	r     *http.Request
	scope Scope
	// foreign streams are of a user whom the caller may not name: they are those of
	// a user who has nothing.
	foreign bool
	// caller is who is streamed to, as the subscription's wants reads it; renewed, if set, is who it is for the next one.
	caller  access.Caller
	renewed *access.Caller
	// why is what the client is told that has to forget what it knows.
	why string

	// last is what the client has got to; its zero value means nothing.
	last events.Position
	// ahead are the records that a snapshot had before the hub did, by pod.
	ahead map[string]uint64
	out   []byte
	begun bool
}

// streamEvents answers with a stream. It returns an error only as long as nothing
// has been sent.
func (h *Handler) streamEvents(x *exchange, scope Scope, foreign bool) error {
	after, err := lastEventID(x.r.Header)
	if err != nil {
		return err
	}
	leave, err := h.enter(x.caller.Silo.Name, scope.User)
	if err != nil {
		return err
	}
	defer leave()
	if h.Waiting != nil {
		h.Waiting(x.op.path, 1)
		defer h.Waiting(x.op.path, -1)
	}
	ctx, cancel := context.WithCancelCause(x.r.Context())
	defer cancel(nil)
	defer context.AfterFunc(h.Draining, func() { cancel(errDraining) })()
	h.begins(x)
	s := &stream{h: h, w: x.w, r: x.r, scope: scope, foreign: foreign, caller: x.caller, last: after}
	err = s.run(ctx)
	if s.begun {
		h.Log.Debug().Err(err).Str("endpoint", x.op.id).Msg("Stream ended")
		return nil
	}
	if errors.Is(err, errDraining) {
		return &Fault{Reason: events.Unavailable, Message: errDraining.Error()}
	}
	return err
}

// errDraining ends the streams of a replica that stops.
var errDraining = errors.New("this replica is stopping; ask again")

// whose is a silo, or a user of one, that has streams open.
type whose struct{ silo, user string }

// enter counts a stream of a silo and of a user, empty for none in particular, until the
// function returned is called.
func (h *Handler) enter(silo, user string) (leave func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams == nil {
		h.streams = map[whose]int{}
	}
	counted := []whose{{silo: silo}}
	if h.streams[counted[0]] >= h.maxStreams() {
		return nil, tooMany(h.streams[counted[0]], "you have", "close some, or follow all users with one")
	}
	if user != "" {
		of := whose{silo, user}
		if h.streams[of] >= h.maxUserStreams() {
			return nil, tooMany(h.streams[of], "this user has", "close some, or follow all pods of the user with one")
		}
		counted = append(counted, of)
	}
	for _, of := range counted {
		h.streams[of]++
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, of := range counted {
			if h.streams[of]--; h.streams[of] == 0 {
				delete(h.streams, of)
			}
		}
	}, nil
}

func tooMany(count int, who, fix string) error {
	return &Fault{
		Reason: events.RateLimited, RetryAfter: 10 * time.Second,
		Message: who + " " + strconv.Itoa(count) + " streams open, which is the most: " + fix,
	}
}

// lastEventID is the position after which a stream goes on; its zero value where
// the client has none.
func lastEventID(header http.Header) (events.Position, error) {
	text := header.Get("Last-Event-ID")
	if text == "" {
		return events.Position{}, nil
	}
	p, err := parsePosition(text)
	if err != nil {
		return events.Position{}, invalid("Last-Event-ID must be the id of an event of this service, like 1767323045000000000-1767323045000001, or missing")
	}
	return p, nil
}

// parsePosition takes only what [events.Position.String] writes.
func parsePosition(text string) (events.Position, error) {
	if len(text) > 64 {
		return events.Position{}, errors.New("too long")
	}
	p, err := events.ParsePosition(text)
	if err == nil && p.String() != text {
		err = errors.New("not in its canonical form")
	}
	return p, err
}

// wants says whether a record is one of the stream's.
func (s *stream) wants(e Entry) bool {
	return !s.foreign && (s.scope.Pod == "" || e.Pod == s.scope.Pod) && (s.scope.User == "" || e.User == s.scope.User) && s.caller.MayName(e.User)
}

// run sends what the client has missed, then what happens, until ctx ends, the
// client goes or does not keep up, or the log cannot be trusted any more.
func (s *stream) run(ctx context.Context) error {
	for {
		// What happens from now on is collected before the past is read, so that
		// nothing is lost between the two.
		sub, done := s.h.Hub.subscribe(s.h.State.Epoch(), s.scope.User, s.wants)
		err := s.catchUp(ctx, sub.from)
		if err == nil {
			err = s.live(ctx, sub)
		}
		done()
		if !errors.Is(err, errGap) {
			return err
		}
		if s.renewed != nil {
			s.restart(*s.renewed)
		}
	}
}

// catchUp sends what is now, or what happened after the client's last position.
func (s *stream) catchUp(ctx context.Context, from events.Position) error {
	// A hub that has heard nothing of this log yet has nothing to go on after.
	if created := s.h.State.Epoch().Created; from.Created != created {
		from = events.Position{Created: created}
	}
	p, err := s.read(ctx)
	switch {
	case err != nil:
		return err
	case p.resumes:
		return s.replay(p.steps, from)
	}
	return s.snapshot(p.entries, from, p.reset)
}

// synced says up to where everything has been sent.
func (s *stream) synced(at events.Position) error {
	s.last = at
	s.event("synced", at, mustJSON(StreamSynced{Position: s.last.String()}))
	return s.flush()
}
