package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrNoProject is returned for a project that has no row.
	ErrNoProject = errors.New("there is no such project")
	// ErrNoLicense is returned for a license that has no row.
	ErrNoLicense = errors.New("there is no such license")
	// ErrConflict is returned for a license that is not, or not any more, what the caller took it for.
	ErrConflict = errors.New("the license has changed meanwhile")
	// ErrInvalid is returned for a value that PostgreSQL cannot keep, text with a NUL for one.
	ErrInvalid = errors.New("the database does not take the value")
	// ErrAsked is returned for a start that asks for what PostgreSQL cannot keep. The text names the member.
	ErrAsked = errors.New("the database cannot keep what the start asks for")
	// ErrAway is returned for what a later try may mend: the database does not answer, has no
	// connection left, or is not migrated yet.
	ErrAway = errors.New("database away")
	// ErrLocked is the ErrAway of what somebody else has had locked for too long: it is that row's, and not the database's.
	ErrLocked = fmt.Errorf("%w: somebody else has it locked", ErrAway)
	// ErrCrowded is the ErrAway of a server, a database or a role that has as many connections as it may: others have them.
	ErrCrowded = fmt.Errorf("%w: no connection is left", ErrAway)
	// ErrSlow is the ErrAway of a statement that the server has ended because it took too long, over a trigger for one: the database answers.
	ErrSlow = fmt.Errorf("%w: it took too long over a statement", ErrAway)
)

// away makes ErrAway of the errors of pgx that a later try may mend, and hands on all others. The end of the caller's
// own context is none of the database's.
func away(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, ErrAway) || context.Cause(ctx) != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	if code, ok := errors.AsType[*pgconn.PgError](err); ok {
		if !passing(code.Code) {
			return err
		}
		kind := ErrAway
		switch code.Code {
		case tooMany:
			kind = ErrCrowded
		case "55P03":
			kind = ErrLocked
		case "57014":
			kind = ErrSlow
		}
		return fmt.Errorf("%w: %w", kind, refusalOf(code))
	}
	var fault net.Error
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) || errors.As(err, &fault) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded) || pgconn.SafeToRetry(err) ||
		strings.Contains(err.Error(), "conn closed") {
		return fmt.Errorf("%w: %s", ErrAway, oneLine(err))
	}
	return err
}

// tooMany is the SQLSTATE of a refused connection, and of nothing else.
const tooMany = "53300"

// passing says whether an error of the server is one of its state, and not of what it was asked. The codes are in
// https://www.postgresql.org/docs/current/errcodes-appendix.html.
func passing(code string) bool {
	switch code {
	case "25006": // a standby that has not taken over yet
		return true
	case "25P03": // held a transaction open for too long
		return true
	case "3F000", "42P01": // no schema berth, no table: not migrated yet
		return true
	}
	for _, class := range []string{
		"08", // the connection
		"28", // who may connect, which its operator mends
		"3D", // the database does not exist
		"40", // was rolled back
		"53", // resources
		"55", // locked
		"57", // was ended by an operator, or is starting
		"58", // the machine
	} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}

// repeats says whether a transaction was rolled back only because of what others did at the same time.
func repeats(err error) bool {
	var code *pgconn.PgError
	return errors.Is(err, errMoved) || errors.As(err, &code) &&
		(code.Code == "40001" || code.Code == "40P01" || code.Code == "0A000" && strings.HasPrefix(code.Message, "cached plan"))
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
