package natsbus

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// StorageEntry is a user's storage record as it stands in the log. The zero
// StorageEntry means that there is none.
type StorageEntry struct {
	events.Storage
	// Sequence is the message's place in the log.
	Sequence uint64
}

// Storage reads the storage record of a user from the stream's leader.
func (b *Bus) Storage(ctx context.Context, user string) (StorageEntry, error) {
	e, _, err := b.storage(ctx, events.StorageSubject(b.cluster, user))
	return e, err
}

func (b *Bus) storage(ctx context.Context, subject string) (entry StorageEntry, eventID string, err error) {
	raw, err := b.lastMessage(ctx, subject)
	if err != nil || raw == nil {
		return StorageEntry{}, "", err
	}
	return decodeStorage(raw)
}

func decodeStorage(raw *jetstream.RawStreamMsg) (entry StorageEntry, eventID string, err error) {
	e, err := events.Parse(raw.Data)
	if err != nil {
		return StorageEntry{}, "", fmt.Errorf("read log at %d: %w", raw.Sequence, err)
	}
	if e.Storage == nil || events.StorageSubject(e.Storage.Cluster, e.Storage.User) != raw.Subject {
		return StorageEntry{}, "", fmt.Errorf("read log at %d: %w: not the storage record of %s", raw.Sequence, events.ErrMalformed, raw.Subject)
	}
	return StorageEntry{Storage: *e.Storage, Sequence: raw.Sequence}, e.ID, nil
}

// ChangeStorage adds a fact to a user's storage record, as [events.NextStorage]
// decides, by compare-and-set. It returns the record that holds afterwards.
//
// The errors are those of NextStorage, with the record that stood in the way, and
// [ErrUnavailable], after which it is not known whether the fact is in the log.
func (b *Bus) ChangeStorage(ctx context.Context, fact events.StorageFact) (events.Storage, error) {
	fact.Cluster = b.cluster
	subject := events.StorageSubject(b.cluster, fact.User)
	var current StorageEntry
	read := false
	if fact.Kind != events.StorageUse {
		var err error
		if current, err = b.Storage(ctx, fact.User); err != nil {
			return events.Storage{}, err
		}
		read = true
	}
	for range maxConflicts {
		next, changed, err := events.NextStorage(current.Storage, fact)
		if err != nil || !changed {
			return next, err
		}
		e := b.event(ctx)
		e.Storage = &next
		data, err := e.Marshal()
		if err != nil {
			return events.Storage{}, fmt.Errorf("change storage of %s: %w", fact.User, err)
		}
		err = b.ask(ctx, "publish "+subject, func(ctx context.Context) error {
			_, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data}, jetstream.WithExpectStream(events.LogStream),
				jetstream.WithExpectLastSequencePerSubject(current.Sequence))
			return err
		})
		if err == nil {
			return next, nil
		}
		if ctx.Err() != nil {
			return events.Storage{}, err
		}
		was := current.Sequence
		now, id, readErr := b.storage(ctx, subject)
		switch {
		case readErr != nil:
			return events.Storage{}, readErr
		case id == e.ID:
			return now.Storage, nil // The answer was lost, not the write.
		case !conflict(err):
			return events.Storage{}, err
		case read && now.Sequence == was:
			pause(ctx, conflictPause) // The other's write is on its way to the replicas.
		}
		current, read = now, true
	}
	return events.Storage{}, fmt.Errorf("change storage of %s: %w: others were faster %d times", fact.User, ErrUnavailable, maxConflicts)
}

// Storages reads the newest storage record of every user that has one, from the
// leader, one by one: it is for sweeps and comparisons. A message that this
// version cannot read ends it with an error: unknown is not absent.
func (b *Bus) Storages(ctx context.Context) ([]StorageEntry, error) {
	subjects, err := b.subjects(ctx, events.LogStream, events.StorageFilter(b.cluster))
	if err != nil {
		return nil, err
	}
	all := make([]StorageEntry, 0, len(subjects))
	for _, subject := range subjects {
		e, _, err := b.storage(ctx, subject)
		if err != nil {
			return nil, err
		}
		if e.Sequence != 0 {
			all = append(all, e)
		}
	}
	return all, nil
}

// subjects lists the subjects of a stream that match a filter and hold a message.
func (b *Bus) subjects(ctx context.Context, stream, filter string) ([]string, error) {
	s, err := b.handle(ctx, stream)
	if err != nil {
		return nil, err
	}
	var all []string
	err = b.askMade(ctx, "list subjects of "+stream, func(ctx context.Context) error {
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
		if err != nil {
			return err
		}
		all = all[:0]
		for subject := range info.State.Subjects {
			all = append(all, subject)
		}
		return nil
	})
	return all, err
}
