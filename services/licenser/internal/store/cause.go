package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"berth/pkg/database"
)

// refusal is what the database says no with, as people may read it.
type refusal string

func (r refusal) Error() string { return string(r) }

// refusalOf is what a server's error says, without its details, which have values.
func refusalOf(code *pgconn.PgError) refusal {
	if strings.HasPrefix(code.Code, "22") {
		return refusal("a value is not one that it can keep or read (SQLSTATE " + code.Code + ")") // The message quotes it.
	}
	return refusal(fmt.Sprintf("%s (SQLSTATE %s)", code.Message, code.Code))
}

// maxCause is how much of a cause is told, in bytes.
const maxCause = 256

// Cause says in a line for users why a check has to be tried again, without a value of the database, an address or a password;
// it is empty where the database is not the cause.
func Cause(err error) string {
	if errors.Is(err, ErrLocked) {
		return "the project's row, or a license's, is locked by somebody else"
	}
	for _, unusable := range []error{database.ErrLost, database.ErrColumns, database.ErrTypes, database.ErrRights, database.ErrNotMigrated, database.ErrNewer} {
		if errors.Is(err, unusable) {
			_, more, _ := strings.Cut(err.Error(), unusable.Error())
			return clipped(unusable.Error() + more)
		}
	}
	said, ok := errors.AsType[refusal](err)
	if code := (*pgconn.PgError)(nil); !ok && errors.As(err, &code) {
		said, ok = refusalOf(code), true
	}
	switch {
	case ok:
		return clipped("the hub's database refuses: " + oneLine(said))
	case errors.Is(err, ErrAway):
		return "the licenser cannot reach its database, or that does not answer in time"
	}
	return ""
}

// clipped bounds a cause.
func clipped(cause string) string {
	if len(cause) <= maxCause {
		return cause
	}
	return strings.ToValidUTF8(cause[:maxCause-len("…")], "") + "…"
}
