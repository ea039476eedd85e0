package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// attempts bounds how often a transaction is repeated that others have come in the way of.
	attempts = 8
	// attemptPause is the longest pause before the first repetition; it doubles.
	attemptPause = 10 * time.Millisecond
)

// errMoved is the fault of a transaction that has not locked what it turned out to need.
var errMoved = errors.New("a license got a limit meanwhile")

// transact runs f in a transaction, again where it was rolled back because of others. f's last run counts.
func (s *Store) transact(ctx context.Context, options pgx.TxOptions, f func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	return repeated(ctx, s.pool, options, f)
}

// keep is transact for what follows the log: it has connections of its own, and less time.
func (s *Store) keep(ctx context.Context, f func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	return repeated(ctx, s.keeping, pgx.TxOptions{}, f)
}

func repeated(ctx context.Context, pool *pgxpool.Pool, options pgx.TxOptions, f func(context.Context, pgx.Tx) error) error {
	pause := attemptPause
	for attempt := 1; ; attempt++ {
		err := pgx.BeginTxFunc(ctx, pool, options, func(tx pgx.Tx) error { return f(ctx, tx) })
		switch {
		case !repeats(err):
			return wrong(away(ctx, err))
		case attempt == attempts:
			return fmt.Errorf("%w: repeated %d times: %s", ErrAway, attempts, oneLine(err))
		}
		timer := time.NewTimer(rand.N(pause)) //nolint:gosec // Spreads repetitions; nobody gains by guessing.
		select {
		case <-ctx.Done():
			timer.Stop()
			return away(ctx, context.Cause(ctx))
		case <-timer.C:
		}
		pause *= 2
	}
}

// wrong makes ErrInvalid of what the server says of a value that it cannot keep.
func wrong(err error) error {
	var code *pgconn.PgError
	if errors.As(err, &code) && strings.HasPrefix(code.Code, "22") {
		return fmt.Errorf("%w: %s", ErrInvalid, code.Message)
	}
	return err
}

// changed makes ErrNoProject of an update of a project that has changed nothing.
func changed(tag pgconn.CommandTag, err error) error {
	if err == nil && tag.RowsAffected() == 0 {
		return ErrNoProject
	}
	return err
}
