// Package dbtest gives each test a PostgreSQL database of its own, on one server for all tests of a package: in a container
// where a Docker engine answers, else from the programs that the machine has (package local).
package dbtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"berth/pkg/database"
	"berth/pkg/database/local"
)

// template is the migrated database that the others are copies of.
const template = "berth_template"

// stepTimeout bounds what is done with one database.
const stepTimeout = 2 * time.Minute

// Shared is one server for all tests of a package. It starts when the first test asks for it. The zero value is ready for
// use:
//
//	var shared dbtest.Shared
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(shared.Wrap(m)) }
type Shared struct {
	once  sync.Once
	url   string
	stop  func() error
	err   error
	count atomic.Int64
}

// Migrated makes a database for one test that [database.Migrate] has been through, and returns its URL, as a
// superuser. It is dropped after the test with the connections that are left.
func (s *Shared) Migrated(tb testing.TB) string {
	tb.Helper()
	return s.create(tb, template)
}

// Empty makes an empty database for one test; see [Shared.Migrated].
func (s *Shared) Empty(tb testing.TB) string {
	tb.Helper()
	return s.create(tb, "template0")
}

func (s *Shared) create(tb testing.TB, from string) string {
	tb.Helper()
	s.once.Do(func() {
		// It outlives the test, so the test's context will not do.
		s.err = s.start(context.WithoutCancel(tb.Context()))
	})
	if s.err != nil {
		tb.Fatal(s.err)
	}
	name := fmt.Sprintf("test_%d", s.count.Add(1))
	if err := s.admin(tb.Context(), `CREATE DATABASE `+name+` TEMPLATE `+from); err != nil {
		tb.Fatalf("create database: %v", err)
	}
	tb.Cleanup(func() {
		if err := s.admin(context.WithoutCancel(tb.Context()), `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			tb.Errorf("drop database: %v", err)
		}
	})
	return within(s.url, name)
}

func (s *Shared) start(ctx context.Context) (err error) {
	if s.url, s.stop, err = container(ctx); errors.Is(err, errNoDocker) {
		s.url, s.stop, err = binaries(ctx)
	}
	if err != nil {
		return err
	}
	if err := s.admin(ctx, `CREATE DATABASE `+template); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	_, err = database.Migrate(ctx, within(s.url, template), func(string) {})
	return err
}

func binaries(ctx context.Context) (address string, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "dbtest-")
	if err != nil {
		return "", nil, err
	}
	server, err := local.Start(ctx, local.Options{Dir: dir, Progress: os.Stderr})
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return server.URL, func() error { return errors.Join(server.Stop(), os.RemoveAll(dir)) }, nil
}

// admin runs a statement in the server's own database. The server waits a few seconds for the last connections of a database to end that is
// copied or dropped, which is not enough on a busy machine: then it is asked again.
func (s *Shared) admin(ctx context.Context, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	for {
		_, err = conn.Exec(ctx, statement)
		if code, ok := errors.AsType[*pgconn.PgError](err); !ok || code.Code != objectInUse || ctx.Err() != nil {
			return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
		}
	}
}

// objectInUse is the SQLSTATE of a database that somebody is connected to.
const objectInUse = "55006"

// within is the URL of another database of a server.
func within(address, name string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address // pgx has connected with it, so it is one.
	}
	u.Path = name
	return u.String()
}

// Wrap returns m with a Run that stops the server after the tests.
func (s *Shared) Wrap(m *testing.M) interface{ Run() int } { return sharedMain{s, m} }

type sharedMain struct {
	shared *Shared
	m      *testing.M
}

// Run runs the tests and returns their exit code, or 1 if the server does not stop.
func (w sharedMain) Run() int {
	code := w.m.Run()
	if w.shared.stop == nil {
		return code
	}
	if err := w.shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop PostgreSQL:", err)
		return max(code, 1)
	}
	return code
}
