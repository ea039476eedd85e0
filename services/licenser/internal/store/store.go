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
	"github.com/jackc/pgx/v5/pgconn"
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
	// idleTime is how long a connection is kept that nobody uses, and idleTick the time between two looks for such: a crowd of starts
	// must not keep what the keeper, or another replica, needs where the server allows few.
	idleTime, idleTick = 15 * time.Second, 5 * time.Second
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
// must not hold up all others: it tries that again later. So with a statement that a trigger of the hub's is slow over, which the server ends
// before a query's time is up: a database that does not answer is another thing.
const keepingSession = session + ` SET lock_timeout = '500ms'; SET statement_timeout = '5s';`

// Store is the database. It is safe for concurrent use. Its methods fail with [ErrAway] for as long as the database
// is away, and work again when it is back.
type Store struct {
	config *pgx.ConnConfig
	// pool is for what people wait for; keeping is for the keeper, and for looks whether all is well.
	pool, keeping *pgxpool.Pool

	looking sync.Mutex          // Held by one that looks, so that a crowd looks once.
	hub     atomic.Pointer[hub] // nil until it has been looked at, and whenever it has to be again

	// barred is why there was no connection for a lease, nil where there was one.
	barred atomic.Pointer[error]
}

// Open returns the store at a URL like postgres://user:password@host:5432/name. It connects when it is used, so that
// it succeeds while the database is away; it fails for what is no such URL. Close it after use.
func Open(ctx context.Context, url string) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil || strings.TrimSpace(url) == "" {
		return nil, database.ErrURL // pgx's own may quote parts of it.
	}
	config.MaxConns = connections
	config.MaxConnIdleTime, config.HealthCheckPeriod = idleTime, idleTick
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
	config.ConnConfig.Tracer = yielding{watching{s}, pool}
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

// yielding is of the connections that come first: where the server has none left for one of them, those that the pool of the others does not use
// are given back, and those in use as soon as they are not. It is safe for concurrent use.
type yielding struct {
	watching

	pool *pgxpool.Pool
}

var _ pgx.ConnectTracer = yielding{}

func (y yielding) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return ctx
}

func (y yielding) TraceConnectEnd(_ context.Context, data pgx.TraceConnectEndData) {
	if code, ok := errors.AsType[*pgconn.PgError](data.Err); ok && code.Code == tooMany {
		y.pool.Reset()
	}
}

// Ready returns nil where the database answers and has the tables, the columns and the rights that this program needs. Else it says
// in a line what is wrong, without a password: that it is away, is to be migrated, what it lacks, or that it had no connection left when
// [Store.Lease] was called last. What it sees holds from then on.
func (s *Store) Ready(ctx context.Context) error {
	h, err := s.look(ctx)
	s.hub.Store(h) // None where something is wrong.
	if why := s.barred.Load(); err == nil && why != nil {
		err = *why
	}
	return err
}
