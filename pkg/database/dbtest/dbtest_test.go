package dbtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"berth/pkg/database"
	"berth/pkg/database/dbtest"
)

var shared dbtest.Shared

func TestMain(m *testing.M) { goleak.VerifyTestMain(shared.Wrap(m)) }

// TestDatabases shows that a test has a database for itself.
func TestDatabases(t *testing.T) {
	t.Parallel()
	for range 3 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			url := shared.Migrated(t)
			status, err := database.Check(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			if err := status.Usable(); err != nil || !status.Notifies {
				t.Errorf("the database is not as it should be: %v, %+v", err, status)
			}
			conn, err := pgx.Connect(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(t.Context(), `INSERT INTO berth.settings VALUES ('mine', '')`); err != nil {
				t.Error(err)
			}
			if err := conn.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
