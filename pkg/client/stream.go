package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Kind is what an [Event] of a stream is.
type Kind string

// The kinds.
const (
	// PodChanged is that something happened to a pod, or what the pod is as the
	// stream begins.
	PodChanged Kind = "pod"
	// Synced is that everything up to the event's position has been told. It comes when
	// what is now has been told, and again from time to time.
	Synced Kind = "synced"
	// Reset is that the stream cannot go on where it was: what is now follows, and
	// what is not told again is not there any more.
	Reset Kind = "reset"
)

// Event is one event of a stream. Kinds that a later version adds are left out.
type Event struct {
	Kind Kind
	// Position is where in the log it stands, to resume after it; empty where it
	// stands nowhere.
	Position string
	// Pod is set for PodChanged.
	Pod Pod
	// Why says in words why there is a Reset.
	Why string
}

// Stream says which events are told.
type Stream struct {
	// User is whose pods are followed, empty for all users that the caller may name.
	User string
	// Pod is the one pod that is followed, empty for all; it needs a User.
	Pod string
	// After is the position of the last event that is known, empty to begin with
	// what is now.
	After string
}

const (
	// silence is how long a stream may say nothing before it counts as broken: the
	// service says every 15 seconds that it is there.
	silence = 45 * time.Second
	// maxLine bounds a line of a stream, in bytes.
	maxLine = 1 << 20
)

// Events follows what happens to pods until ctx ends. A stream that breaks is
// connected again, to whichever replica, and goes on where it was, however long that takes;
// Options.OnRetry is told. The last pair has an error: the cause of ctx, or a [*Problem]
// that does not go away by itself, as for a pod that does not exist. Before the first
// stream, a wrong URL, or an answer that is not Berth's, ends it, too.
func (c *Client) Events(ctx context.Context, s Stream) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		// Who stops to listen ends the request.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		f := &follower{c: c, s: s, yield: yield}
		for attempt := 1; ; attempt++ {
			before := f.s.After
			err := f.connect(ctx)
			switch {
			case f.stopped:
				return
			case ctx.Err() != nil:
				yield(Event{}, context.Cause(ctx))
				return
			case f.final(err):
				yield(Event{}, err)
				return
			}
			if f.told || f.s.After != before {
				attempt, f.told = 1, false
			}
			pause := f.retry
			var p *Problem
			if errors.As(err, &p) && p.RetryAfter > 0 {
				pause = p.RetryAfter
			}
			if attempt > 1 {
				pause = max(pause, minWait<<min(attempt, 8))
			}
			if !c.wait(ctx, err, pause) {
				yield(Event{}, context.Cause(ctx))
				return
			}
		}
	}
}

// final says that connecting again would not help.
func (f *follower) final(err error) bool {
	if p, ok := errors.AsType[*Problem](err); ok {
		if p.Reason == "" {
			// Once there was a stream, it is something in front of the service that is changed.
			return !f.connected && !p.Busy() && p.Status < http.StatusInternalServerError
		}
		return !p.Busy() && p.Status < http.StatusInternalServerError
	}
	return errors.Is(err, ErrNotSent) || !f.connected && (errors.Is(err, ErrForeign) || misdirected(err))
}

// follower reads one stream after the other.
type follower struct {
	c     *Client
	s     Stream
	yield func(Event, error) bool
	// retry is what the service asks to wait for before a stream is connected again.
	retry time.Duration
	// told says that this connection has told something, stopped that nobody listens.
	told, stopped bool
	// connected says that there has been a stream.
	connected bool
}

const eventStream = "text/event-stream"

var errNoStream = errors.New("it is no stream of events")

var errSilent = fmt.Errorf("%w: the stream has fallen silent", ErrNoAnswer)

// connect reads one stream until it ends, and returns why.
func (f *follower) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := request{path: []string{"events"}, query: url.Values{}}
	if f.s.Pod != "" {
		r.path = []string{"pods", f.s.Pod, "events"}
	}
	if f.s.User != "" {
		r.query.Set("user_id", f.s.User)
	}
	header := http.Header{"Accept": {eventStream}}
	if f.s.After != "" {
		header.Set("Last-Event-ID", f.s.After)
	}
	quiet := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer quiet.Stop()
	response, err := f.c.send(ctx, r, header)
	if err != nil {
		return cause(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		data, err := io.ReadAll(io.LimitReader(response.Body, maxLine))
		if err != nil {
			return cause(ctx, noAnswer(err))
		}
		return problemOf(response, data)
	}
	if kind, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";"); kind != eventStream {
		return foreign(errNoStream)
	}
	f.connected = true
	return cause(ctx, f.read(response.Body, func() { quiet.Reset(silence) }))
}

// cause prefers the reason why a request was given up.
func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); why != nil && err != nil {
		return why
	}
	return err
}

// read reads events as https://html.spec.whatwg.org/multipage/server-sent-events.html
// describes them, as far as Berth uses it. alive is called for each line.
func (f *follower) read(body io.Reader, alive func()) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	var kind, id string
	var data []byte
	for lines.Scan() {
		alive()
		name, value, _ := bytes.Cut(lines.Bytes(), []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			kind = string(value)
		case "id":
			id = string(value)
		case "data":
			data = append(data, value...)
		case "retry":
			if ms, err := strconv.Atoi(string(value)); err == nil && ms >= 0 {
				f.retry = min(time.Duration(ms)*time.Millisecond, maxWait)
			}
		case "":
			if len(lines.Bytes()) > 0 {
				continue // A comment.
			}
			if kind != "" || id != "" {
				if err := f.tell(kind, id, data); err != nil || f.stopped {
					return err
				}
			}
			kind, id, data = "", "", nil
		}
	}
	if err := lines.Err(); err != nil {
		return noAnswer(err)
	}
	return ErrStreamEnded
}

// tell tells one event.
func (f *follower) tell(kind, id string, data []byte) error {
	e := Event{Kind: Kind(kind), Position: id}
	var err error
	switch e.Kind {
	case PodChanged:
		err = json.Unmarshal(data, &e.Pod)
	case Reset:
		var reset struct {
			Reason string `json:"reason"`
		}
		err = json.Unmarshal(data, &reset)
		e.Why = reset.Reason
	case Synced:
	default:
		kind = ""
	}
	if err != nil {
		return foreign(fmt.Errorf("event %s: %w", kind, err))
	}
	f.told = true
	if kind != "" && !f.yield(e, nil) {
		f.stopped = true
		return nil
	}
	// Only what was told need not be told again.
	if id != "" {
		f.s.After = id
	} else if e.Kind == Reset {
		f.s.After = ""
	}
	return nil
}
