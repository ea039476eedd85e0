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
	e, err := decode(raw.Subject, raw.Data, raw.Sequence)
	if err != nil {
		return Entry{}, err
	}
	if e.Generation == "" {
		// Asked for after the read: should the stream have been made anew between
		// the two, the generation is one that no record has.
		created, err := b.Created(ctx)
		if err != nil {
			return Entry{}, err
		}
		e.Generation = events.At(created, e.Sequence).String()
	}
	return e, nil
}

// lastMessage reads the last message of a filter from the leader, nil for none.
func (b *Bus) lastMessage(ctx context.Context, filter string) (*jetstream.RawStreamMsg, error) {
	s, err := b.logStream(ctx)
	if err != nil {
		return nil, err
	}
	var raw *jetstream.RawStreamMsg
	err = b.ask(ctx, "read "+filter, func(ctx context.Context) (err error) {
		raw, err = s.GetLastMsgForSubject(ctx, filter)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		return err
	})
	return raw, err
}

// decode reads a record. It leaves out the generation where the record cannot
// carry it: it is the first of its life.
func decode(subject string, data []byte, sequence uint64) (Entry, error) {
	e, err := events.Parse(data)
	if err != nil {
		return Entry{}, fmt.Errorf("read log at %d: %w", sequence, err)
	}
	if e.Record == nil {
		return Entry{}, fmt.Errorf("read log at %d: %w: not a pod record", sequence, events.ErrMalformed)
	}
	r := e.Record
	if subject != events.PodSubject(r.Cluster, r.Pod, r.User, r.Event) {
		return Entry{}, fmt.Errorf("read log at %d: %w: the record contradicts its subject %s", sequence, events.ErrMalformed, subject)
	}
	return Entry{Record: *r, Sequence: sequence, EventID: e.ID, Time: e.Time}, nil
}

// Append adds a fact to the log of a pod, as [events.Next] decides: it reads the
// newest record, writes the next one on the condition that nobody else has
// written meanwhile, and starts over where somebody has. It returns the record
// that holds afterwards and whether this call has written it.
//
// A name that is free is claimed, also by a command that had it before; see
// [Bus.Claimed].
//
// The errors are those of Next and of [events.Event.Marshal], and
// [ErrUnavailable], after which it is not known whether the fact is in the log.
// After an error of Next the entry returned is the record that stood in the way.
func (b *Bus) Append(ctx context.Context, pod string, fact events.Fact) (Entry, bool, error) {
	entry, err := b.Last(ctx, pod)
	if err != nil {
		return Entry{}, false, err
	}
	return b.append(ctx, entry, true, pod, fact)
}

// AppendAfter is [Bus.Append] for a caller that knows the newest record, or
// thinks so: a stale one costs one more read.
func (b *Bus) AppendAfter(ctx context.Context, entry Entry, pod string, fact events.Fact) (Entry, bool, error) {
	return b.append(ctx, entry, false, pod, fact)
}

// The bounds of a race for one pod.
const (
	maxConflicts  = 100
	conflictPause = 5 * time.Millisecond
)

// append appends a fact after entry; read says that entry comes from the leader.
func (b *Bus) append(ctx context.Context, entry Entry, read bool, pod string, fact events.Fact) (Entry, bool, error) {
	for range maxConflicts {
		next, changed, err := events.Next(entry.Record, fact)
		switch {
		case (err != nil || !changed) && !read:
			// Only the leader's record is good enough for a no.
			if entry, err = b.Last(ctx, pod); err != nil {
				return Entry{}, false, err
			}
			read = true
			continue
		case err != nil || !changed:
			return entry, false, err
		case next.Cluster != b.cluster || next.Pod != pod:
			return entry, false, fmt.Errorf("append to %s: %w: the record is about %s in %s", pod, events.ErrMalformed, next.Pod, next.Cluster)
		}
		e := b.event(ctx)
		e.Record = &next
		data, err := e.Marshal()
		if err != nil {
			return Entry{}, false, fmt.Errorf("append to %s: %w", pod, err)
		}
		written, err := b.write(ctx, entry.Sequence, e, data)
		if err == nil {
			return written, true, nil
		}
		if ctx.Err() != nil {
			return Entry{}, false, err
		}
		current, readErr := b.Last(ctx, pod)
		switch {
		case readErr != nil:
			return Entry{}, false, readErr
		case current.EventID == e.ID:
			return current, true, nil // The answer was lost, not the write.
		case !conflict(err):
			return Entry{}, false, err
		case current.Sequence == entry.Sequence:
			// The other's write is on its way to the replicas.
			pause(ctx, conflictPause)
		}
		entry, read = current, true
	}
	return Entry{}, false, fmt.Errorf("append to %s: %w: others were faster %d times", pod, ErrUnavailable, maxConflicts)
}

// write publishes an event on the condition that last is the newest sequence of
// its pod.
func (b *Bus) write(ctx context.Context, last uint64, e events.Event, data []byte) (Entry, error) {
	r := *e.Record
	msg := &nats.Msg{Subject: events.PodSubject(r.Cluster, r.Pod, r.User, r.Event), Data: data}
	entry := Entry{Record: r, EventID: e.ID, Time: e.Time}
	err := b.ask(ctx, "publish "+msg.Subject, func(ctx context.Context) error {
		ack, err := b.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(events.LogStream),
			jetstream.WithExpectLastSequenceForSubject(last, events.PodFilter(r.Cluster, r.Pod)))
		if err == nil {
			entry.Sequence = ack.Sequence
		}
		return err
	})
	if err != nil || entry.Generation != "" {
		return entry, err
	}
	// The age of the stream is asked for after the write, as in lastMatch.
	created, err := b.Created(ctx)
	if err != nil {
		return Entry{}, err
	}
	entry.Generation = events.At(created, entry.Sequence).String()
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
// is gone by now and others have had the name since: a command that is delivered
// again must not make a second pod. It reads all claims of the name that the log
// still has, one by one.
func (b *Bus) Claimed(ctx context.Context, pod, command string) (bool, error) {
	s, err := b.logStream(ctx)
	if err != nil {
		return false, err
	}
	// A subject keeps a bounded number of messages, so this ends.
	for from := uint64(1); ; {
		raw, err := b.nextMessage(ctx, s, from, events.PodClaims(b.cluster, pod))
		if err != nil || raw == nil {
			return false, err
		}
		if e, err := events.Parse(raw.Data); err == nil && e.Record != nil && e.Record.Command == command {
			return true, nil
		}
		from = raw.Sequence + 1
	}
}

// nextMessage reads from the leader of a stream the first message of a filter
// that has a sequence of at least from, nil for none.
func (b *Bus) nextMessage(ctx context.Context, s jetstream.Stream, from uint64, filter string) (*jetstream.RawStreamMsg, error) {
	var raw *jetstream.RawStreamMsg
	err := b.ask(ctx, "read "+filter, func(ctx context.Context) (err error) {
		raw, err = s.GetMsg(ctx, from, jetstream.WithGetMsgSubject(filter))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		return err
	})
	return raw, err
}
