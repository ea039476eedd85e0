package store_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"berth/pkg/events"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/store"
)

func seatCount(t *testing.T, f *fixture, id string) string {
	t.Helper()
	return f.value(t, `SELECT count(*) FROM berth.seats WHERE license_id = $1`, id)
}

// drift is how many seats have no open use, or the other way round.
func drift(t *testing.T, f *fixture) string {
	t.Helper()
	return f.value(t, `SELECT count(*) FROM (SELECT * FROM berth.seats WHERE kept_until IS NULL) s
		FULL JOIN (SELECT * FROM berth.usage_log WHERE stop IS NULL) u USING (license_id, cluster, pod, generation)
		WHERE s.user_id IS NULL OR u.user_id IS NULL`)
}

// TestFifty: fifty starts at the same moment share ten seats, in two processes.
func TestFifty(t *testing.T) {
	t.Parallel()
	f := setup(t)
	other := open(t, f.url)
	f.put(t, licenseA, 10)
	f.put(t, licenseB, 10)
	for i := range 50 {
		f.attach(t, project(i), licenseB, licenseA)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		s := []*fixture{f, other}[i%2]
		wg.Go(func() {
			// Each command is delivered twice, and again where others have what it needs for too long.
			for range 2 {
				err := s.Check(t.Context(), start(project(i), 1), greedy)
				for again := 0; errors.Is(err, store.ErrAway) && again < 64; again++ {
					err = s.Check(t.Context(), start(project(i), 1), greedy)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, id := range []string{licenseA, licenseB} {
		if got := seatCount(t, f, id); got != "10" {
			t.Errorf("%s seats of %s, want 10", got, id)
		}
		for status, want := range map[string]string{"active": "10", "exhausted": "40"} {
			if got := f.value(t, `SELECT count(*) FROM projects WHERE site_license->$1->>'status' = $2`, id, status); got != want {
				t.Errorf("%s projects have %s %s, want %s", got, id, status, want)
			}
		}
	}
	if got := drift(t, f); got != "0" {
		t.Errorf("%s seats and uses differ", got)
	}
	// Ten stop, and ten others get their seats.
	rows, err := f.conn.Query(t.Context(), `SELECT pod FROM berth.seats WHERE license_id = $1`, licenseA)
	if err != nil {
		t.Fatal(err)
	}
	var pods []string
	for rows.Next() {
		var pod string
		if err := rows.Scan(&pod); err != nil {
			t.Fatal(err)
		}
		pods = append(pods, pod)
	}
	for _, pod := range pods {
		if err := f.FreeSeats(t.Context(), cluster, pod, generation(1), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		f.check(t, start(project(i), 2))
	}
	if got := seatCount(t, f, licenseA); got != "10" {
		t.Errorf("%s seats after restarts, want 10", got)
	}
	if got := drift(t, f); got != "0" {
		t.Errorf("%s seats and uses differ after restarts", got)
	}
}

// TestThousand: starts and stops one after the other leave nothing behind.
func TestThousand(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, licenseA, 1)
	f.attach(t, projectA, licenseA)
	f.attach(t, projectB, licenseA)
	for i := range 1000 {
		p, life := []string{projectA, projectB}[i%2], i+1
		if seats := f.check(t, start(p, life)).Seats[licenseA]; seats != 0 {
			t.Fatalf("start %d: %d seats are held by others", i, seats)
		}
		if err := f.FreeSeats(t.Context(), cluster, events.ProjectPod(p), generation(life), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{
		`SELECT count(*) FROM berth.seats`:                                                                "0",
		`SELECT count(*) FROM berth.usage_log WHERE stop IS NULL`:                                         "0",
		`SELECT count(*) FROM berth.usage_log WHERE start > stop`:                                         "0",
		`SELECT count(DISTINCT generation) FROM berth.usage_log`:                                          "1000",
		`SELECT count(*) FROM berth.usage_log WHERE stop IS NOT NULL`:                                     "1000",
		`SELECT count(*) FROM projects WHERE site_license IS NOT NULL`:                                    "2",
		`SELECT count(*) FROM berth.projects WHERE project_id IS NULL`:                                    "0",
		`SELECT last_used IS NOT NULL FROM site_licenses`:                                                 "true",
		`SELECT current_setting('TimeZone') IS NOT NULL`:                                                  "true",
		`SELECT abs(extract(epoch FROM last_used - (now() AT TIME ZONE 'UTC'))) < 120 FROM site_licenses`: "true",
	}
	for query, want := range want {
		if got := f.value(t, query); got != want {
			t.Errorf("%s = %s, want %s", query, got, want)
		}
	}
}

func TestFacts(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, licenseA, 0)
	f.put(t, licenseB, 3)
	f.attach(t, projectA, licenseB, licenseA)
	f.exec(t, `UPDATE projects SET settings = '{"cores": 1}', users = 'null', pay_as_you_go_quotas = '{"a": 1}',
		site_license = site_license || '{"10000000-0000-4000-8000-00000000dead": {"status": "active"}, "odd": 1}' WHERE project_id = $1`, projectA)
	f.exec(t, `INSERT INTO server_settings VALUES ('default_quotas', '{"mem": 5}'), ('max_upgrades', 'nonsense'), ('other', 'x')`)
	f.attach(t, projectB, licenseA, licenseB)
	f.check(t, start(projectB, 1))

	req := start(projectA, 2)
	req.Project.Image, req.Project.Env, req.Project.Config = "image", map[string]string{"A": "<b>"}, json.RawMessage(`{"c":1.50}`)
	got := f.check(t, req)
	activates, limits := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), []int64{0, 3}
	want := store.Facts{
		Project: store.ProjectFacts{
			Settings: json.RawMessage(`{"cores": 1}`), PayAsYouGo: json.RawMessage(`{"a": 1}`),
			SiteLicense: json.RawMessage(`{"odd": 1, "` + licenseA + `": {}, "` + licenseB + `": {}, "10000000-0000-4000-8000-00000000dead": {"status": "active"}}`),
			Extras:      store.Extras{Image: "image", Env: map[string]string{"A": "<b>"}, Config: json.RawMessage(`{"c": 1.50}`)},
		},
		Licenses: []store.LicenseRow{
			{ID: licenseA, Title: "License 1", Activates: &activates, Quota: json.RawMessage(`{"cpu": 1}`), RunLimit: &limits[0]},
			{ID: licenseB, Title: "License 2", Activates: &activates, Quota: json.RawMessage(`{"cpu": 1}`), RunLimit: &limits[1]},
		},
		// Nobody counts the seats of a license without a limit.
		Seats: map[string]int{licenseB: 1},
		Site:  store.Site{DefaultQuotas: json.RawMessage(`"{\"mem\": 5}"`), MaxUpgrades: json.RawMessage(`"nonsense"`)},
	}
	utc := cmp.Transformer("UTC", func(t time.Time) int64 { return t.UnixNano() })
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(store.Facts{}, "Now"), utc); d != "" {
		t.Errorf("facts (-want +got):\n%s", d)
	}
	if d := time.Since(got.Now).Abs(); d > time.Minute {
		t.Errorf("the database's clock is %s off", d)
	}

	// What is left out is as before; a decision replaces the values that it has, and no others.
	again := start(projectA, 3)
	again.Project.Tag = "tag"
	got = f.check(t, again)
	want.Project.Extras.Tag = "tag"
	want.Project.SiteLicense = json.RawMessage(`{"odd": 1, "` + licenseA + `": {"status": "active"}, "` + licenseB +
		`": {"status": "active"}, "10000000-0000-4000-8000-00000000dead": {"status": "active"}}`)
	want.Project.RunQuota = json.RawMessage(`{"cpu_limit": 1}`)
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(store.Facts{}, "Now"), utc); d != "" {
		t.Errorf("facts of the next start (-want +got):\n%s", d)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, licenseA, 1)
	f.attach(t, projectA, licenseA)
	f.attach(t, projectB, licenseA)
	first := start(projectA, 1)
	first.Project.Image = "old"
	f.check(t, first)

	before := dump(t, f)
	preview := start(projectB, 1)
	preview.Mode, preview.Project.Image = store.Preview, "new"
	got := f.check(t, preview)
	if got.Seats[licenseA] != 1 || got.Project.Extras.Image != "new" {
		t.Errorf("facts of a preview: %+v", got)
	}
	preview.Licenses = []string{licenseB}
	if got := f.check(t, preview); len(got.Licenses) != 0 || got.Project.SiteLicense == nil {
		t.Errorf("facts of a preview of other licenses: %+v", got)
	}
	preview.Project.ID = project(77)
	f.check(t, preview)
	if d := cmp.Diff(before, dump(t, f)); d != "" {
		t.Errorf("a preview has written (-before +after):\n%s", d)
	}

	recompute := start(projectA, 1)
	recompute.Mode, recompute.Project.Image = store.Recompute, "ignored"
	if got := f.check(t, recompute); got.Project.Extras.Image != "old" || got.Seats[licenseA] != 0 {
		t.Errorf("facts of a recomputation: %+v", got)
	}
	recompute.Project.ID = project(77)
	if err := f.Check(t.Context(), recompute, greedy); !errors.Is(err, store.ErrNoProject) {
		t.Errorf("recomputation of a project without a row = %v, want %v", err, store.ErrNoProject)
	}
	recompute.Project.ID = "../etc"
	if err := f.Check(t.Context(), recompute, greedy); !errors.Is(err, store.ErrNoProject) {
		t.Errorf("check of no project = %v, want %v", err, store.ErrNoProject)
	}

	failure := errors.New("bad patch")
	before = dump(t, f)
	if err := f.Check(t.Context(), start(projectA, 2), func(store.Facts) (store.Decision, error) {
		return store.Decision{Write: true, Seats: []string{licenseA}}, failure
	}); !errors.Is(err, failure) {
		t.Errorf("check = %v, want %v", err, failure)
	}
	if d := cmp.Diff(before, dump(t, f)); d != "" {
		t.Errorf("a check that fails has written (-before +after):\n%s", d)
	}
	// What PostgreSQL cannot keep would be tried for ever as a fault of the database.
	poison := start(projectA, 2)
	poison.Project.Env = map[string]string{"A": "\x00"}
	if err := f.Check(t.Context(), poison, greedy); !errors.Is(err, store.ErrAsked) {
		t.Errorf("check = %v, want %v", err, store.ErrAsked)
	}
}

// TestSeats goes through the life of a seat.
func TestSeats(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, licenseA, 1)
	f.put(t, licenseB, 5)
	f.attach(t, projectA, licenseA, licenseB)
	f.attach(t, projectB, licenseA)
	podA := events.ProjectPod(projectA)
	others := func(life int) int { return f.check(t, start(projectB, life)).Seats[licenseA] }

	f.check(t, start(projectA, 10))
	if n := others(1); n != 1 {
		t.Fatalf("%d seats of others, want 1", n)
	}
	list, err := f.Store.Seats(t.Context(), licenseA)
	if err != nil || list.Total != 1 || len(list.Seats) != 1 || *list.RunLimit != 1 {
		t.Fatalf("seats: %+v, %v", list, err)
	}
	want := wire.Seat{License: licenseA, User: events.ProjectUser(projectA), Project: projectA, Pod: podA, Generation: generation(10)}
	if d := cmp.Diff(want, list.Seats[0], cmpopts.IgnoreFields(wire.Seat{}, "Since")); d != "" {
		t.Errorf("seat (-want +got):\n%s", d)
	}

	// Kept for a restart: still nobody else's, but not in use.
	if err := f.KeepSeats(t.Context(), cluster, podA, generation(10), time.Time{}, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n := others(2); n != 1 {
		t.Errorf("%d seats while one is kept, want 1", n)
	}
	if got := f.value(t, `SELECT count(*) FROM berth.usage_log WHERE stop IS NULL`); got != "0" {
		t.Errorf("%s open uses while the pod is away", got)
	}
	if n, err := f.Recount(t.Context(), cluster, nil, 0); n != 0 || err != nil {
		t.Errorf("a count has freed %d kept seats, %v", n, err)
	}
	f.check(t, start(projectA, 11))
	// A late word about the earlier pod, and a late command of it, do nothing.
	if err := errors.Join(
		f.FreeSeats(t.Context(), cluster, podA, generation(10), time.Time{}), f.KeepSeats(t.Context(), cluster, podA, generation(10), time.Time{}, time.Now()),
	); err != nil {
		t.Fatal(err)
	}
	f.check(t, start(projectA, 10))
	if got := f.value(t, `SELECT string_agg(DISTINCT generation, ' ') FROM berth.seats WHERE kept_until IS NULL AND pod = $1`, podA); got != generation(11) {
		t.Errorf("the seats are of %s, want %s", got, generation(11))
	}
	if got := drift(t, f); got != "0" {
		t.Errorf("%s seats and uses differ", got)
	}
	// A pod that lives, one too young to know of, one that does not live, one of an earlier life.
	live := map[string]store.Life{podA: {Generation: generation(11)}}
	if n, err := f.Recount(t.Context(), cluster, live, 0); n != 0 || err != nil {
		t.Errorf("a count has freed %d seats of a pod that lives, %v", n, err)
	}
	live[podA] = store.Life{Generation: generation(12)}
	if n, err := f.Recount(t.Context(), cluster, live, time.Hour); n != 0 || err != nil {
		t.Errorf("a count has freed %d young seats, %v", n, err)
	}
	if n, err := f.Recount(t.Context(), "another", nil, 0); n != 0 || err != nil {
		t.Errorf("a count has freed %d seats of another cluster, %v", n, err)
	}
	if n, err := f.Recount(t.Context(), cluster, live, 0); n != 2 || err != nil {
		t.Errorf("a count has freed %d seats, want 2 (%v)", n, err)
	}
	if got := drift(t, f); got != "0" {
		t.Errorf("%s seats and uses differ", got)
	}
	if n := others(3); n != 0 {
		t.Errorf("%d seats of others after all were freed", n)
	}
	// Kept too long.
	if err := f.KeepSeats(t.Context(), cluster, events.ProjectPod(projectB), generation(3), time.Time{}, time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := f.check(t, start(projectA, 13)).Seats[licenseA]; got != 0 {
		t.Errorf("%d seats, and the only one was kept too long", got)
	}
	if n, err := f.Recount(t.Context(), cluster, map[string]store.Life{podA: {Generation: generation(13)}}, time.Hour); n != 1 || err != nil {
		t.Errorf("a count has freed %d seats, want the one that was kept too long (%v)", n, err)
	}
	// A license less: its seat goes with the next check.
	if err := f.Detach(t.Context(), wire.Attachment{License: licenseB, Project: projectA}); err != nil {
		t.Fatal(err)
	}
	recompute := start(projectA, 13)
	recompute.Mode = store.Recompute
	f.check(t, recompute)
	if a, b := seatCount(t, f, licenseA), seatCount(t, f, licenseB); a != "1" || b != "0" {
		t.Errorf("%s and %s seats, want 1 and 0", a, b)
	}

	usage, err := f.Usage(t.Context(), wire.UsageQuery{ID: licenseA, Limit: 2})
	if err != nil || len(usage.Usage) != 2 || usage.Next == "" || usage.Usage[0].Generation != generation(13) || usage.Usage[0].Stop != nil {
		t.Fatalf("usage: %+v, %v", usage, err)
	}
	rest, err := f.Usage(t.Context(), wire.UsageQuery{ID: licenseA, After: usage.Next})
	if err != nil || len(rest.Usage) == 0 || rest.Next != "" || rest.Usage[len(rest.Usage)-1].Generation != generation(10) {
		t.Errorf("rest of the usage: %+v, %v", rest, err)
	}
	if since, err := f.Usage(t.Context(), wire.UsageQuery{ID: licenseA, Since: time.Now().Add(time.Hour)}); err != nil || len(since.Usage) != 1 {
		t.Errorf("usage since later: %+v, %v", since, err)
	}
	if _, err := f.Usage(t.Context(), wire.UsageQuery{ID: licenseA, After: "x"}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("usage after x = %v, want %v", err, store.ErrInvalid)
	}
}

// TestPeople: a person's pods share the person's licenses.
func TestPeople(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.put(t, licenseA, 1)
	person := func(name, pod string) store.CheckRequest {
		return store.CheckRequest{Cluster: cluster, Pod: pod, Generation: generation(1), User: name}
	}
	if got := f.check(t, person("alice", "notebook-alice")); len(got.Licenses) > 0 || got.Now.IsZero() {
		t.Errorf("facts of a person without licenses: %+v", got)
	}
	for _, user := range []string{"alice", "bob"} {
		for range 2 {
			if err := f.Attach(t.Context(), wire.Attachment{License: licenseA, User: user}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := f.check(t, person("alice", "notebook-alice")); len(got.Licenses) != 1 || got.Seats[licenseA] != 0 || got.Project.SiteLicense != nil {
		t.Errorf("facts of the first pod: %+v", got)
	}
	if got := f.check(t, person("bob", "notebook-bob")); got.Seats[licenseA] != 1 {
		t.Errorf("facts of the second pod: %+v", got)
	}
	// Alice's pod loses its seat with the license, though she has no other.
	if err := f.Detach(t.Context(), wire.Attachment{License: licenseA, User: "alice"}); err != nil {
		t.Fatal(err)
	}
	f.check(t, person("alice", "notebook-alice"))
	if got := seatCount(t, f, licenseA); got != "0" {
		t.Errorf("%s seats, want 0", got)
	}
}
