// Package audit keeps who asked what for whom, and what came of it: as a line of the log of the
// process, and as a message of the audit stream.
package audit

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"berth/pkg/events"
)

const (
	// queued is how many records wait for the stream at the most.
	queued = 4096
	// writers is how many are on their way to it at a time.
	writers = 4
	// attempts is how often one is tried, with pause in between: about as long as a broker takes to
	// come back after a restart.
	attempts = 10
	pause    = time.Second
	// flushLimit is how long the last ones may take at the end.
	flushLimit = 2 * time.Second
	// spared records are taken in each second, of all strangers together and of each silo, of those that
	// a denial or a limit makes as many of as anybody likes.
	spared = 5
)

// Store keeps records.
type Store interface {
	// Audit returns when the record is kept. A record that is given again after an error may be kept
	// twice; its request id tells.
	Audit(ctx context.Context, record events.AuditRecord) error
}

// Trail takes records in. It never blocks: what cannot be kept in the stream is counted, and is in the
// log all the same. It is safe for concurrent use.
type Trail struct {
	store Store
	log   zerolog.Logger
	lost  func()
	queue chan events.AuditRecord
	pause time.Duration

	mu sync.Mutex
	// samplers are those of the silos, whose names the site chooses, by name; that of strangers has none.
	samplers map[string]*zerolog.BurstSampler
}

// New returns a trail. Records wait until [Trail.Run] is called. lost is called for each one that does
// not get into the store.
func New(store Store, log zerolog.Logger, lost func()) *Trail {
	return &Trail{
		store: store, log: log, lost: lost, queue: make(chan events.AuditRecord, queued), pause: pause,
		samplers: map[string]*zerolog.BurstSampler{},
	}
}

// Record takes a record of a request that has been answered. Of those that were denied, or are above a rate, it takes
// a few each second, a silo's apart from strangers'. Requests of strangers, and those above a rate, are in the log alone.
func (t *Trail) Record(r events.AuditRecord) {
	stranger := r.Silo == "" && !r.Admin
	if (stranger || r.Denied || r.Reason == events.RateLimited) && !t.sample(r.Silo) {
		return
	}
	write(t.log.Info(), r)
	if stranger || r.Reason == events.RateLimited {
		return
	}
	select {
	case t.queue <- r:
	default:
		t.lost()
	}
}

// sample says whether one more record of a silo, or of strangers, is taken now.
func (t *Trail) sample(silo string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.samplers[silo]
	if s == nil {
		s = &zerolog.BurstSampler{Burst: spared, Period: time.Second}
		t.samplers[silo] = s
	}
	return s.Sample(zerolog.InfoLevel)
}

func write(line *zerolog.Event, r events.AuditRecord) {
	line = line.Bool("audit", true).Str("request_id", r.Request).Str("silo", r.Silo).Str("address", r.Address).Str("action", r.Action).
		Str("user_id", r.User).Str("pod_name", r.Pod).Int("status", r.Status).Float64("took_seconds", r.Took)
	if r.Admin {
		line = line.Bool("admin", true)
	}
	if r.Denied {
		line = line.Bool("denied", true)
	}
	if r.Object != "" {
		line = line.Str("object", r.Object)
	}
	if r.DryRun {
		line = line.Bool("dry_run", true)
	}
	if r.Removed > 0 {
		line = line.Int("removed", r.Removed)
	}
	if r.Command != "" {
		line = line.Str("command_id", r.Command)
	}
	if r.Reason != "" {
		line = line.Str("reason", string(r.Reason))
	}
	line.Msg("Request answered")
}

// Run keeps records until the context ends, and then for a short time those that still wait. It is
// called once, and returns nil.
func (t *Trail) Run(ctx context.Context) error {
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for {
				select {
				case r := <-t.queue:
					t.keep(ctx, r)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	group.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushLimit)
	defer cancel()
	for {
		select {
		case r := <-t.queue:
			if last.Err() != nil || t.store.Audit(last, r) != nil {
				t.lost()
			}
		default:
			return nil
		}
	}
}

// keep tries to store a record for a while.
func (t *Trail) keep(ctx context.Context, r events.AuditRecord) {
	for attempt := range attempts {
		// A record on its way is not lost because the service stops.
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushLimit)
		err := t.store.Audit(own, r)
		cancel()
		if err == nil {
			return
		}
		t.log.Debug().Err(err).Int("attempt", attempt+1).Str("request_id", r.Request).Msg("Audit record not stored")
		select {
		case <-ctx.Done():
			t.lost()
			return
		case <-time.After(t.pause):
		}
	}
	t.lost()
}

// Note is what is learnt of a request while it is answered.
type Note struct {
	mu      sync.Mutex
	command string
}

type noteKey struct{}

// WithNote returns a context that [SetCommand] writes through to the note.
func WithNote(ctx context.Context) (context.Context, *Note) {
	n := &Note{}
	return context.WithValue(ctx, noteKey{}, n), n
}

// SetCommand notes the id of the command that the request of a context has led to. Without a note it
// does nothing.
func SetCommand(ctx context.Context, id string) {
	if n, ok := ctx.Value(noteKey{}).(*Note); ok {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.command = id
	}
}

// Command returns the id of the command, or "".
func (n *Note) Command() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.command
}
