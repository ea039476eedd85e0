package natsbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// Entry is a record as it stands in the log. The zero Entry means that there is
// none.
type Entry struct {
	events.Record
	// Sequence is the message's place in the log.
	Sequence uint64
	// EventID is the event's id.
	EventID string
	// Time is when the event was appended.
	Time time.Time
}

// requestTimeout bounds one request to JetStream.
const requestTimeout = 5 * time.Second

// The two errors by which JetStream refuses an expected sequence.
const (
	wrongLastSequence         jetstream.ErrorCode = 10071
	wrongLastSequenceConstant jetstream.ErrorCode = 10164
)

// Last reads the newest record of a pod from the stream's leader. The record's
// generation is filled in. Where there is none it returns the zero Entry.
func (b *Bus) Last(ctx context.Context, pod string) (Entry, error) {
	return b.lastMatch(ctx, events.PodFilter(b.cluster, pod))
}

// LastOfUser reads the newest record of any pod of a user from the leader.
func (b *Bus) LastOfUser(ctx context.Context, user string) (Entry, error) {
	return b.lastMatch(ctx, events.UserFilter(b.cluster, user))
}

func (b *Bus) lastMatch(ctx context.Context, filter string) (Entry, error) {
	raw, err := b.lastMessage(ctx, filter)
	if err != nil || raw == nil {
		return Entry{}, err
	}
	created, err := b.Created(ctx)
	if err != nil {
		return Entry{}, err
	}
	return decode(raw.Data, created, raw.Sequence)
}

// lastMessage reads the last message of a filter from the leader, nil for none.
func (b *Bus) lastMessage(ctx context.Context, filter string) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s, err := b.logStream(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := s.GetLastMsgForSubject(ctx, filter)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", filter, ErrUnavailable, err)
	}
	return raw, nil
}

// decode reads a record and fills in what it cannot carry itself.
func decode(data []byte, created time.Time, sequence uint64) (Entry, error) {
	e, err := events.Parse(data)
	if err != nil {
		return Entry{}, fmt.Errorf("read log at %d: %w", sequence, err)
	}
	if e.Record == nil {
		return Entry{}, fmt.Errorf("read log at %d: %w: not a pod record", sequence, events.ErrMalformed)
	}
	if e.Record.Generation == "" {
		e.Record.Generation = events.At(created, sequence).String()
	}
	return Entry{Record: *e.Record, Sequence: sequence, EventID: e.ID, Time: e.Time}, nil
}

// Append adds a fact to the log of a pod, as [events.Next] decides: it reads the
// newest record, writes the next one on the condition that nobody else has
// written meanwhile, and starts over where somebody has. It returns the record
// that holds afterwards and whether this call has written it.
//
// The errors are those of Next, and [ErrUnavailable]. After an error of Next the
// entry returned is the record that stood in the way.
func (b *Bus) Append(ctx context.Context, pod string, fact events.Fact) (Entry, bool, error) {
	entry, err := b.Last(ctx, pod)
	if err != nil {
		return Entry{}, false, err
	}
	return b.AppendAfter(ctx, entry, pod, fact)
}

// AppendAfter is [Bus.Append] for a caller that knows the newest record, or
// thinks so: a stale one costs one more read.
func (b *Bus) AppendAfter(ctx context.Context, entry Entry, pod string, fact events.Fact) (Entry, bool, error) {
	asked := false
	for {
		next, changed, err := events.Next(entry.Record, fact)
		if errors.Is(err, events.ErrGeneration) && !asked {
			// The stream may have been made anew since its age was asked for.
			asked = true
			b.forget()
			if entry, err = b.Last(ctx, pod); err != nil {
				return Entry{}, false, err
			}
			continue
		}
		if err != nil || !changed {
			return entry, false, err
		}
		written, err := b.write(ctx, entry.Sequence, next)
		if err == nil {
			return written, true, nil
		}
		if ctx.Err() != nil {
			return Entry{}, false, fmt.Errorf("append to %s: %w: %w", pod, ErrUnavailable, err)
		}
		current, readErr := b.Last(ctx, pod)
		if readErr != nil {
			return Entry{}, false, readErr
		}
		if current.EventID == written.EventID {
			return current, true, nil // The answer was lost, not the write.
		}
		if !conflict(err) {
			return Entry{}, false, fmt.Errorf("append to %s: %w: %w", pod, ErrUnavailable, err)
		}
		entry = current
	}
}

// write publishes a record on the condition that last is the newest sequence
// of the pod. The entry returned has the event's id also after an error.
func (b *Bus) write(ctx context.Context, last uint64, record events.Record) (Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	created, err := b.Created(ctx)
	if err != nil {
		return Entry{}, err
	}
	e := b.event(ctx)
	e.Record = &record
	entry := Entry{Record: record, EventID: e.ID, Time: e.Time}
	data, err := e.Marshal()
	if err != nil {
		return entry, err
	}
	msg := &nats.Msg{Subject: events.PodSubject(record.Cluster, record.Pod, record.User, record.Event), Data: data}
	ack, err := b.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(events.LogStream),
		jetstream.WithExpectLastSequenceForSubject(last, events.PodFilter(record.Cluster, record.Pod)))
	if err != nil {
		return entry, fmt.Errorf("publish %s: %w", msg.Subject, err)
	}
	entry.Sequence = ack.Sequence
	if entry.Generation == "" {
		entry.Generation = events.At(created, ack.Sequence).String()
	}
	return entry, nil
}

// event begins an event of this service.
func (b *Bus) event(ctx context.Context) events.Event {
	return events.Event{ID: NewID(), Source: b.source, Time: time.Now().UTC(), Traceparent: Traceparent(ctx)}
}

// NewID returns a new unique id for a command or an event: a UUID of version 7
// (RFC 9562), which sorts by time.
func NewID() string {
	id, err := uuid.NewV7()
	if err != nil {
		// The system's random source failed once; version 4 asks it again.
		return uuid.NewString()
	}
	return id.String()
}

func conflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == wrongLastSequence || api.ErrorCode == wrongLastSequenceConstant)
}

// Claimed says whether a command has ever claimed a pod name, also if that pod
// is gone by now. It reads the claims of the name that the log still has.
func (b *Bus) Claimed(ctx context.Context, pod, command string) (bool, error) {
	s, err := b.logStream(ctx)
	if err != nil {
		return false, err
	}
	filter := events.PodClaims(b.cluster, pod)
	// A subject keeps a bounded number of messages, so this ends.
	for next := uint64(1); ; {
		reqCtx, cancel := context.WithTimeout(ctx, requestTimeout)
		raw, err := s.GetMsg(reqCtx, next, jetstream.WithGetMsgSubject(filter))
		cancel()
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read %s: %w: %w", filter, ErrUnavailable, err)
		}
		if e, err := events.Parse(raw.Data); err == nil && e.Record != nil && e.Record.Command == command {
			return true, nil
		}
		next = raw.Sequence + 1
	}
}
