package v1

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
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

// synced says up to where everything has been sent.
func (s *stream) synced(at events.Position) error {
	s.last = at
	s.event("synced", at, mustJSON(StreamSynced{Position: s.last.String()}))
	return s.flush()
}

// renew asks the guard again who is streamed to, and returns a channel that is closed when it is to be asked
// next. It returns errGap where the caller may name other users now: the stream begins again with what those
// have, and its client forgets the others.
func (s *stream) renew() (<-chan struct{}, error) {
	caller, changed, err := s.h.Guard.Renew(s.r)
	switch {
	case err != nil:
		return nil, fmt.Errorf("renew stream: %w", err)
	case caller.Silo.Name != s.caller.Silo.Name:
		return nil, errCaller
	case !caller.SameUsers(s.caller):
		s.renewed = &caller
		return nil, errGap
	}
	return changed, nil
}

// renewIf is renew where the channel is closed, else it returns the channel.
func (s *stream) renewIf(changed <-chan struct{}) (<-chan struct{}, error) {
	select {
	case <-changed:
		return s.renew()
	default:
		return changed, nil
	}
}

// restart makes the stream begin again for a caller who may name other users.
func (s *stream) restart(caller access.Caller) {
	s.caller, s.renewed, s.foreign = caller, nil, s.scope.User != "" && !caller.MayName(s.scope.User)
	s.last, s.why = events.Position{}, "the users that you may name have changed"
}

// errCaller ends a stream whose caller is another silo by now.
var errCaller = errors.New("the caller is another silo by now")

// live sends what happens.
func (s *stream) live(ctx context.Context, sub *subscription) error {
	// There may have been a reload since the request was admitted.
	changed, err := s.renew()
	if err != nil {
		return err
	}
	tick := time.NewTicker(s.h.heartbeat())
	defer tick.Stop()
	var reached events.Position // Up to where the hub had told everything at the last tick.
	for {
		queue, err := sub.take()
		if err == nil {
			// What came after a reload is not sent to whom it is not for any more.
			changed, err = s.renewIf(changed)
		}
		if err == nil {
			err = s.send(queue)
		}
		if err != nil {
			return err
		}
		// Only with nothing in the queue, nor a gap, has everything before been sent.
		if len(queue) == 0 && reached.Created == s.last.Created && !s.known(reached) {
			if err := s.synced(reached); err != nil {
				return err
			}
		}
		reached = events.Position{}
		if err := s.flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-sub.wake:
		case <-changed:
		case <-tick.C:
			if changed, err = s.beat(); err != nil {
				return err
			}
			// A client of whose pods nothing is heard for long resumes where the log is
			// now, not where it was when something happened last.
			reached = s.h.Hub.reached(sub.epoch)
		}
	}
}

// send puts what has come into the buffer, and sends that when it is large.
func (s *stream) send(queue []*news) error {
	for _, n := range queue {
		if s.known(n.Position) {
			continue
		}
		if s.last = n.Position; s.ahead[n.Pod] >= n.Position.Sequence {
			continue
		}
		s.event("pod", n.Position, n.write(s.h.IngressDomain))
		if err := s.spill(); err != nil {
			return err
		}
	}
	return nil
}

// beat puts into the buffer that the stream is alive, if it may be. It returns what renew does.
func (s *stream) beat() (changed <-chan struct{}, err error) {
	if changed, err = s.renew(); err != nil {
		return nil, err
	}
	// A log that cannot be trusted has no news; another replica may know more.
	if err := s.h.State.Ready(); err != nil {
		return nil, err
	}
	if s.h.State.Epoch().Created != s.last.Created {
		return nil, errGap
	}
	s.out = append(s.out, ": still here\n\n"...)
	return changed, nil
}

// known says that everything up to a position has been sent.
func (s *stream) known(p events.Position) bool {
	return p.Created == s.last.Created && p.Sequence <= s.last.Sequence
}

// begin sends the header, once.
func (s *stream) begin() error {
	if s.begun {
		return nil
	}
	s.begun = true
	header := s.w.Header()
	header.Set("Content-Type", eventStream)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Accel-Buffering", "no") // What nginx asks for, lest it keeps events back.
	// The server's own limits are for requests that do not wait. Without a read
	// deadline it still notices when the client goes away.
	if err := http.NewResponseController(s.w).SetReadDeadline(time.Time{}); err != nil {
		s.h.Log.Debug().Err(err).Msg("Cannot lift the time limit of a stream")
	}
	s.w.WriteHeader(http.StatusOK)
	s.out = fmt.Appendf(s.out, "retry: %d\n\n", retryHint.Milliseconds())
	return s.flush()
}

const eventStream = "text/event-stream"

// event puts an event into the buffer. With the zero position the client keeps the
// one that it has; one without a sequence is the beginning of a log.
func (s *stream) event(name string, id events.Position, data []byte) {
	s.out = append(s.out, "event: "+name+"\n"...)
	if id.Created != 0 {
		s.out = append(s.out, "id: "+id.String()+"\n"...)
	}
	// JSON has no line breaks.
	s.out = append(append(append(s.out, "data: "...), data...), "\n\n"...)
}

// spill sends the buffer when it is large.
func (s *stream) spill() error {
	if len(s.out) < 32<<10 {
		return nil
	}
	return s.flush()
}

// flush sends the buffer. Whoever does not take it in time is cut.
func (s *stream) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	control := http.NewResponseController(s.w)
	if err := control.SetWriteDeadline(time.Now().Add(s.h.writeLimit())); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("limit the time of a stream: %w", err)
	}
	_, err := s.w.Write(s.out)
	s.out = s.out[:0]
	if err == nil {
		err = control.Flush()
	}
	if err != nil {
		return fmt.Errorf("send events: %w", err)
	}
	return nil
}

func mustJSON(value any) []byte {
	var text strings.Builder
	if err := json.NewEncoder(&text).Encode(value); err != nil {
		return []byte("{}") // The values are structs of texts.
	}
	return []byte(strings.TrimSpace(text.String()))
}
