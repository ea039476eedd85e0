package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"berth/cmd/berth/internal/doctor"
	"berth/pkg/events"
)

// readTime bounds the reading of the log: tens of thousands of pods take a second.
const readTime = 8 * time.Second

// logged is a message of the log about a pod.
type logged struct {
	event    events.Type
	sequence uint64
	at       time.Time
	data     []byte
}

// pods reads the newest record of each pod.
func (b *broker) pods(ctx context.Context) doctor.Pods {
	created, all, err := b.read(ctx)
	if err != nil {
		return doctor.Pods{Fault: err.Error()}
	}
	p := doctor.Pods{Looked: true, States: map[events.Type]int{}}
	for name, m := range all {
		if m.event == events.Gone {
			p.Records = append(p.Records, doctor.Record{Pod: name, Event: m.event, At: m.at})
			continue
		}
		e, err := events.Parse(m.data)
		if err != nil || e.Record == nil {
			p.Unreadable++
			continue
		}
		r := *e.Record
		p.States[r.Event]++
		timer := r.Command
		if timer == "" {
			if timer = r.Generation; timer == "" {
				timer = events.At(created, m.sequence).String()
			}
		}
		p.Records = append(p.Records, doctor.Record{
			Pod: name, User: r.User, Event: r.Event, At: m.at, Claimed: r.ClaimedAt, Deleting: r.DeletingAt, Progress: r.ProgressAt,
			Launched: !r.LaunchedAt.IsZero(), WasReady: !r.ReadyAt.IsZero(), Timer: timer, Reason: r.Reason, UID: r.Observed.UID,
			Unlicensed: r.Unlicensed(), Message: r.Message,
		})
	}
	return p
}

// read returns the newest message about each pod that the log had when it began,
// and when the log was made.
func (b *broker) read(ctx context.Context) (created time.Time, all map[string]logged, err error) {
	info, err := b.info(ctx, events.LogStream)
	if err != nil {
		return time.Time{}, nil, err
	}
	var consumer jetstream.Consumer
	err = b.ask(ctx, api+"CONSUMER.CREATE."+events.LogStream+".>", func(ctx context.Context) (err error) {
		consumer, err = b.js.CreateConsumer(ctx, events.LogStream, jetstream.ConsumerConfig{
			FilterSubject: events.ClusterFilter(b.cluster), DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
			AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1,
			InactiveThreshold: readTime,
		})
		return err
	})
	if err != nil {
		return time.Time{}, nil, err
	}
	all = map[string]logged{}
	left := consumer.CachedInfo().NumPending
	ctx, cancel := context.WithTimeoutCause(ctx, readTime, errSlow)
	defer cancel()
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	defer b.begin(&errand{publish, api + "CONSUMER.MSG.NEXT." + events.LogStream + ".>", refuse})()
	messages, err := consumer.Messages(jetstream.PullMaxMessages(1000))
	if err != nil {
		return time.Time{}, nil, err
	}
	defer messages.Stop()
	// What comes meanwhile is nobody's to wait for.
	for ; left > 0; left-- {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			if cause := context.Cause(ctx); errors.Is(cause, errDenied) || errors.Is(cause, errSlow) {
				err = cause
			}
			return time.Time{}, nil, fmt.Errorf("read the log: %w", err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return time.Time{}, nil, fmt.Errorf("read the log: %w", err)
		}
		left = min(left, meta.NumPending+1)
		key, err := events.ParsePodSubject(msg.Subject())
		if err != nil || meta.Sequence.Stream < all[key.Pod].sequence {
			continue
		}
		all[key.Pod] = logged{key.Event, meta.Sequence.Stream, meta.Timestamp, msg.Data()}
	}
	return info.Created, all, nil
}
