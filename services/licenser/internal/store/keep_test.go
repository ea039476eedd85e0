package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/services/licenser/internal/store"
)

// lease takes one of a cluster, if it is free.
func lease(t *testing.T, f *fixture, cluster string) (*store.Lease, bool) {
	t.Helper()
	l, err := f.Lease(t.Context(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	taken, err := l.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l, taken
}

// next waits for a change.
func next(t *testing.T, l *store.Lease) store.Change {
	t.Helper()
	for range 60 { // About a second each.
		change, ok, err := l.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			return change
		}
	}
	t.Fatal("nothing was told")
	return store.Change{}
}

// TestLease: one has it, hears of changes, and loses it with its connection, and also when it shows no sign of life.
func TestLease(t *testing.T) {
	t.Parallel()
	f := setup(t)
	held, ok := lease(t, f, cluster)
	if !ok {
		t.Fatal("the lease is taken before anybody has it")
	}
	if _, ok := lease(t, f, "other"); !ok {
		t.Error("another cluster's keeper is in the way")
	}
	candidate, ok := lease(t, f, cluster)
	if ok {
		t.Fatal("two have the lease")
	}
	f.exec(t, `SELECT pg_notify('berth_project', 'nonsense')`)
	f.exec(t, `SELECT pg_notify('berth_license', $1)`, licenseA)
	f.exec(t, `SELECT pg_notify('berth_project', $1)`, projectA)
	f.exec(t, `SELECT pg_notify('berth_settings', 'default_quotas')`)
	got := []store.Change{next(t, held), next(t, held), next(t, held)}
	if d := cmp.Diff([]store.Change{{License: licenseA}, {Project: projectA}, {Settings: true}}, got); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	// The holder is silent from now on.
	deadline, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for taken := false; !taken; {
		select {
		case <-tick.C:
		case <-deadline.Done():
			t.Fatal("a silent keeper still has the lease after a minute")
		}
		var err error
		if taken, err = candidate.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := held.Next(t.Context()); !errors.Is(err, store.ErrAway) {
		t.Errorf("Next of who has lost the lease = %v, want %v", err, store.ErrAway)
	}
}

// TestKeeperInAHub: the keeper can work with a hub's tables, and writes the state and clears requests, nothing else.
func TestKeeperInAHub(t *testing.T) {
	t.Parallel()
	f := setupHub(t)
	ctx := t.Context()
	f.exec(t, `UPDATE public.projects SET action_request = NULL, state = NULL`)
	f.exec(t, `UPDATE public.projects SET action_request = '{"action":"start"}' WHERE project_id = $1`, projectA)
	f.exec(t, `UPDATE public.projects SET action_request = '{"action":"start","finished":"2026-01-01"}' WHERE project_id = $1`, projectB)
	before := dump(t, f)
	since := time.Now().UTC().Truncate(time.Microsecond)
	if err := f.Lives(ctx, projectA, since, false); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.SetState(ctx, projectA, "running", ""); err != nil {
			t.Fatal(err)
		}
	}
	u, err := f.Upkeep(ctx, projectA)
	if err != nil || !u.Wanted || !u.StartedAt.Equal(since) {
		t.Errorf("Upkeep = %+v, %v", u, err)
	}
	requests, err := f.ActionRequests(ctx, nil, "", 10)
	if err != nil || len(requests) != 1 || requests[0].Project != projectA {
		t.Fatalf("ActionRequests = %+v, %v; want the one that is not finished", requests, err)
	}
	for _, id := range []string{"first", "second"} {
		if command, done, err := f.Command(ctx, requests[0], id); err != nil || command != "first" || done {
			t.Errorf("Command = %s, %t, %v; want the first until it is cleared", command, done, err)
		}
	}
	for range 2 {
		if err := f.Done(ctx, requests[0], "first"); err != nil {
			t.Fatal(err)
		}
	}
	if command, done, err := f.Command(ctx, requests[0], "third"); err != nil || command != "first" || !done {
		t.Errorf("Command = %s, %t, %v; want the first, done", command, done, err)
	}
	other := store.ActionRequest{Project: projectA, Request: json.RawMessage(`{"action":"stop"}`)}
	if err := errors.Join(f.ClearRequest(ctx, other, ""), f.ClearRequest(ctx, requests[0], "another")); err != nil {
		t.Fatal(err)
	}
	if left, err := f.ActionRequests(ctx, []string{projectA}, "", 10); err != nil || len(left) != 1 {
		t.Errorf("another request was cleared: %+v, %v", left, err)
	}
	if err := f.ClearRequest(ctx, requests[0], "first"); err != nil {
		t.Fatal(err)
	}
	if command, _, err := f.Command(ctx, requests[0], "third"); err != nil || command != "" {
		t.Errorf("Command = %s, %v; want none for a request that is not there any more", command, err)
	}
	f.exec(t, `UPDATE public.projects SET action_request = $2 WHERE project_id = $1`, projectA, string(requests[0].Request))
	if err := f.ClearRequest(ctx, requests[0], "first"); err != nil {
		t.Fatal(err)
	}
	if command, done, err := f.Command(ctx, requests[0], "fourth"); err != nil || command != "fourth" || done {
		t.Errorf("Command = %s, %t, %v; want that of the later request that reads the same", command, done, err)
	}
	if err := f.ClearRequest(ctx, requests[0], "fourth"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		second(f.Busy(ctx, "", 10)), second(f.Wanted(ctx, "", 10)), second(f.ProjectsWith(ctx, cluster, licenseA, "", 10)),
		second(f.ChangedLicenses(ctx, nil, "", 10)), second(f.TimedLicenses(ctx, "", 10)), second(f.Outdated(ctx, []string{projectA, projectB})),
		f.Failed(ctx, projectA, 1, since, "died"), f.Recovered(ctx, []string{projectA}), f.Unwanted(ctx, projectA), f.NoteFault(ctx, projectA, "x", "y"),
		f.KnowLicense(ctx, store.LicenseChange{ID: licenseA, Digest: "x"}), f.KnowSettings(ctx, "x"),
	); err != nil {
		t.Error(err)
	}
	var changed []string
	for key, value := range dump(t, f) {
		if before[key] != value && !strings.HasPrefix(key, "berth.") {
			changed = append(changed, key)
		}
	}
	for key := range before {
		if _, there := dump(t, f)[key]; !there {
			t.Errorf("%s is gone", key)
		}
	}
	if len(changed) != 2 {
		t.Errorf("changed: %q, want the state and the request of one project", changed)
	}
}

// TestUpkeepOfOddRows: whatever is in a hub's columns, it can be read.
func TestUpkeepOfOddRows(t *testing.T) {
	t.Parallel()
	f := setup(t)
	tests := map[string]struct {
		quota  string
		always bool
		idle   time.Duration
	}{
		"none":          {"null", false, 0},
		"a text":        {`"x"`, false, 0},
		"of text":       {`{"idle_timeout":"1800","always_running":"true"}`, false, 0},
		"usual":         {`{"idle_timeout":1800,"always_running":true}`, true, 30 * time.Minute},
		"a fraction":    {`{"idle_timeout":0.5}`, false, time.Second / 2},
		"negative":      {`{"idle_timeout":-5}`, false, 0},
		"beyond bounds": {`{"idle_timeout":1e400}`, false, 1_000_000_000 * time.Second},
	}
	if _, err := f.Upkeep(t.Context(), projectA); !errors.Is(err, store.ErrNoProject) {
		t.Errorf("Upkeep of no project = %v, want %v", err, store.ErrNoProject)
	}
	f.exec(t, `INSERT INTO public.projects (project_id) VALUES ($1)`, projectA)
	for name, tt := range tests {
		for _, odd := range []string{`null`, `[]`, `"x"`, `{"x":{}}`, `{"` + licenseA + `":null}`} {
			f.exec(t, `UPDATE public.projects SET run_quota = $2, site_license = $3, users = $3, settings = $3, state = $3 WHERE project_id = $1`, projectA, tt.quota, odd)
			u, err := f.Upkeep(t.Context(), projectA)
			if err != nil || u.AlwaysRunning != tt.always || u.IdleTimeout != tt.idle {
				t.Errorf("%s: %+v, %v", name, u, err)
			}
			if _, err := f.Outdated(t.Context(), []string{projectA}); err != nil {
				t.Errorf("%s, %s: %v", name, odd, err)
			}
			if err := f.SetState(t.Context(), projectA, "opened", `a "fault"`); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestForget: what ended long ago goes, in parts and the oldest first, and nothing that lasts or is another cluster's.
func TestForget(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.exec(t, `INSERT INTO berth.usage_log (license_id, cluster, pod, generation, user_id, start, stop)
		SELECT $1::uuid, c, c || n, '1-1', 'u', now() - interval '100 days', CASE WHEN n > 0 THEN now() - make_interval(days => n) END
		FROM generate_series(0, 40, 10) n, unnest(array[$2, 'another']) c`, licenseA, cluster)
	const day = 24 * time.Hour
	for i, step := range []struct {
		age     time.Duration
		limit   int
		removed int
		left    string
	}{
		{25 * day, 1, 1, "0 10 20 30"},
		{25 * day, 9, 1, "0 10 20"},
		{25 * day, 9, 0, "0 10 20"},
		{day, 9, 2, "0"},
	} {
		removed, err := f.Forget(t.Context(), cluster, step.age, step.limit)
		left := f.value(t, `SELECT string_agg(substr(pod, $2), ' ' ORDER BY pod) FROM berth.usage_log WHERE cluster = $1`, cluster, len(cluster)+1)
		if err != nil || removed != step.removed || left != step.left {
			t.Errorf("step %d: %d removed, %q left (%v); want %d and %q", i, removed, left, err, step.removed, step.left)
		}
	}
	if n := f.value(t, `SELECT count(*) FROM berth.usage_log WHERE cluster = 'another'`); n != "5" {
		t.Errorf("%s of another cluster's are left, want all 5", n)
	}
}
