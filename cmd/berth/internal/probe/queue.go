package probe

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"berth/cmd/berth/internal/doctor"
	"berth/pkg/events"
	"berth/pkg/events/natsbus"
)

// commands looks which commands and timers there are, by their subjects alone:
// commands hold variables, which are nobody's to see. It returns the ids that
// each stage has, and those that a timer is set for or has just fired for.
func (b *broker) commands(ctx context.Context) (doctor.Commands, map[events.Timer]map[string]bool, map[events.Stage][]string) {
	// The last token of any timer's subject is its kind; so all have the same length.
	timers := events.TimersFilter(b.cluster)
	root := strings.TrimSuffix(timers, "timer.*.*")
	info, err := b.info(ctx, events.CommandStream, jetstream.WithSubjectFilter(root+">"))
	if err != nil {
		return doctor.Commands{Fault: err.Error()}, nil, nil
	}
	c := doctor.Commands{Timers: map[events.Timer]int{}, Foreign: map[string]int{}}
	armed := map[events.Timer]map[string]bool{events.TimerCreate: {}, events.TimerDelete: {}}
	queued := map[events.Stage][]string{}
	for subject := range info.State.Subjects {
		tokens := strings.Split(strings.TrimPrefix(subject, root), ".")
		const command, timer = 2, 3 // Tokens of each.
		switch {
		case len(tokens) == timer && tokens[0]+"." == strings.TrimSuffix(strings.TrimPrefix(timers, root), "*.*"):
			id, err := events.ParseToken(tokens[1])
			kind := events.Timer(tokens[2])
			if c.Timers[kind]++; err == nil && armed[kind] != nil {
				armed[kind][id] = true
			}
		case len(tokens) == command:
			_, stage, id, err := events.ParseCommandSubject(subject)
			if err != nil || !slices.Contains(events.Stages(), stage) {
				c.Foreign[tokens[0]]++
				continue
			}
			queued[stage] = append(queued[stage], id)
			if stage == events.StageDelete {
				armed[events.TimerCreate][id], armed[events.TimerDelete][id] = true, true
			}
		default:
			c.Foreign[tokens[0]]++
		}
	}
	return c, armed, queued
}

// stages looks at the consumers of the stages. queued has the ids of their commands.
func (b *broker) stages(ctx context.Context, queued map[events.Stage][]string) []doctor.Stage {
	all := make([]doctor.Stage, 0, len(events.Stages()))
	for _, stage := range events.Stages() {
		s := b.stage(ctx, stage)
		s.Queued = len(queued[stage])
		// The id of a delete may be that of the pod's create, long ago.
		if stage != events.StageDelete {
			s.Oldest = oldest(queued[stage])
		}
		all = append(all, s)
	}
	return all
}

func (b *broker) stage(ctx context.Context, stage events.Stage) doctor.Stage {
	// Between two requests of a service there may be none for a moment.
	const looks, pause = 3, 200 * time.Millisecond
	s := doctor.Stage{Stage: stage}
	name := natsbus.ConsumerName(b.cluster, stage)
	for range looks {
		var info *jetstream.ConsumerInfo
		err := b.ask(ctx, api+"CONSUMER.INFO."+events.CommandStream+"."+name, func(ctx context.Context) error {
			c, err := b.js.Consumer(ctx, events.CommandStream, name)
			if err == nil {
				info = c.CachedInfo()
			}
			return err
		})
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
			s.Missing = true
			return s
		case err != nil:
			s.Fault = err.Error()
			return s
		}
		s.Pending, s.Working, s.Redelivered = info.NumPending, info.NumAckPending, info.NumRedelivered
		s.Pulling, s.Paused = info.NumWaiting, info.Paused
		if info.Delivered.Last != nil {
			s.Delivered = *info.Delivered.Last
		}
		if info.Cluster != nil && info.Cluster.Name != "" {
			s.Leader, s.Leaderless = info.Cluster.Leader, info.Cluster.Leader == ""
		}
		if s.Pulling > 0 || !wait(ctx, pause) {
			break
		}
	}
	return s
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// oldest is the time of the oldest id that tells its time; zero for none.
func oldest(ids []string) time.Time {
	var first time.Time
	for _, id := range ids {
		if at, ok := idTime(id); ok && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// idTime reads the time in the id of a command, which is a UUID of version 7: 48
// bits of milliseconds since 1970, then the version (RFC 9562).
func idTime(id string) (time.Time, bool) {
	const length, version = 36, 14
	if len(id) != length || id[version] != '7' {
		return time.Time{}, false
	}
	b, err := hex.DecodeString(id[:8] + id[9:13])
	if err != nil {
		return time.Time{}, false
	}
	ms := int64(0)
	for _, c := range b {
		ms = ms<<8 | int64(c)
	}
	return time.UnixMilli(ms).UTC(), true
}
