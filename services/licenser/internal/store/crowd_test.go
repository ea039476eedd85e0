package store_test

import (
	"errors"
	"strings"
	"testing"

	"berth/pkg/events/eventstest"
	"berth/services/licenser/internal/store"
)

// narrow returns the store of a role that may do all, and a function that says how many connections it may have, -1 for any number.
func narrow(t *testing.T) (f *fixture, allow func(connections string)) {
	t.Helper()
	admin := setup(t)
	own := open(t, admin.role(t, `GRANT ALL ON ALL TABLES IN SCHEMA public, berth TO %[1]s; GRANT USAGE ON SCHEMA berth TO %[1]s`))
	if err := own.conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	own.conn = admin.conn
	return own, func(connections string) {
		t.Helper()
		own.exec(t, `ALTER ROLE role_`+own.conn.Config().Database+` CONNECTION LIMIT `+connections)
	}
}

// connected is how many connections its role has.
func (f *fixture) connected(t *testing.T) string {
	t.Helper()
	return f.value(t, `SELECT count(*) FROM pg_stat_activity WHERE usename = 'role_' || current_database()`)
}

// becomes waits until f fails with an error, or with none where that is nil. The server may not answer in time before.
func becomes(t *testing.T, what string, want error, f func() error) error {
	t.Helper()
	var err error
	eventstest.Eventually(t, what, func() bool {
		err = f()
		if err != nil && !errors.Is(err, store.ErrAway) && !errors.Is(err, want) {
			t.Fatalf("%s: %v", what, err)
		}
		return errors.Is(err, want)
	})
	return err
}

// TestFewConnections: where the server allows no more, what a store does not use is given back for the lease, and the store says that it
// cannot have one.
func TestFewConnections(t *testing.T) {
	t.Parallel()
	f, allow := narrow(t)
	lease := func() error {
		l, err := f.Lease(t.Context(), cluster)
		if err == nil {
			l.Close()
		}
		return err
	}
	ready := func() error { return f.Ready(t.Context()) }
	f.check(t, start(projectA, 1))
	_ = becomes(t, "it is ready", nil, ready)
	allow("0")
	_ = becomes(t, "there is no connection for a lease", store.ErrCrowded, lease)
	err := becomes(t, "it is not ready", store.ErrCrowded, ready)
	if !errors.Is(err, store.ErrAway) || !strings.Contains(err.Error(), "too many connections for role") {
		t.Errorf("Ready = %v, want %v with the server's words", err, store.ErrAway)
	}
	eventstest.Eventually(t, "its connections are given back", func() bool { return f.connected(t) == "0" })
	allow("1")
	_ = becomes(t, "there is one for a lease", nil, lease)
	allow("-1")
	_ = becomes(t, "it is ready again", nil, ready)
}

// TestKeepingFirst: what the keeper does gets the connection that a start does not use any more.
func TestKeepingFirst(t *testing.T) {
	t.Parallel()
	f, allow := narrow(t)
	f.check(t, start(projectA, 1)) // Has looked at the tables, too.
	allow("1")
	f.exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'role_' || current_database()`)
	_ = becomes(t, "somebody else has the only connection", store.ErrNoLicense, func() error { return second(f.License(t.Context(), licenseA)) })
	_ = becomes(t, "the keeper can note something", nil, func() error { return f.Ask(t.Context(), projectA, "x") })
}

// TestIdleConnections: a crowd that is over leaves no connections behind.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	f, _ := narrow(t)
	f.check(t, start(projectA, 1))
	eventstest.Eventually(t, "its connections are given back", func() bool { return f.connected(t) == "0" })
}
