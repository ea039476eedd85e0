package natsbus

import (
	"context"
	"fmt"
	"math"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
)

// LastStop asks the leader for the place in the log of the newest stop of a project, 0 where
// there was none within [events.OutcomeTTL]. Whoever asks for a start asks for this before
// it looks at anything that makes it ask: then no stop falls in between.
func (b *Bus) LastStop(ctx context.Context, project string) (uint64, error) {
	_, sequence, err := b.outcome(ctx, events.StopCommand(project))
	return sequence, err
}

// NoteStop writes into the log that a project is stopped. From then on no start claims its pod
// that was asked for by somebody who did not know of that. A pod that the log has at that
// time is the caller's to delete: read what there is after this, not before. It returns the place of the stop
// in the log. After [ErrUnavailable] it is not known whether the stop is in the log.
func (b *Bus) NoteStop(ctx context.Context, project string) (uint64, error) {
	o := events.Outcome{
		Verdict: events.Stopped, Cluster: b.cluster, Command: events.StopCommand(project), User: events.ProjectUser(project),
	}
	e := b.event(ctx)
	e.Outcome = &o
	data, err := e.Marshal()
	if err != nil {
		return 0, fmt.Errorf("note stop of %s: %w", project, err)
	}
	msg := &nats.Msg{Subject: events.OutcomeSubject(o.Cluster, o.Command), Data: data}
	var place uint64
	// No condition: of two stops at once either may be the later one.
	err = b.ask(ctx, "publish "+msg.Subject, func(ctx context.Context) error {
		ack, err := b.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(events.LogStream), jetstream.WithMsgTTL(events.OutcomeTTL))
		if err == nil {
			place = ack.Sequence
		}
		return err
	})
	return place, err
}

// Doomed says whether a stop of its project, at a place in the log that LastStop has returned, ends a pod: the start that it is of did
// not know of that stop, or, where that start knew of no stops, the pod was there at the time. It is deleted, or about to be.
func (e Entry) Doomed(stop uint64) bool {
	known := e.claimed()
	if e.LastStop != nil {
		// The claim may be behind a stop that the start was asked for before: the creator takes it back.
		known = *e.LastStop
	}
	return e.Event != "" && stop > known
}

// claimed is the place in the log at which the life of a pod began. No stop is held against one that no log has seen begin.
func (e Entry) claimed() uint64 {
	place, err := events.ParsePosition(e.Generation)
	if err != nil {
		return math.MaxUint64
	}
	return place.Sequence
}
