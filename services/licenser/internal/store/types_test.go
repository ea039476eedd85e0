package store_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/database"
	"berth/pkg/license/wire"
	"berth/services/licenser/internal/store"
)

// works does what reads and writes a hub's tables.
func works(t *testing.T, f *fixture) {
	t.Helper()
	ctx := t.Context()
	if err := f.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []store.Mode{store.Start, store.Recompute, store.Preview} {
		request := start(projectA, 1)
		request.Mode = mode
		if facts := f.check(t, request); len(facts.Licenses) != 1 {
			t.Errorf("mode %d: %d licenses, want 1", mode, len(facts.Licenses))
		}
	}
	list, _, err := f.Licenses(ctx, "", 0)
	if err != nil || len(list) == 0 {
		t.Fatalf("%d licenses, %v", len(list), err)
	}
	request := store.ActionRequest{Project: projectA, Request: []byte(`{"action": "start"}`)}
	f.put(t, licenseB, 3)
	for what, err := range map[string]error{
		"license":   second(f.License(ctx, licenseA)),
		"project":   second(f.Project(ctx, projectA)),
		"seats":     second(f.Store.Seats(ctx, licenseA)),
		"attached":  second(f.Attached(ctx, wire.AttachedQuery{ID: licenseA})),
		"changes":   second(f.ChangedLicenses(ctx, nil, "", 10)),
		"timed":     second(f.TimedLicenses(ctx, "", 10)),
		"upkeep":    second(f.Upkeep(ctx, projectA)),
		"outdated":  second(f.Outdated(ctx, []string{projectA})),
		"inputs":    second(f.Inputs(ctx, projectA)),
		"wanted":    second(f.Wanted(ctx, "", 10)),
		"busy":      second(f.Busy(ctx, "", 10)),
		"with":      second(f.ProjectsWith(ctx, cluster, licenseA, "", 10)),
		"requests":  second(f.ActionRequests(ctx, nil, "", 10)),
		"clear":     f.ClearRequest(ctx, request, ""),
		"state":     f.SetState(ctx, projectA, "running", ""),
		"enter":     f.Enter(ctx, store.Standing{Project: projectA, State: "running"}),
		"settings":  second(f.Settings(ctx)),
		"attach":    f.Attach(ctx, wire.Attachment{License: licenseB, Project: projectA}),
		"detach":    f.Detach(ctx, wire.Attachment{License: licenseB, Project: projectA}),
		"no change": second(f.PutLicense(ctx, list[0], list[0].Revision)),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, _, err = f.ChangedSettings(ctx)
	if err != nil {
		t.Error(err)
	}
}

// TestTypes: a hub whose columns are of other types than usual is served where that can be, and named where not.
func TestTypes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change string
		want   error
		named  string
	}{
		"usual": {change: `SELECT`},
		"other times": {change: `ALTER TABLE site_licenses ALTER activates TYPE timestamptz, ALTER expires TYPE date, ALTER created TYPE date, ALTER last_used TYPE timestamptz;
			ALTER TABLE projects ALTER last_edited TYPE timestamptz`},
		"other numbers": {change: `ALTER TABLE site_licenses ALTER run_limit TYPE numeric; UPDATE site_licenses SET run_limit = 'NaN'`},
		"small numbers": {change: `ALTER TABLE site_licenses ALTER run_limit TYPE smallint`},
		"large numbers": {change: `ALTER TABLE site_licenses ALTER run_limit TYPE bigint; UPDATE site_licenses SET run_limit = 9000000000000000000`},
		"other documents": {change: `ALTER TABLE site_licenses ALTER quota TYPE json, ALTER upgrades TYPE json; ALTER TABLE projects ALTER settings TYPE json;
			UPDATE site_licenses SET upgrades = '{"a": "\u0000"}'`},
		"other texts": {change: `ALTER TABLE site_licenses ALTER title TYPE varchar(99), ALTER description TYPE char(9); ALTER TABLE projects ALTER settings TYPE text;
			ALTER TABLE server_settings ALTER name TYPE varchar, ALTER value TYPE jsonb USING to_jsonb(value)`},
		"domains": {change: `CREATE DOMAIN document AS jsonb; CREATE DOMAIN words AS text; CREATE DOMAIN id AS uuid; CREATE DOMAIN number AS integer; CREATE DOMAIN moment AS timestamp;
			ALTER TABLE projects ALTER project_id TYPE id, ALTER state TYPE document, ALTER site_license TYPE document, ALTER run_quota TYPE document, ALTER users TYPE document, ALTER last_edited TYPE moment;
			ALTER TABLE site_licenses ALTER id TYPE id, ALTER title TYPE words, ALTER activates TYPE moment, ALTER run_limit TYPE number, ALTER quota TYPE document`},
		"what can be missing is something else": {change: `ALTER TABLE site_licenses DROP COLUMN managers, DROP COLUMN created, DROP COLUMN last_used;
			ALTER TABLE site_licenses ADD managers jsonb DEFAULT '["a"]', ADD created jsonb DEFAULT '{}', ADD last_used time DEFAULT '10:00';
			ALTER TABLE projects DROP COLUMN last_edited, DROP COLUMN pay_as_you_go_quotas; ALTER TABLE projects ADD last_edited jsonb DEFAULT '{}', ADD pay_as_you_go_quotas uuid[] DEFAULT '{}'`},
		"state": {`ALTER TABLE projects ALTER state TYPE text`, database.ErrTypes, "projects.state is text and has to be jsonb"},
		"quota": {`ALTER TABLE site_licenses ALTER quota TYPE text`, database.ErrTypes, "site_licenses.quota is text and has to be jsonb or json"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.put(t, licenseA, 2)
			f.attach(t, projectA, licenseA)
			f.exec(t, `UPDATE projects SET settings = '{"cores": 1}', last_edited = now(), action_request = '{"action": "start"}', run_quota = '{"idle_timeout": 5}', state = '{}';
				INSERT INTO server_settings VALUES ('default_quotas', '{}')`)
			f.exec(t, tt.change)
			if tt.want == nil {
				works(t, f)
				return
			}
			for what, err := range map[string]error{"Ready": f.Ready(t.Context()), "Check": f.Check(t.Context(), start(projectA, 1), greedy)} {
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.named) || !strings.Contains(store.Cause(err), tt.named) {
					t.Errorf("%s = %v, want %v with %s", what, err, tt.want, tt.named)
				}
			}
		})
	}
}

// TestManagers: of a list that a hub has written oddly the names are read.
func TestManagers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		value string
		want  []string
	}{
		"none":         {`NULL`, nil},
		"empty":        {`'{}'`, []string{}},
		"some":         {`'{b,a}'`, []string{"b", "a"}},
		"with a hole":  {`'{NULL,b,NULL,a}'`, []string{"b", "a"}},
		"only holes":   {`'{NULL}'`, []string{}},
		"lists":        {`'{{b,a},{NULL,c}}'`, []string{"b", "a", "c"}},
		"other bounds": {`'[5:6]={b,a}'`, []string{"b", "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.put(t, licenseA, 2)
			f.exec(t, `UPDATE site_licenses SET managers = `+tt.value)
			was := f.value(t, `SELECT managers FROM site_licenses`)
			l, err := f.License(t.Context(), licenseA)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, l.Managers); d != "" {
				t.Errorf("managers (-want +got):\n%s", d)
			}
			l.Title = "Another"
			if _, err := f.PutLicense(t.Context(), l, l.Revision); err != nil {
				t.Error(err)
			}
			if got := f.value(t, `SELECT managers FROM site_licenses`); got != was {
				t.Errorf("the change of a title has made %s of %s", got, was)
			}
		})
	}
}

// TestUntouched: what an edit leaves as it was read stays as the hub has written it.
func TestUntouched(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.put(t, licenseA, 2)
	f.exec(t, `ALTER TABLE site_licenses ALTER run_limit TYPE bigint`)
	f.exec(t, `UPDATE site_licenses SET title = NULL, activates = '4713-01-01 BC', expires = 'infinity', run_limit = 5000000000, managers = '{NULL}', upgrades = 'null'`)
	const all = `SELECT to_jsonb(l) - 'quota' FROM site_licenses l`
	was := f.value(t, all)
	read, err := f.License(ctx, licenseA)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(read) // As it comes back from whoever edits it.
	if err != nil {
		t.Fatal(err)
	}
	var edited wire.License
	if err := json.Unmarshal(text, &edited); err != nil {
		t.Fatal(err)
	}
	edited.Quota = json.RawMessage(`{"cpu": 2}`)
	saved, err := f.PutLicense(ctx, edited, read.Revision)
	if err != nil || saved.Revision == read.Revision || string(saved.Quota) != `{"cpu": 2}` {
		t.Errorf("saved: %+v, %v", saved, err)
	}
	if d := cmp.Diff(was, f.value(t, all)); d != "" {
		t.Errorf("beside the quota (-was +got):\n%s", d)
	}
	if again, err := f.PutLicense(ctx, saved, saved.Revision); err != nil || again.Revision != saved.Revision {
		t.Errorf("saved once more: %+v, %v", again, err)
	}
	// What is changed is written.
	ends := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	edited.Title, edited.Activates, edited.Expires, edited.RunLimit, edited.Managers = "x", nil, &ends, nil, []string{"a"}
	if _, err := f.PutLicense(ctx, edited, saved.Revision); err != nil {
		t.Error(err)
	}
	const changed = `SELECT ARRAY[title, activates::text, expires::text, run_limit::text, managers[1]] FROM site_licenses`
	if got := f.value(t, changed); got != `{x,NULL,"2030-01-02 03:04:05.000006",NULL,a}` {
		t.Errorf("the row has %s", got)
	}
}
