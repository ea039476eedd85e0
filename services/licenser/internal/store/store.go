package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"berth/pkg/database"
)

const (
	// connections are enough for 32 commands at once, which are short, and few enough for a small server with three replicas.
	connections    = 10
	connectTimeout = 5 * time.Second
	// keepingConnections are beside them, so that a crowd of starts that waits for a lock never keeps the keeper and /readyz waiting.
	keepingConnections = 4
	// transactionTimeout bounds a transaction with its wait for locks and for a connection; queryTimeout
	// bounds a single query and what the keeper does in a transaction. Both find a connection that is dead without a word.
	transactionTimeout = 30 * time.Second
	queryTimeout       = 8 * time.Second
	// pingTimeout bounds a look whether a connection that has been idle is alive still.
	pingTimeout = 3 * time.Second
	// readyTimeout bounds a look whether all is well.
	readyTimeout = 3 * time.Second
)

// session is what each connection is told. A licenser that stops in the middle of a transaction must not hold its
// locks: the server ends it soon. Nor is it to wait long for a lock that somebody else has forgotten. Times without a zone are UTC.
const session = `SET TIME ZONE 'UTC'; SET idle_in_transaction_session_timeout = '15s'; SET statement_timeout = '30s'; SET lock_timeout = '3s';
	SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;`

// keepingSession is what the connections of the keeper are told. It does one thing after another, so that what somebody else has locked
// must not hold up all others: it tries that again later.
const keepingSession = session + ` SET lock_timeout = '500ms';`

// Store is the database. It is safe for concurrent use. Its methods fail with [ErrAway] for as long as the database
// is away, and work again when it is back.
type Store struct {
	config *pgx.ConnConfig
	// pool is for what people wait for; keeping is for the keeper, and for looks whether all is well.
	pool, keeping *pgxpool.Pool

	looking sync.Mutex          // Held by one that looks, so that a crowd looks once.
	hub     atomic.Pointer[hub] // nil until it has been looked at, and whenever it has to be again
}

// Open returns the store at a URL like postgres://user:password@host:5432/name. It connects when it is used, so that
// it succeeds while the database is away; it fails for what is no such URL. Close it after use.
func Open(ctx context.Context, url string) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil || strings.TrimSpace(url) == "" {
		return nil, database.ErrURL // pgx's own may quote parts of it.
	}
	config.MaxConns = connections
	config.PingTimeout = pingTimeout
	config.ConnConfig.ConnectTimeout = connectTimeout
	config.ConnConfig.RuntimeParams["application_name"] = "berth-licenser"
	config.AfterConnect = prepare(session)
	s := &Store{}
	config.ConnConfig.Tracer = watching{s}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	config = config.Copy()
	config.MaxConns = keepingConnections
	config.AfterConnect = prepare(keepingSession)
	keeping, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	s.config, s.pool, s.keeping = config.ConnConfig, pool, keeping
	return s, nil
}

// Close waits for what is under way and closes all connections.
func (s *Store) Close() {
	s.pool.Close()
	s.keeping.Close()
}

// prepare makes a connection ready for use, with what it is to be told.
func prepare(session string) func(context.Context, *pgx.Conn) error {
	return func(ctx context.Context, conn *pgx.Conn) error {
		// Times are read in UTC, too.
		conn.TypeMap().RegisterType(&pgtype.Type{
			Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
		})
		_, err := conn.Exec(ctx, session)
		return err
	}
}

// connect opens a connection beside the pool, for locks and notifications. The caller closes it.
func (s *Store) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, s.config.Copy())
	if err != nil {
		return nil, away(ctx, err)
	}
	if err := prepare(session)(ctx, conn); err != nil {
		return nil, errors.Join(away(ctx, err), conn.Close(context.WithoutCancel(ctx)))
	}
	return conn, nil
}

// Ready returns nil where the database answers and has the tables, the columns and the rights that this program needs. Else it says
// in a line what is wrong, without a password: that it is away, is to be migrated, or what it lacks. What it sees holds from then on.
func (s *Store) Ready(ctx context.Context) error {
	h, err := s.look(ctx)
	s.hub.Store(h) // None where something is wrong.
	return err
}
