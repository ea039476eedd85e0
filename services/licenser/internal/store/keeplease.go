package store

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"berth/pkg/events"
)

const (
	// pingEvery is the time between two signs of life on the connection that holds the lease.
	pingEvery = time.Second
	// leaseSession lets the server end the connection of a keeper that shows no sign of life, also of one that is
	// stopped or behind a network that has gone, so that another takes over.
	leaseSession = `SET idle_session_timeout = '8s'`
	// drivingKey is of the lock that the keeper has whose cluster drives projects: "brth" in ASCII.
	drivingKey int32 = 0x62727468
)

// The channels on which the database tells of changes.
const (
	channelLicense  = "berth_license"
	channelProject  = "berth_project"
	channelSettings = "berth_settings"
)

// Lease is a connection of its own that one licenser of a cluster holds a lock on, and hears of changes
// through. But for [Lease.Drives] it is not safe for concurrent use.
type Lease struct {
	conn   *pgx.Conn
	key    int64
	pinged time.Time
	drives atomic.Bool
}

// Change is news of the database. Just one member is set.
type Change struct {
	// License or Project is the id of what was changed.
	License, Project string
	// Settings means that the defaults and maxima of the site were changed.
	Settings bool
	// Drives means that [Lease.Drives] is true from now on.
	Drives bool
}

// Lease opens the connection for the lease of a cluster; [Lease.Take] tries to get it. Close it after use. Where the database has no
// connection left it fails with [ErrCrowded], and the store gives back what it does not use, for the next try.
func (s *Store) Lease(ctx context.Context, cluster string) (*Lease, error) {
	conn, err := s.connect(ctx)
	if errors.Is(err, ErrCrowded) {
		s.keeping.Reset()
		err = fmt.Errorf("get a connection for the keeper: %w (a licenser needs up to %d)", err, connections+keepingConnections+1)
		s.barred.Store(&err)
	} else {
		s.barred.Store(nil)
	}
	if err != nil {
		return nil, err
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte("berth keeper of " + cluster)) // A hash takes everything.
	l := &Lease{conn: conn, key: int64(h.Sum64())}       //nolint:gosec // Any 64 bits are a key.
	if _, err := conn.Exec(ctx, leaseSession); err != nil {
		l.Close()
		return nil, away(ctx, fmt.Errorf("prepare the keeper's connection: %w", err))
	}
	return l, nil
}

// Take tries to get the lease, and says whether it did. Once taken it is held until the connection is closed or lost, and
// all changes are told from then on.
func (l *Lease) Take(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	taken := false
	if err := l.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, l.key).Scan(&taken); err != nil {
		return false, away(ctx, fmt.Errorf("take the lease: %w", err))
	}
	if !taken {
		return false, nil
	}
	if _, err := l.conn.Exec(ctx, "LISTEN "+channelLicense+"; LISTEN "+channelProject+"; LISTEN "+channelSettings); err != nil {
		return false, away(ctx, err)
	}
	return true, l.drive(ctx)
}

// Drives says whether its cluster is the one that drives projects which have no pod: several may use one database, and
// none can see the pods of another. It is the first that asks, and stays it for as long as the lease is held.
func (l *Lease) Drives() bool { return l.drives.Load() }

// drive tries to become that one.
func (l *Lease) drive(ctx context.Context) error {
	driving := false
	// Locks with two keys are apart from those of keepers, which have one.
	if err := l.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1, 0)`, drivingKey).Scan(&driving); err != nil {
		return away(ctx, fmt.Errorf("drive projects: %w", err))
	}
	l.drives.Store(driving)
	return nil
}

// Next waits for the next change, for about a second at the most; ok is false where there was none. With an error
// the lease is lost.
func (l *Lease) Next(ctx context.Context) (change Change, ok bool, err error) {
	if time.Since(l.pinged) > pingEvery {
		drove := l.Drives()
		if err := l.ping(ctx); err != nil {
			return Change{}, false, err
		}
		if l.Drives() != drove {
			return Change{Drives: true}, true, nil
		}
	}
	wait, cancel := context.WithTimeout(ctx, pingEvery)
	defer cancel()
	n, err := l.conn.WaitForNotification(wait)
	switch {
	case err == nil:
		change, ok = changeOf(n)
		return change, ok, nil
	case ctx.Err() != nil:
		return Change{}, false, context.Cause(ctx)
	case l.conn.IsClosed():
		return Change{}, false, away(ctx, fmt.Errorf("hold the lease: %w", err))
	}
	return Change{}, false, nil // Nothing was told in time.
}

func (l *Lease) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := l.conn.Ping(ctx); err != nil {
		return away(ctx, fmt.Errorf("hold the lease: %w", err))
	}
	l.pinged = time.Now()
	if !l.Drives() {
		return l.drive(ctx)
	}
	return nil
}

// changeOf reads a notification. Anybody may notify, so that nothing is taken for granted.
func changeOf(n *pgconn.Notification) (Change, bool) {
	switch {
	case n.Channel == channelSettings:
		return Change{Settings: true}, true
	case !events.ProjectID(n.Payload):
		return Change{}, false
	case n.Channel == channelLicense:
		return Change{License: n.Payload}, true
	case n.Channel == channelProject:
		return Change{Project: n.Payload}, true
	}
	return Change{}, false
}

// Close gives the lease back. It is bounded.
func (l *Lease) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
	defer cancel()
	_ = l.conn.Close(ctx) // It ends in any case.
}
