package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"berth/pkg/database"
	"berth/pkg/database/dbtest"
	"berth/pkg/events"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/store"
)

var shared dbtest.Shared

func TestMain(m *testing.M) { goleak.VerifyTestMain(shared.Wrap(m)) }

const (
	licenseA = "10000000-0000-4000-8000-000000000001"
	licenseB = "10000000-0000-4000-8000-000000000002"
	licenseC = "10000000-0000-4000-8000-000000000003"
	projectA = "20000000-0000-4000-8000-000000000001"
	projectB = "20000000-0000-4000-8000-000000000002"
	cluster  = "test"
)

// generation is that of the n-th life of a pod.
func generation(n int) string {
	return events.Position{Created: 1767323045000000000, Sequence: uint64(n)}.String()
}

func project(n int) string { return fmt.Sprintf("20000000-0000-4000-8000-%012d", n) }

// fixture is a store, and a connection beside it that may do everything.
type fixture struct {
	*store.Store

	url  string
	conn *pgx.Conn
}

func setup(tb testing.TB) *fixture {
	tb.Helper()
	return open(tb, shared.Migrated(tb))
}

// setupHub returns the store of a hub's database, through a role that may make no triggers.
func setupHub(t *testing.T) *fixture {
	t.Helper()
	admin := shared.Empty(t)
	sql, err := os.ReadFile("testdata/hub.sql")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{url: admin, conn: connect(t, admin)}
	f.exec(t, string(sql))
	url := f.role(t, `GRANT SELECT ON ALL TABLES IN SCHEMA public TO %[1]s;
		GRANT UPDATE (run_quota, site_license, state, action_request) ON public.projects TO %[1]s;
		GRANT INSERT, DELETE, UPDATE ON public.site_licenses TO %[1]s;
		DO $$ BEGIN EXECUTE 'GRANT CREATE ON DATABASE ' || current_database() || ' TO %[1]s'; END $$`)
	if _, err := database.Migrate(t.Context(), url, func(string) {}); err != nil {
		t.Fatal(err)
	}
	own := open(t, url)
	own.conn = f.conn
	return own
}

// role makes a role for one test, with grants that name it %[1]s, and returns the database's URL with it.
func (f *fixture) role(t *testing.T, grants string) string {
	t.Helper()
	config, err := pgx.ParseConfig(f.url)
	if err != nil {
		t.Fatal(err)
	}
	name := "role_" + config.Database
	f.exec(t, fmt.Sprintf(`CREATE ROLE %[1]s LOGIN PASSWORD 'secret'; `+grants, name))
	t.Cleanup(func() { f.exec(t, `DROP OWNED BY `+name+` CASCADE; DROP ROLE `+name) })
	address := url.URL{
		Scheme: "postgres", User: url.UserPassword(name, "secret"), Path: config.Database,
		Host: net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))),
	}
	return address.String()
}

func open(tb testing.TB, url string) *fixture {
	tb.Helper()
	s, err := store.Open(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return &fixture{Store: s, url: url, conn: connect(tb, url)}
}

func connect(tb testing.TB, url string) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(tb.Context())); err != nil {
			tb.Error(err)
		}
	})
	return conn
}

func (f *fixture) exec(tb testing.TB, sql string, args ...any) {
	tb.Helper()
	if _, err := f.conn.Exec(context.WithoutCancel(tb.Context()), sql, args...); err != nil {
		tb.Fatalf("%.60s: %v", sql, err)
	}
}

// value is the only value that a query returns, as text.
func (f *fixture) value(t *testing.T, sql string, args ...any) string {
	t.Helper()
	var value *string
	if err := f.conn.QueryRow(t.Context(), `SELECT (`+sql+`)::text`, args...).Scan(&value); err != nil {
		t.Fatalf("%.60s: %v", sql, err)
	}
	if value == nil {
		return "NULL"
	}
	return *value
}

// put saves a license that is valid, with a limit.
func (f *fixture) put(tb testing.TB, id string, limit int) wire.License {
	tb.Helper()
	activates := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	saved, err := f.PutLicense(tb.Context(), wire.License{
		ID: id, Title: "License " + id[len(id)-1:], Activates: &activates, Quota: json.RawMessage(`{"cpu": 1}`), RunLimit: &limit,
	}, "")
	if err != nil {
		tb.Fatal(err)
	}
	return saved
}

func (f *fixture) attach(tb testing.TB, project string, licenses ...string) {
	tb.Helper()
	for _, id := range licenses {
		if err := f.Attach(tb.Context(), wire.Attachment{License: id, Project: project}); err != nil {
			tb.Fatal(err)
		}
	}
}

func start(project string, life int) store.CheckRequest {
	return store.CheckRequest{
		Cluster: cluster, Pod: events.ProjectPod(project), Generation: generation(life), User: events.ProjectUser(project),
		Project: &events.ProjectRequest{ID: project},
	}
}

// greedy takes a seat of each license that has one left.
func greedy(f store.Facts) (store.Decision, error) {
	d := store.Decision{Write: true, SiteLicense: map[string]json.RawMessage{}, RunQuota: json.RawMessage(`{"cpu_limit": 1}`)}
	for _, l := range f.Licenses {
		status := "exhausted"
		if l.RunLimit == nil || *l.RunLimit == 0 || f.Seats[l.ID] < int(*l.RunLimit) {
			status = "active"
			d.Seats = append(d.Seats, l.ID)
		}
		d.SiteLicense[l.ID] = json.RawMessage(fmt.Sprintf(`{"status":%q}`, status))
		d.LastUsed = append(d.LastUsed, l.ID)
	}
	return d, nil
}

// check runs a check that takes what it gets, and returns the facts.
func (f *fixture) check(t *testing.T, req store.CheckRequest) store.Facts {
	t.Helper()
	var got store.Facts
	if err := f.Check(t.Context(), req, func(facts store.Facts) (store.Decision, error) {
		got = facts
		return greedy(facts)
	}); err != nil {
		t.Fatal(err)
	}
	return got
}
