package probe

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"berth/cmd/berth/internal/doctor"
	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

// newestLetters is how many dead letters are looked at.
const newestLetters = 3

// info asks the leader of a stream for its state, with the subjects that match a filter.
func (b *broker) info(ctx context.Context, name string, filter ...jetstream.StreamInfoOpt) (info *jetstream.StreamInfo, err error) {
	err = b.ask(ctx, api+"STREAM.INFO."+name, func(ctx context.Context) error {
		s, err := b.js.Stream(ctx, name)
		if err != nil {
			return err
		}
		if info = s.CachedInfo(); len(filter) > 0 {
			info, err = s.Info(ctx, filter...)
		}
		return err
	})
	return info, err
}

// streams looks at the streams of Berth. The server's clock is nil where none
// tells the time.
func (b *broker) streams(ctx context.Context) (all []doctor.Stream, clock *float64) {
	for _, name := range natsbus.StreamNames() {
		asked := time.Now()
		info, err := b.info(ctx, name)
		answered := time.Now()
		s := doctor.Stream{Name: name}
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			s.Missing = true
		case err != nil:
			s.Fault = err.Error()
		default:
			s = streamOf(info)
			if !info.TimeStamp.IsZero() {
				clock = skew(info.TimeStamp, asked, answered, 0)
			}
		}
		all = append(all, s)
	}
	return all, clock
}

func streamOf(info *jetstream.StreamInfo) doctor.Stream {
	s := doctor.Stream{
		Name: info.Config.Name, Created: info.Created, Messages: info.State.Msgs, Bytes: info.State.Bytes,
		Replicas: info.Config.Replicas, Faults: natsbus.StreamFaults(info.Config),
	}
	if info.State.Lost != nil {
		s.Lost = len(info.State.Lost.Msgs)
	}
	if c := info.Cluster; c != nil {
		s.Clustered, s.Leader = c.Name != "", c.Leader
		for _, p := range c.Replicas {
			s.Peers = append(s.Peers, doctor.Peer{Name: p.Name, Current: p.Current, Offline: p.Offline, Lag: p.Lag, Active: p.Active.Seconds()})
		}
	}
	return s
}

// getter gets one message of a stream.
type getter func(context.Context, jetstream.Stream) (*jetstream.RawStreamMsg, error)

// message reads one message of a stream; nil where there is none.
func (b *broker) message(ctx context.Context, stream string, get getter) (*jetstream.RawStreamMsg, error) {
	var raw *jetstream.RawStreamMsg
	handle, err := b.handle(ctx, stream)
	if err == nil {
		err = b.ask(ctx, api+"STREAM.MSG.GET."+stream, func(ctx context.Context) (err error) {
			raw, err = get(ctx, handle)
			return err
		})
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return raw, err
}

func (b *broker) handle(ctx context.Context, name string) (s jetstream.Stream, err error) {
	err = b.ask(ctx, api+"STREAM.INFO."+name, func(ctx context.Context) (err error) {
		s, err = b.js.Stream(ctx, name)
		return err
	})
	return s, err
}

// mark looks whether the log has been compared with the cluster since it was made.
func (b *broker) mark(ctx context.Context, streams []doctor.Stream) doctor.Mark {
	raw, err := b.message(ctx, events.LogStream, func(ctx context.Context, s jetstream.Stream) (*jetstream.RawStreamMsg, error) {
		return s.GetLastMsgForSubject(ctx, events.MarkSubject(b.cluster))
	})
	switch {
	case err != nil:
		return doctor.Mark{Fault: err.Error()}
	case raw == nil:
		return doctor.Mark{}
	}
	e, err := events.Parse(raw.Data)
	if err != nil || e.Mark == nil {
		return doctor.Mark{Fault: "it is a mark that this version cannot read"}
	}
	return doctor.Mark{There: true, Current: e.Mark.Created == streams[0].Created.UnixNano(), At: raw.Time, Pods: e.Mark.Pods}
}

// deadLetters looks at the newest of the cluster's dead letters, at their
// headers and at who is meant: what else they hold is nobody's to see.
func (b *broker) deadLetters(ctx context.Context) doctor.DeadLetters {
	info, err := b.info(ctx, events.DeadLetterStream, jetstream.WithSubjectFilter(deadLetters(b.cluster)))
	if err != nil {
		return doctor.DeadLetters{Fault: err.Error()}
	}
	d := doctor.DeadLetters{}
	for _, n := range info.State.Subjects {
		d.Count += n
	}
	// Letters of other clusters may be in between; of a thousand some are enough.
	const most = 50
	for i, sequence := 0, info.State.LastSeq; i < most && sequence >= info.State.FirstSeq && sequence > 0; i, sequence = i+1, sequence-1 {
		if len(d.Newest) == newestLetters || uint64(len(d.Newest)) == d.Count {
			break
		}
		raw, err := b.message(ctx, events.DeadLetterStream, func(ctx context.Context, s jetstream.Stream) (*jetstream.RawStreamMsg, error) {
			return s.GetMsg(ctx, sequence)
		})
		if err != nil {
			d.Fault = err.Error()
			return d
		}
		if raw == nil || info.State.Subjects[raw.Subject] == 0 {
			continue
		}
		letter := doctor.Letter{
			At: raw.Time, Reason: events.Reason(raw.Header.Get("Berth-Reason")), Cause: raw.Header.Get("Berth-Cause"),
		}
		if _, stage, id, err := events.ParseCommandSubject(raw.Header.Get("Berth-Subject")); err == nil {
			letter.Stage, letter.ID = stage, id
		}
		if c, err := events.ParseCommand(raw.Data); err == nil {
			letter.Pod, letter.User = c.Pod, c.User
		}
		d.Newest = append(d.Newest, letter)
	}
	return d
}

// deadLetters matches the dead letters of a cluster.
func deadLetters(cluster string) string {
	stage := events.DeadLetterFilter(cluster, "*") // The stage's token is encoded.
	return stage[:len(stage)-len(events.Token("*")+".*")] + ">"
}
