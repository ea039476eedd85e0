package follow

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// Message is a message of the log about a pod.
type Message struct {
	// Key is what its subject says.
	Key events.Key
	// Data is a CloudEvent in JSON, as it was written.
	Data []byte
	// Time is when the server took it in.
	Time     time.Time
	Sequence uint64
}

// Reader takes in what [Log.Read] reads. Its functions are called one after the
// other; an error of theirs ends the reading.
type Reader struct {
	// Message is called with each message, in the order of the log.
	Message func(Message) error
	// CaughtUp is called once, when everything that was there at the start has
	// been read.
	CaughtUp func() error
	// Anew is called when the log has been made anew. What follows is all of the
	// new one.
	Anew func()
}

const (
	// checkEvery is how often the leader is asked whether the log is still the
	// one that is read: a consumer of a stream that was made anew hears nothing.
	checkEvery = time.Second
	// retryEvery is how long to wait before a reading that broke off is begun again.
	retryEvery = 250 * time.Millisecond
	heartbeat  = 2 * time.Second
	expiry     = 10 * time.Second
	// forgetAfter is when the server forgets a consumer that nobody reads.
	forgetAfter = 30 * time.Second
)

// errAnew ends the reading of a stream that is no more.
var errAnew = errors.New("the log was made anew")

// Read reads until ctx ends, then returns its cause, or until r returns an
// error, and returns that. It loses nothing and repeats nothing, whatever
// becomes of the server meanwhile, as long as the log itself is kept.
func (l *Log) Read(ctx context.Context, q Query, r Reader) error {
	s := &reading{log: l, query: q, reader: r}
	for {
		err := s.read(ctx)
		var own readerError
		switch {
		case errors.As(err, &own):
			return own.error
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(retryEvery):
		}
	}
}

// readerError is an error of the reader, which ends the reading.
type readerError struct{ error }

// reading is how far a reader has come. It makes a new consumer, that goes on
// where the last one stopped, whenever something breaks off. Consumers that
// mend themselves (jetstream.OrderedConsumer) cannot be interrupted while they
// do.
type reading struct {
	log    *Log
	query  Query
	reader Reader

	// created is when the stream was made that is read, zero before the first.
	created time.Time
	// next is the sequence to read next.
	next uint64
	// lives are the sequences at which the present lives of pods began.
	lives    map[string]uint64
	caughtUp bool
}

func (s *reading) read(ctx context.Context) error {
	info, err := s.log.info(ctx)
	if err != nil {
		return err
	}
	if err := s.place(ctx, info); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var checker sync.WaitGroup
	defer checker.Wait()
	defer cancel(nil)
	lost := s.log.nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer s.log.nc.RemoveStatusListener(lost)
	checker.Go(func() { cancel(s.check(ctx, lost)) })
	return s.log.consume(ctx, s.query.filters(), s.next, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		s.next = meta.Sequence.Stream + 1
		return s.take(msg, meta)
	}, s.behind)
}

// place decides where to begin in the stream.
func (s *reading) place(ctx context.Context, info *jetstream.StreamInfo) error {
	switch {
	case s.created.IsZero():
		switch s.query.From {
		case FromEnd:
			s.next = info.State.LastSeq + 1
		case FromStart:
			s.next = 1
		case FromLife:
			s.next = 1
			if err := s.findLives(ctx); err != nil {
				return err
			}
		}
	case !info.Created.Equal(s.created), info.State.LastSeq+1 < s.next:
		s.next, s.lives = 1, nil
		s.reader.Anew()
	}
	s.created = info.Created
	return nil
}

// findLives reads where the present life of each pod began.
func (s *reading) findLives(ctx context.Context) error {
	q := s.query
	q.Types = []events.Type{events.Claimed}
	lives := map[string]uint64{}
	err := s.log.consume(ctx, q.filters(), 0, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
		if key, err := events.ParsePodSubject(msg.Subject()); err == nil {
			lives[key.Pod] = max(lives[key.Pod], meta.Sequence.Stream)
		}
		return nil
	}, func(pending uint64) error {
		if pending == 0 {
			return errRead
		}
		return nil
	})
	if !errors.Is(err, errRead) {
		return err
	}
	s.lives = lives
	return nil
}

// errRead ends a reading that has read what there is.
var errRead = errors.New("everything has been read")

// take hands a message to the reader.
func (s *reading) take(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
	key, err := events.ParsePodSubject(msg.Subject())
	if err != nil || meta.Sequence.Stream < s.lives[key.Pod] {
		return nil
	}
	m := Message{Key: key, Data: msg.Data(), Time: meta.Timestamp, Sequence: meta.Sequence.Stream}
	if err := s.reader.Message(m); err != nil {
		return readerError{err}
	}
	return nil
}

// behind is told how much there is still to read.
func (s *reading) behind(pending uint64) error {
	if s.caughtUp || pending > 0 {
		return nil
	}
	s.caughtUp = true
	if err := s.reader.CaughtUp(); err != nil {
		return readerError{err}
	}
	return nil
}

// check returns when the stream that is read is no more, the connection is lost
// (and with it, maybe, the consumer), or ctx ends.
func (s *reading) check(ctx context.Context, lost <-chan nats.Status) error {
	created := s.created
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-lost:
			return nats.ErrDisconnected
		case <-tick.C:
		}
		info, err := s.log.info(ctx)
		if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && !info.Created.Equal(created) {
			return errAnew
		}
	}
}

// consume makes a consumer of filters and calls take with each message from
// sequence next on, or with the newest of each subject where next is 0. After
// each message, and at the start, it calls behind with the number of those that
// are there and yet to come. It returns an error of theirs, or why the messages
// broke off: the connection, a message that got lost, the end of ctx.
func (l *Log) consume(ctx context.Context, filters []string, next uint64,
	take func(jetstream.Msg, *jetstream.MsgMetadata) error, behind func(pending uint64) error,
) error {
	cfg := jetstream.ConsumerConfig{
		FilterSubjects: filters, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: next,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: forgetAfter,
	}
	if next == 0 {
		cfg.DeliverPolicy = jetstream.DeliverLastPerSubjectPolicy
	}
	request, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	consumer, err := l.js.CreateConsumer(request, events.LogStream, cfg)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", events.LogStream, err)
	}
	messages, err := consumer.Messages(jetstream.PullHeartbeat(heartbeat), jetstream.PullExpiry(expiry))
	if err != nil {
		return fmt.Errorf("read stream %s: %w", events.LogStream, err)
	}
	defer messages.Stop()
	if err := behind(consumer.CachedInfo().NumPending); err != nil {
		return err
	}
	for expected := uint64(1); ; expected++ {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read stream %s: %w", events.LogStream, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read stream %s: %w", events.LogStream, err)
		}
		if meta.Sequence.Consumer != expected {
			return fmt.Errorf("read stream %s: message %d of the consumer is missing", events.LogStream, expected)
		}
		if err := take(msg, meta); err != nil {
			return err
		}
		if err := behind(meta.NumPending); err != nil {
			return err
		}
	}
}
