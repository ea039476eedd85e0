package natsbus

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

// checkEvery is how often a reader asks the leader whether the stream is still
// the one that it reads. A consumer alone would wait for ever on a stream that
// was made anew.
const checkEvery = time.Second

// loadTimeout bounds the reading of the snapshot.
const loadTimeout = 30 * time.Second

var (
	errMadeAnew    = errors.New("the stream was made anew")
	errReconnected = errors.New("the connection was lost meanwhile")
	errLoad        = fmt.Errorf("the snapshot was not complete after %s", loadTimeout)
)

// Run keeps the table up to date until ctx ends, and returns nil then. A lost
// server is waited for; a stream that was made anew is read from the start.
func (t *Table) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := t.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, errMadeAnew) {
			t.reset()
		}
		t.bus.log.Warn().Err(err).Msg("Reading the log again")
		pause(ctx, 250*time.Millisecond)
	}
	return nil
}

// follow reads a snapshot of the log, then follows it. It returns when ctx ends
// or the log has to be read again; the table keeps what it has meanwhile.
func (t *Table) follow(ctx context.Context) error {
	if err := t.bus.Provision(ctx); err != nil {
		return err
	}
	created, err := t.bus.Created(ctx)
	if err != nil {
		return err
	}
	t.begin(created.UnixNano())

	// What was sent into a lost connection is lost, and a consumer in a server's
	// memory does not survive it: every connection reads anew.
	up := t.bus.nc.StatusChanged(nats.CONNECTED)
	defer t.bus.nc.RemoveStatusListener(up)
	consumer, err := t.consumer(ctx)
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullHeartbeat(time.Second), jetstream.PullExpiry(10*time.Second))
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer messages.Stop()

	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	running.Go(func() {
		cancel(newReader(t, created, consumer.CachedInfo().NumPending).run(ctx, messages))
	})
	return t.check(ctx, created, up)
}

// consumer makes a consumer that sends the last message of each subject, then
// every new one. The server removes it some time after nobody pulls from it.
func (t *Table) consumer(ctx context.Context) (consumer jetstream.Consumer, err error) {
	cluster := t.bus.cluster
	filters := []string{events.ClusterFilter(cluster), events.MarkSubject(cluster)}
	if t.outcomes {
		filters = append(filters, events.OutcomeFilter(cluster))
	}
	err = t.bus.ask(ctx, "read the log", func(ctx context.Context) (err error) {
		consumer, err = t.bus.js.CreateOrUpdateConsumer(ctx, events.LogStream, jetstream.ConsumerConfig{
			FilterSubjects: filters, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, AckPolicy: jetstream.AckNonePolicy,
			MemoryStorage: true, Replicas: 1, InactiveThreshold: 30 * time.Second,
		})
		return err
	})
	return consumer, err
}

// check asks the leader again and again whether the stream is still the same.
func (t *Table) check(ctx context.Context, created time.Time, up <-chan nats.Status) error {
	begun := time.Now()
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	behind := 0
	for {
		asked, newest := time.Now(), t.newest()
		info, err := t.bus.info(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return errMadeAnew
		case err != nil: // The leader is away; loaded says so in time.
		case !info.Created.Equal(created):
			return errMadeAnew
		case info.State.LastSeq < newest:
			// A leader that has just been elected may catch up; a stream that was put
			// back from an older copy does not.
			if behind++; behind > 2 {
				return errMadeAnew
			}
		default:
			behind = 0
			t.checked.Store(asked.UnixNano())
			t.forgetGone(asked)
		}
		if t.loading() && time.Since(begun) > loadTimeout {
			return errLoad
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-up:
			return errReconnected
		case <-tick.C:
		}
	}
}

// newest is the highest sequence that the reader has taken in.
func (t *Table) newest() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.view.newest
}

func (t *Table) loading() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return !t.view.loaded
}

func (t *Table) forgetGone(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.view.forgetGone(now)
}
