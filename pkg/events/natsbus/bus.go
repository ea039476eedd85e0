// Package natsbus carries the values of package events over NATS JetStream:
// it makes the streams, appends to the log, consumes commands, arms timers, and
// keeps a table of the newest record of every pod.
package natsbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"berth/pkg/events"
)

// ErrUnavailable is returned while the log cannot be read or is not complete:
// whoever asked must be told "unknown", never "no".
var ErrUnavailable = errors.New("the log is not available")

// Options are the options of [Connect].
type Options struct {
	// URL is where the NATS server listens; several are separated by commas.
	URL string
	// InProcess, where set, is used instead of a network connection.
	InProcess nats.InProcessConnProvider
	// Service and Instance name the connection and the source of events.
	Service, Instance string
	// User and Password are who the service is to the server, which may know its
	// users by [Grants]; both are empty where the server asks for none or the URL
	// has them.
	User, Password string
	// Cluster is the Kubernetes cluster whose pods this bus is about.
	Cluster string
	// AuditRetention is how long the audit stream keeps a record; 0 means 90 days.
	AuditRetention time.Duration
	// Replicas is how many servers keep each stream; 0 means 1.
	Replicas int
	// RequestTimeout bounds one request to the server; 0 means 5 s.
	RequestTimeout time.Duration
	Logger         zerolog.Logger
}

// Bus is one service's connection to the log and the commands of one cluster.
// It is safe for concurrent use.
type Bus struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	log      zerolog.Logger
	cluster  string
	source   string
	upgrades bool // Brings streams up to date that are there already.
	replicas int
	audited  time.Duration
	timeout  time.Duration

	// complete is the age of the last stream that was found complete, in Unix
	// nanoseconds.
	complete atomic.Int64

	mu      sync.Mutex
	reason  string // Why the last connection was not made.
	handles map[string]jetstream.Stream
	// link ends when the connection is lost, and is replaced then.
	link context.Context //nolint:containedctx // The connection's life, not a call's.
	cut  context.CancelFunc
}

// Connect connects to NATS and returns at once, also while no server answers:
// the connection is made and made again in the background. It returns an error
// for options that can never work.
func Connect(opts Options) (*Bus, error) {
	if opts.Cluster == "" || opts.Service == "" {
		return nil, errors.New("connect to NATS: cluster and service are required")
	}
	b := &Bus{
		log: opts.Logger, cluster: opts.Cluster, replicas: max(opts.Replicas, 1),
		timeout: orDefault(opts.RequestTimeout, 5*time.Second), audited: orDefault(opts.AuditRetention, 90*24*time.Hour),
		source:  "berth/" + opts.Service + "/" + opts.Instance,
		handles: map[string]jetstream.Stream{}, upgrades: opts.Service == upgrader,
	}
	b.dropped()
	natsOptions := []nats.Option{
		nats.Name("berth-" + opts.Service + "-" + opts.Instance),
		nats.CustomInboxPrefix(InboxPrefix(opts.Service)),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, time.Second),
		nats.RetryOnFailedConnect(true),
		nats.IgnoreAuthErrorAbort(),
		// Nothing is kept for later while there is no connection: what its sender
		// was told has failed must not happen after all, in a log made anew.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			b.dropped()
			if err != nil {
				b.log.Warn().Err(err).Msg("Lost the connection to NATS")
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { b.refused(err) }),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			b.mu.Lock()
			b.reason = ""
			b.mu.Unlock()
			b.log.Info().Str("server", nc.ConnectedUrlRedacted()).Msg("Connected to NATS again")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			b.log.Warn().Err(err).Str("subject", subject).Msg("NATS reported an error")
		}),
	}
	if opts.User != "" {
		natsOptions = append(natsOptions, nats.UserInfo(opts.User, opts.Password))
	}
	if opts.InProcess != nil {
		natsOptions = append(natsOptions, nats.InProcessServer(opts.InProcess))
	}
	nc, err := nats.Connect(opts.URL, natsOptions...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	b.nc, b.js = nc, js
	return b, nil
}

// Close ends the connection. What was published and acknowledged stays.
func (b *Bus) Close() { b.nc.Close() }

// Cluster is the cluster that the bus is about.
func (b *Bus) Cluster() string { return b.cluster }

// Connected returns nil while the connection is up, else [ErrUnavailable].
func (b *Bus) Connected() error {
	if b.nc.IsConnected() {
		return nil
	}
	return fmt.Errorf("%w: %w", b.away(), ErrUnavailable)
}

// away says how the connection is that there is not, and why, as far as the
// server has said it: a password may be wrong.
func (b *Bus) away() error {
	if err := b.nc.LastError(); err != nil {
		return fmt.Errorf("NATS is %s: %w", b.nc.Status(), err)
	}
	return fmt.Errorf("NATS is %s", b.nc.Status())
}

// refused logs why a connection was not made, once for each reason in a row: it is
// tried ten times a second.
func (b *Bus) refused(err error) {
	b.mu.Lock()
	same := b.reason == err.Error()
	b.reason = err.Error()
	b.mu.Unlock()
	if !same {
		b.log.Warn().Err(err).Msg("Cannot connect to NATS; trying again")
	}
}

// Provision makes the streams that are missing; the watcher's also brings those
// up to date that another version has made. It is safe to call from several
// services at once, and again after a stream has been lost. While no server
// answers it tries until ctx ends; it gives up at once where a stream exists
// that cannot become what it must be.
func (b *Bus) Provision(ctx context.Context) error {
	for {
		err := b.provision(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if hopeless(err) {
			return err
		}
		b.log.Warn().Err(err).Msg("JetStream is not ready; trying again")
		if !pause(ctx, 500*time.Millisecond) {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// What JetStream answers while too few servers of a cluster are up, and to what
// can never be made of a stream that exists.
const (
	noPeers       jetstream.ErrorCode = 10005
	invalidConfig jetstream.ErrorCode = 10052
)

// hopeless says that a stream will not be made however often it is tried. Servers
// that are starting are no such reason, nor is somebody else who makes or removes
// the stream at the same time.
func hopeless(err error) bool {
	var api *jetstream.APIError
	if errors.Is(err, errUnfit) {
		return true
	}
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case noPeers, jetstream.JSErrCodeStreamNameInUse, jetstream.JSErrCodeStreamNotFound:
		return false
	case invalidConfig:
		return true
	}
	return api.Code >= 400 && api.Code < 500
}

func (b *Bus) provision(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := b.connected(ctx); err != nil {
		return err
	}
	for _, cfg := range b.streams() {
		err := b.make(ctx, &cfg)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			err = b.make(ctx, &cfg) // Somebody was faster, with another first sequence.
		}
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			err = b.adjust(ctx, cfg)
		}
		if err != nil {
			return fmt.Errorf("provision stream %s: %w", cfg.Name, err)
		}
	}
	return nil
}

// make makes a stream that is missing. One that is there as it must be stays as
// it is, unlike with an update, which others would notice in the middle of their
// work.
//
// The log begins at a sequence that no earlier log can have reached: whoever
// still knows a sequence of one that was wiped, and appends on the condition that
// it is the last of its pod, must not find it in the new one.
func (b *Bus) make(ctx context.Context, cfg *jetstream.StreamConfig) error {
	if cfg.Name == events.LogStream {
		s, err := b.js.Stream(ctx, cfg.Name)
		switch {
		case err == nil:
			cfg.FirstSeq = s.CachedInfo().Config.FirstSeq
		case errors.Is(err, jetstream.ErrStreamNotFound):
			cfg.FirstSeq = firstSequence(time.Now())
		default:
			return err
		}
	}
	_, err := b.js.CreateStream(ctx, *cfg)
	return err
}

// firstSequence leaves room for a million records a second for as long as the
// log before lived. It stays below 2^53 until the year 2255, as JSON wants it.
func firstSequence(now time.Time) uint64 { return uint64(max(now.UnixMicro(), 1)) }

// errUnfit is returned for a stream that can never become what it must be.
var errUnfit = errors.New("it exists with another storage or retention, which cannot be changed; remove it or use another server")

// adjust makes a stream that exists what it must be, where that is this
// service's to do. Others take it as it is, if it can become that.
func (b *Bus) adjust(ctx context.Context, cfg jetstream.StreamConfig) error {
	if b.upgrades {
		_, err := b.js.UpdateStream(ctx, cfg)
		return err
	}
	s, err := b.js.Stream(ctx, cfg.Name)
	if err != nil {
		return err
	}
	if is := s.CachedInfo().Config; is.Storage != cfg.Storage || is.Retention != cfg.Retention {
		return errUnfit
	}
	b.log.Warn().Str("stream", cfg.Name).Msg("The stream was made by another version; the watcher brings it up to date")
	return nil
}

// streams is what the design says of each stream. None has a size or age limit
// but the dead letters.
func (b *Bus) streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{
			Name: events.LogStream, Subjects: events.LogSubjects(),
			Description: "Every fact about every pod, in order",
			Storage:     jetstream.FileStorage, Replicas: b.replicas,
			MaxMsgsPerSubject: KeptRecords, AllowMsgTTL: true,
		},
		{
			Name: events.CommandStream, Subjects: events.CommandSubjects(),
			Description: "The work queue of the stages, and their timers",
			Storage:     jetstream.FileStorage, Replicas: b.replicas,
			Retention: jetstream.WorkQueuePolicy, AllowMsgSchedules: true, AllowRollup: true,
			Duplicates: 2 * time.Minute,
		},
		{
			Name: events.DeadLetterStream, Subjects: events.DeadLetterSubjects(),
			Description: "Commands that could not be done, for a week",
			Storage:     jetstream.FileStorage, Replicas: b.replicas,
			MaxAge: 7 * 24 * time.Hour,
		},
		{
			Name: events.AuditStream, Subjects: events.AuditSubjects(),
			Description: "Who asked what for whom, and what came of it",
			Storage:     jetstream.FileStorage, Replicas: b.replicas,
			MaxAge: b.audited, MaxMsgs: maxAudit,
		},
		{
			// A key-value bucket as the tools of NATS know it, but for direct reads, which a
			// replica that lags would answer.
			Name: events.TokenStream, Subjects: events.TokenSubjects(),
			Description: "The tokens that were copied out of pods",
			Storage:     jetstream.FileStorage, Replicas: b.replicas,
			MaxMsgsPerSubject: 1, AllowRollup: true, DenyDelete: true,
		},
	}
}

// maxAudit bounds the audit stream, in records of about half a kilobyte: who asks
// often enough makes old records go sooner, not the disk full.
const maxAudit = 5_000_000

// logStream returns a handle of the log.
func (b *Bus) logStream(ctx context.Context) (jetstream.Stream, error) {
	return b.handle(ctx, events.LogStream)
}

// handle returns a handle of a stream; it is asked for once. It stays good when
// the stream is made anew.
func (b *Bus) handle(ctx context.Context, name string) (jetstream.Stream, error) {
	b.mu.Lock()
	s := b.handles[name]
	b.mu.Unlock()
	if s != nil {
		return s, nil
	}
	err := b.ask(ctx, "open stream "+name, func(ctx context.Context) (err error) {
		s, err = b.js.Stream(ctx, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.handles[name] = s
	b.mu.Unlock()
	return s, nil
}

// Created asks the stream's leader when the log was made.
func (b *Bus) Created(ctx context.Context) (time.Time, error) {
	info, err := b.info(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return info.Created, nil
}

// info asks the stream's leader what state the log is in.
func (b *Bus) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	s, err := b.logStream(ctx)
	if err != nil {
		return nil, err
	}
	var info *jetstream.StreamInfo
	err = b.ask(ctx, "ask for stream "+events.LogStream, func(ctx context.Context) (err error) {
		info, err = s.Info(ctx)
		return err
	})
	return info, err
}
