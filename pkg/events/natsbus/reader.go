package natsbus

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

var errGap = errors.New("messages of the log are missing")

// reader takes the messages of one consumer into the table. Until it has what
// was in the log when it began, it keeps the records aside unread, so that only
// the newest of each pod is decoded.
type reader struct {
	table   *Table
	created time.Time
	pending uint64 // How many messages there were when the consumer was made.
	taken   uint64 // How many have come.
	newest  uint64 // The sequence of the last.

	loaded   bool
	complete bool
	raw      map[string][]rawRecord // By pod, in the order of the log.
}

type rawRecord struct {
	event    events.Type
	subject  string
	sequence uint64
	time     time.Time
	data     []byte
}

func newReader(t *Table, created time.Time, pending uint64) *reader {
	return &reader{table: t, created: created, pending: pending, raw: map[string][]rawRecord{}}
}

// run takes messages until ctx ends or the consumer fails.
func (r *reader) run(ctx context.Context, messages jetstream.MessagesContext) error {
	if r.pending == 0 {
		r.load()
	}
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if err := r.take(msg); err != nil {
			return err
		}
	}
}

func (r *reader) take(msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	if r.taken++; meta.Sequence.Consumer != r.taken {
		return errGap
	}
	r.newest = meta.Sequence.Stream
	if key, err := events.ParsePodSubject(msg.Subject()); err == nil {
		raw := rawRecord{key.Event, msg.Subject(), r.newest, meta.Timestamp, msg.Data()}
		if r.loaded {
			r.follow(raw)
		} else {
			r.keep(key, raw)
		}
	} else if _, command, err := events.ParseOutcomeSubject(msg.Subject()); err == nil {
		r.outcome(command, msg)
	} else {
		r.mark(msg)
	}
	if !r.loaded && (meta.NumPending == 0 || r.taken >= r.pending) {
		r.load()
	}
	if r.loaded {
		r.advance()
	}
	return nil
}

// keep puts a record aside until all have come. When one comes that looks
// readable, of those before only the newest such is kept, should the first be
// malformed.
func (r *reader) keep(key events.Key, raw rawRecord) {
	kept := r.raw[key.Pod]
	if raw.readable() {
		kept = slices.DeleteFunc(kept, func(older rawRecord) bool { return !older.readable() })
		kept = kept[max(0, len(kept)-1):]
	}
	r.raw[key.Pod] = append(kept, raw)
}

// readable is a guess, which costs much less than to read the record.
func (raw rawRecord) readable() bool {
	return raw.event.Known() && bytes.Contains(raw.data, []byte(`"type":"`+raw.event.CloudEventType()+`"`))
}

// load makes the table what the snapshot says.
func (r *reader) load() {
	t := r.table
	t.mu.RLock()
	old := t.view
	t.mu.RUnlock()
	fresh := newView(old.life, old.created)
	fresh.loaded, fresh.complete, fresh.newest = true, r.complete, max(r.newest, old.newest)
	for _, raws := range r.raw {
		if e, ok := r.newestOf(raws, old.loaded); ok {
			fresh.put(e)
		}
	}
	r.raw, r.loaded = nil, true

	t.mu.Lock()
	// What was read from the leader meanwhile may be newer.
	for _, e := range t.view.pods {
		if e.Sequence > r.newest {
			fresh.put(e)
		}
	}
	t.view = fresh
	t.loads++
	for key := range t.waiters {
		t.wake(key)
	}
	entries := make([]Entry, 0, len(fresh.pods))
	for _, e := range fresh.pods {
		if e.Sequence > t.told && e.Sequence <= r.newest {
			entries = append(entries, e)
		}
	}
	t.mu.Unlock()
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Sequence, b.Sequence) })
	for _, e := range entries {
		t.tell(e)
	}
	t.told = max(t.told, r.newest)
}

// newestOf decodes the newest record of a pod that this version can read. One
// that has been gone for a while is left out, unless the table was there before
// and may not have heard of it.
func (r *reader) newestOf(raws []rawRecord, again bool) (Entry, bool) {
	for _, raw := range slices.Backward(raws) {
		if raw.event == events.Gone && time.Since(raw.time) > goneKept && (!again || raw.sequence <= r.table.told) {
			return Entry{}, false
		}
		if e, ok := r.decode(raw); ok {
			return e, true
		}
	}
	return Entry{}, false
}

// decode reads a record; what this version cannot read is counted.
func (r *reader) decode(raw rawRecord) (Entry, bool) {
	e, err := decode(raw.subject, raw.data, raw.sequence)
	if err != nil {
		r.table.skip(raw.subject, err)
		return Entry{}, false
	}
	if e.Generation == "" {
		e.Generation = events.At(r.created, e.Sequence).String()
	}
	return e, true
}

// follow takes in a record that came after the snapshot.
func (r *reader) follow(raw rawRecord) {
	e, ok := r.decode(raw)
	if !ok {
		return
	}
	t := r.table
	t.mu.Lock()
	if t.view.put(e) {
		t.wake(waitKey{waitPod, e.Pod})
	}
	t.mu.Unlock()
	if e.Sequence > t.told {
		t.tell(e)
	}
}

// tell calls onChange.
func (t *Table) tell(e Entry) {
	t.told = e.Sequence
	if t.onChange != nil {
		t.onChange(e)
	}
}

// advance says how far the table has got.
func (r *reader) advance() {
	t := r.table
	t.mu.Lock()
	defer t.mu.Unlock()
	t.view.newest = max(t.view.newest, r.newest)
	t.wake(waitKey{kind: waitReader})
}

// outcome keeps the outcomes of the commands that somebody waits for.
func (r *reader) outcome(command string, msg jetstream.Msg) {
	t := r.table
	key := waitKey{waitOutcome, command}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiters[key] == nil {
		return
	}
	e, err := events.Parse(msg.Data())
	if err == nil && (e.Outcome == nil || e.Outcome.Command != command) {
		err = events.ErrMalformed
	}
	if err != nil {
		t.skip(msg.Subject(), err)
		return
	}
	t.decisions[command] = *e.Outcome
	t.wake(key)
}

// mark takes in that the log is complete.
func (r *reader) mark(msg jetstream.Msg) {
	t := r.table
	e, err := events.Parse(msg.Data())
	if err == nil && e.Mark == nil {
		err = events.ErrMalformed
	}
	if err != nil {
		t.skip(msg.Subject(), err)
		return
	}
	r.complete = e.Mark.Created == r.created.UnixNano()
	if r.loaded {
		t.mu.Lock()
		t.view.complete = r.complete
		t.mu.Unlock()
	}
}

// skip counts a message that this version cannot read.
func (t *Table) skip(subject string, err error) {
	t.skipped.Add(1)
	t.bus.log.Warn().Err(err).Str("subject", subject).Msg("Skipped a message that this version cannot read")
}
