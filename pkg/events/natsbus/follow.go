package natsbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// checkEvery is how often a reader asks the leader whether the stream is still
// the one that it reads. An ordered consumer alone would wait for ever on a
// stream that was made anew.
const checkEvery = time.Second

var errMadeAnew = errors.New("the stream was made anew")

// follow reads a snapshot of the log, then follows it. It returns when ctx ends
// or the table has to be read again.
func (t *Table) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := t.bus.Provision(ctx); err != nil {
		return err
	}
	t.bus.forget()
	setup, cancelSetup := context.WithTimeout(ctx, requestTimeout)
	defer cancelSetup()
	info, err := t.bus.info(setup)
	if err != nil {
		return err
	}
	created := info.Created
	if t.Created() != created.UnixNano() {
		t.reset(newView(created.UnixNano()))
	}

	if t.outcomes {
		stop, err := t.read(setup, jetstream.OrderedConsumerConfig{
			FilterSubjects: []string{events.OutcomeFilter(t.bus.cluster)},
			DeliverPolicy:  jetstream.DeliverNewPolicy,
		}, cancel, t.takeOutcome)
		if err != nil {
			return err
		}
		defer stop()
	}

	snapshot := &snapshot{table: t, created: created, view: newView(created.UnixNano()), raw: map[string]rawRecord{}}
	stop, err := t.read(setup, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{events.ClusterFilter(t.bus.cluster), events.MarkSubject(t.bus.cluster)},
		DeliverPolicy:  jetstream.DeliverLastPerSubjectPolicy,
	}, cancel, snapshot.take)
	if err != nil {
		return err
	}
	defer stop()
	if err := snapshot.emptyLog(setup); err != nil {
		return err
	}
	return t.check(ctx, created)
}

// read consumes in the background until the function returned is called, which
// waits for the end of the last call of take.
func (t *Table) read(ctx context.Context, cfg jetstream.OrderedConsumerConfig, fail context.CancelCauseFunc, take func(jetstream.Msg)) (func(), error) {
	consumer, err := t.bus.js.OrderedConsumer(ctx, events.LogStream, cfg)
	if err != nil {
		return nil, fmt.Errorf("read %v: %w", cfg.FilterSubjects, err)
	}
	consuming, err := consumer.Consume(take, jetstream.PullHeartbeat(2*time.Second), jetstream.PullExpiry(10*time.Second),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			t.bus.log.Debug().Err(err).Strs("subjects", cfg.FilterSubjects).Msg("Reader of the log reported an error")
		}))
	if err != nil {
		return nil, fmt.Errorf("read %v: %w", cfg.FilterSubjects, err)
	}
	watched := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-consuming.Closed():
			fail(errors.New("the reader was closed"))
		case <-over:
		}
	}()
	return func() {
		close(over)
		<-watched
		consuming.Stop()
		<-consuming.Closed()
	}, nil
}

// check asks the leader again and again whether the stream is still the same.
func (t *Table) check(ctx context.Context, created time.Time) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		asked := time.Now()
		request, cancel := context.WithTimeout(ctx, requestTimeout)
		info, err := t.bus.info(request)
		cancel()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return errMadeAnew
		case err == nil && !info.Created.Equal(created), err == nil && info.State.LastSeq < t.newest():
			return errMadeAnew
		case err == nil:
			t.checked.Store(asked.UnixNano())
			t.forgetGone(asked)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// newest is the highest sequence that the table has seen.
func (t *Table) newest() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.view.newest
}

// takeOutcome keeps the outcomes of the commands that somebody waits for.
func (t *Table) takeOutcome(msg jetstream.Msg) {
	_, command, err := events.ParseOutcomeSubject(msg.Subject())
	if err != nil {
		t.skip(msg, err)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiters[outcomeKey(command)] == nil {
		return
	}
	e, err := events.Parse(msg.Data())
	if err != nil || e.Outcome == nil {
		t.skip(msg, err)
		return
	}
	t.decisions[command] = *e.Outcome
	t.wake(outcomeKey(command))
}

// snapshot takes the messages of the log in. Until the last of them that was
// there at the start has come, it keeps them aside unread, so that only the
// newest of each pod is decoded.
type snapshot struct {
	table   *Table
	created time.Time
	view    view
	raw     map[string]rawRecord
	loaded  bool
}

type rawRecord struct {
	sequence uint64
	data     []byte
}

// emptyLog ends the snapshot at once where there is nothing to read.
func (s *snapshot) emptyLog(ctx context.Context) error {
	for _, filter := range []string{events.ClusterFilter(s.table.bus.cluster), events.MarkSubject(s.table.bus.cluster)} {
		if msg, err := s.table.bus.lastMessage(ctx, filter); err != nil || msg != nil {
			return err
		}
	}
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	s.table.view.loaded = true
	return nil
}

func (s *snapshot) take(msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		s.table.skip(msg, err)
		return
	}
	if s.loaded {
		s.now(msg, meta.Sequence.Stream)
		return
	}
	if key, err := events.ParsePodSubject(msg.Subject()); err == nil {
		s.raw[key.Pod] = rawRecord{sequence: meta.Sequence.Stream, data: msg.Data()}
	} else {
		s.mark(msg)
	}
	s.view.newest = meta.Sequence.Stream
	if meta.NumPending == 0 {
		s.load()
	}
}

// load makes the table what the snapshot says.
func (s *snapshot) load() {
	s.loaded = true
	for pod, raw := range s.raw {
		e, err := decode(raw.data, s.created, raw.sequence)
		switch {
		case err != nil:
			s.table.skipped.Add(1)
			s.table.bus.log.Warn().Err(err).Str("pod_name", pod).Msg("Skipped a record that this version cannot read")
		case e.Event == events.Gone && time.Since(e.Time) > goneKept:
		default:
			s.view.put(e)
		}
	}
	s.raw = nil
	t := s.table
	t.mu.Lock()
	s.view.loaded = true
	if t.view.created == s.view.created {
		// What was read from the leader meanwhile may be newer.
		s.view.complete = s.view.complete || t.view.complete
		for _, e := range t.view.pods {
			s.view.put(e)
		}
	}
	t.view = s.view
	for key := range t.waiters {
		t.wake(key)
	}
	entries := t.view.entries(func(yield func(string) bool) {
		for name := range t.view.pods {
			if !yield(name) {
				return
			}
		}
	})
	t.mu.Unlock()
	if t.onChange != nil {
		for _, e := range entries {
			t.onChange(e)
		}
	}
}

// now takes in a message that came after the snapshot.
func (s *snapshot) now(msg jetstream.Msg, sequence uint64) {
	t := s.table
	if _, err := events.ParsePodSubject(msg.Subject()); err != nil {
		s.mark(msg)
	} else if e, err := decode(msg.Data(), s.created, sequence); err != nil {
		t.skip(msg, err)
	} else {
		t.apply(e)
	}
	t.mu.Lock()
	t.view.newest = max(t.view.newest, sequence)
	t.view.loaded = true
	t.mu.Unlock()
}

// mark takes in that the log is complete.
func (s *snapshot) mark(msg jetstream.Msg) {
	e, err := events.Parse(msg.Data())
	if err != nil || e.Mark == nil {
		s.table.skip(msg, err)
		return
	}
	complete := e.Mark.Created == s.created.UnixNano()
	s.view.complete = complete
	if s.loaded {
		s.table.mu.Lock()
		s.table.view.complete = complete
		s.table.mu.Unlock()
	}
}

// skip counts a message that this version cannot read.
func (t *Table) skip(msg jetstream.Msg, err error) {
	t.skipped.Add(1)
	t.bus.log.Warn().Err(err).Str("subject", msg.Subject()).Msg("Skipped a message that this version cannot read")
}
