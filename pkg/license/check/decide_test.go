package check_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/check"
	"berth/pkg/license/quota"
)

const (
	first  = "10000000-0000-4000-8000-000000000000"
	second = "20000000-0000-4000-8000-000000000000"
	third  = "30000000-0000-4000-8000-000000000000"
	upper  = "ABCDEF00-0000-4000-8000-000000000000"
	noUUID = "x0000000-0000-4000-8000-000000000000"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// license makes a row that may be used.
func license(id, quota string, change ...func(*check.Row)) check.Row {
	since := now.Add(-time.Hour)
	row := check.Row{ID: id, Activates: &since, Quota: json.RawMessage(quota)}
	for _, c := range change {
		c(&row)
	}
	return row
}

func limit(seats int64) func(*check.Row) { return func(r *check.Row) { r.RunLimit = &seats } }

// attached gives a project the licenses with nothing stored yet.
func attached(ids ...string) []quota.License {
	list := []quota.License{}
	for _, id := range ids {
		list = append(list, quota.License{ID: id, Value: json.RawMessage(`{}`)})
	}
	return list
}

func TestDecide(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) *time.Time {
		moment := now.Add(d)
		return &moment
	}
	const one, more = `{"cpu":1,"ram":2}`, `{"cpu":2,"ram":8,"member":true}`
	for name, test := range map[string]struct {
		in           check.Input
		wantStatuses []check.Status
		wantActive   []string
		wantLastUsed []string
		wantOrder    []string
		wantChanged  bool
		wantBad      []string
	}{
		"no licenses": {in: check.Input{SiteLicense: attached()}},
		"one that gives something": {
			in:           check.Input{SiteLicense: attached(first), Rows: []check.Row{license(first, one)}},
			wantStatuses: []check.Status{{ID: first, Status: check.Active}},
			wantActive:   []string{first}, wantLastUsed: []string{first}, wantOrder: []string{first}, wantChanged: true,
		},
		"the value is stored already, written otherwise": {
			in: check.Input{
				SiteLicense: []quota.License{{ID: first, Value: json.RawMessage(`{"status":"active", "quota":{"ram":2.0,"cpu":1}}`)}},
				Rows:        []check.Row{license(first, one)},
			},
			wantStatuses: []check.Status{{ID: first, Status: check.Active}},
			wantActive:   []string{first}, wantLastUsed: []string{first}, wantOrder: []string{first},
		},
		"expires now": {
			in: check.Input{SiteLicense: attached(first), Rows: []check.Row{
				license(first, one, func(r *check.Row) { r.Expires = &now }),
			}},
			wantStatuses: []check.Status{{ID: first, Status: check.Expired, Reason: check.Expired}},
			wantLastUsed: []string{first}, wantOrder: []string{first}, wantChanged: true,
		},
		"expired before it activates": {
			in: check.Input{SiteLicense: attached(first), Rows: []check.Row{
				license(first, one, func(r *check.Row) { r.Activates, r.Expires = at(time.Hour), at(-time.Hour) }),
			}},
			wantStatuses: []check.Status{{ID: first, Status: check.Expired, Reason: check.Expired}},
			wantLastUsed: []string{first}, wantOrder: []string{first}, wantChanged: true,
		},
		"activates now, activates later, never activates": {
			in: check.Input{SiteLicense: attached(first, second, third), Rows: []check.Row{
				license(first, one, func(r *check.Row) { r.Activates = &now }),
				license(second, one, func(r *check.Row) { r.Activates = at(time.Nanosecond) }),
				license(third, one, func(r *check.Row) { r.Activates = nil }),
			}},
			wantStatuses: []check.Status{
				{ID: first, Status: check.Active},
				{ID: second, Status: check.Future, Reason: check.Future},
				{ID: third, Status: check.Future, Reason: check.Future},
			},
			wantActive: []string{first}, wantLastUsed: []string{first, second, third},
			wantOrder: []string{first, second, third}, wantChanged: true,
		},
		"seats: all taken, one left, no limit": {
			in: check.Input{
				SiteLicense: attached(first, second, third), SeatsOfOthers: func(string) int { return 2 },
				Rows: []check.Row{license(first, one, limit(2)), license(second, one, limit(3)), license(third, one, limit(0))},
			},
			wantStatuses: []check.Status{
				{ID: first, Status: check.Exhausted, Reason: check.Exhausted},
				{ID: second, Status: check.Active},
				{ID: third, Status: check.Active},
			},
			wantActive: []string{second, third}, wantLastUsed: []string{first, second, third},
			wantOrder: []string{first, second, third}, wantChanged: true,
		},
		"an id without a row, and a null value": {
			in: check.Input{
				SiteLicense: []quota.License{
					{ID: second, Value: json.RawMessage(`null`)},
					{ID: first, Value: json.RawMessage(`{"status":"active","quota":{"cpu":9}}`)},
				},
				Rows: []check.Row{license(second, one)},
			},
			wantStatuses: []check.Status{
				{ID: first, Status: check.Expired, Reason: check.Expired},
				{ID: second, Status: check.Active},
			},
			wantActive: []string{second}, wantLastUsed: []string{second}, wantOrder: []string{second, first}, wantChanged: true,
		},
		"the better group comes first, the other gives nothing": {
			in: check.Input{SiteLicense: attached(first, second), Rows: []check.Row{license(first, one), license(second, more)}},
			wantStatuses: []check.Status{
				{ID: first, Status: check.Ineffective, Reason: quota.ReasonHosting},
				{ID: second, Status: check.Active},
			},
			wantActive: []string{second}, wantLastUsed: []string{first, second}, wantOrder: []string{second, first}, wantChanged: true,
		},
		"machines beside each other, then the disk, then the rest": {
			in: check.Input{SiteLicense: attached(first, second, third), Rows: []check.Row{
				license(first, `{"dedicated_disk":{"size_gb":64,"speed":"ssd"}}`),
				license(second, `{"dedicated_vm":{"machine":"n2-standard-2"}}`),
				license(third, `{"dedicated_vm":{"machine":"n2-standard-4"}}`),
			}},
			wantStatuses: []check.Status{
				{ID: first, Status: check.Active},
				{ID: second, Status: check.Active},
				{ID: third, Status: check.Ineffective, Reason: quota.ReasonMachine},
			},
			wantActive: []string{first, second}, wantLastUsed: []string{first, second, third},
			wantOrder: []string{second, third, first}, wantChanged: true,
		},
		"beside a purchase": {
			in: check.Input{PayAsYouGo: true, SiteLicense: attached(first, second), Rows: []check.Row{
				license(first, one), license(second, `{"ext_rw":true}`),
			}},
			wantStatuses: []check.Status{
				{ID: first, Status: check.Ineffective, Reason: check.Ineffective},
				{ID: second, Status: check.Active},
			},
			wantActive: []string{second}, wantLastUsed: []string{first, second}, wantOrder: []string{first, second}, wantChanged: true,
		},
		"a boost stands on what a purchase made ineffective": {
			in: check.Input{PayAsYouGo: true, SiteLicense: attached(first, second), Rows: []check.Row{
				license(first, one), license(second, `{"boost":true,"ram":5,"patch":"[]"}`),
			}},
			wantStatuses: []check.Status{
				{ID: first, Status: check.Ineffective, Reason: check.Ineffective},
				{ID: second, Status: check.Active},
			},
			wantActive: []string{second}, wantLastUsed: []string{first, second}, wantOrder: []string{first, second}, wantChanged: true,
		},
		"broken rows that are not usable anyway": {
			in: check.Input{SiteLicense: attached(first, second), Rows: []check.Row{
				license(first, `[1]`, func(r *check.Row) { r.Expires = &now }),
				license(second, `{`, func(r *check.Row) { r.Activates = nil }),
			}},
			wantStatuses: []check.Status{
				{ID: first, Status: check.Expired, Reason: check.Expired},
				{ID: second, Status: check.Future, Reason: check.Future},
			},
			wantLastUsed: []string{first, second}, wantOrder: []string{first, second}, wantChanged: true,
		},
		"the id as its row has it, and in upper case": {
			in:           check.Input{SiteLicense: attached(upper, strings.ToLower(upper)), Rows: []check.Row{license(strings.ToLower(upper), one)}},
			wantStatuses: []check.Status{{ID: upper, Status: check.Expired, Reason: check.Expired}, {ID: strings.ToLower(upper), Status: check.Active}},
			wantActive:   []string{strings.ToLower(upper)}, wantLastUsed: []string{strings.ToLower(upper)},
			wantOrder: []string{strings.ToLower(upper), upper}, wantChanged: true,
		},
		"an id in upper case, and one that is no UUID": {
			in: check.Input{
				SiteLicense: attached(upper, noUUID), SeatsOfOthers: func(id string) int { return strings.Count(id, "A") },
				Rows: []check.Row{license(strings.ToLower(upper), one, limit(1)), license(noUUID, one)},
			},
			wantStatuses: []check.Status{
				{ID: upper, Status: check.Active}, {ID: noUUID, Status: check.Expired, Reason: check.Expired},
			},
			wantActive: []string{strings.ToLower(upper)}, wantLastUsed: []string{strings.ToLower(upper)},
			wantOrder: []string{upper, noUUID}, wantChanged: true,
		},
		"a bad patch": {
			in: check.Input{SiteLicense: attached(first, second), Rows: []check.Row{
				license(first, `{"patch":"[{]"}`),
				license(second, `{"patch":"nor this"}`, func(r *check.Row) { r.Expires = &now }),
			}},
			wantStatuses: []check.Status{
				{ID: first, Status: check.Active}, // It gives network.
				{ID: second, Status: check.Expired, Reason: check.Expired},
			},
			wantActive: []string{first}, wantLastUsed: []string{first, second}, wantOrder: []string{first, second},
			wantChanged: true, wantBad: []string{first},
		},
		"a bad patch of a license that changes nothing": {
			in: check.Input{SiteLicense: attached(first, second), Rows: []check.Row{
				license(first, one), license(second, `{"patch":"[{]"}`),
			}},
			wantStatuses: []check.Status{{ID: first, Status: check.Active}, {ID: second, Status: check.Ineffective}},
			wantActive:   []string{first}, wantLastUsed: []string{first, second}, wantOrder: []string{first, second},
			wantChanged: true, wantBad: []string{second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.in.Now = now
			got, err := check.Decide(test.in)
			if err != nil {
				t.Fatal(err)
			}
			var bad []string
			for _, patch := range got.BadPatches {
				bad = append(bad, patch.License)
			}
			for what, diff := range map[string]string{
				"statuses":    cmp.Diff(test.wantStatuses, got.Statuses),
				"active":      cmp.Diff(test.wantActive, got.Active),
				"last used":   cmp.Diff(test.wantLastUsed, got.LastUsed),
				"order":       cmp.Diff(test.wantOrder, got.Order),
				"changed":     cmp.Diff(test.wantChanged, got.Changed),
				"bad patches": cmp.Diff(test.wantBad, bad),
			} {
				if diff != "" {
					t.Errorf("%s (-want +got):\n%s", what, diff)
				}
			}
		})
	}
}

func TestDecideRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		in        check.Input
		want      error
		wantError string
	}{
		"unknown machine": {
			in:        check.Input{SiteLicense: attached(first), Rows: []check.Row{license(first, `{"dedicated_vm":{"machine":"cray"}}`)}},
			want:      quota.ErrUnknownMachine,
			wantError: `license ` + first + `: quota.dedicated_vm.machine "cray": unknown VM machine`,
		},
		"amount as text": {
			in:        check.Input{SiteLicense: attached(first), Rows: []check.Row{license(first, `{"ram":"3"}`)}},
			want:      quota.ErrInvalid,
			wantError: `license ` + first + `: quota.ram is not a number: write it without quotes`,
		},
		"quota that is a list": {
			in:        check.Input{SiteLicense: attached(first), Rows: []check.Row{license(first, `[1]`)}},
			want:      quota.ErrInvalid,
			wantError: `license ` + first + `: quota is neither an object nor null`,
		},
		"too many": {
			in:        check.Input{SiteLicense: make([]quota.License, check.MaxLicenses+1)},
			want:      quota.ErrInvalid,
			wantError: `site_license has 1001 licenses: take some away, 1000 are allowed`,
		},
		"settings that are no JSON": {
			in:        check.Input{Settings: json.RawMessage(`{`)},
			want:      quota.ErrInvalid,
			wantError: `settings is not JSON: parse JSON: unexpected end of JSON input`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.in.Now = now
			_, err := check.Decide(test.in)
			if !errors.Is(err, test.want) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			if diff := cmp.Diff(test.wantError, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

// What is stored has the row's own text, for nothing in it may change on its way.
func TestWrittenValue(t *testing.T) {
	t.Parallel()
	row := license(first, `{"cpu": 2, "note": 12345678901234567890, "patch": "[]"}`, func(r *check.Row) {
		r.Upgrades = json.RawMessage(`{"cores":1, "memory":0, "network":false, "title":"", "status":"expired", "x":null, "e":0e5}`)
	})
	got, err := check.Decide(check.Input{Now: now, SiteLicense: attached(first), Rows: []check.Row{row}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"cores":1,"quota":{"cpu":2,"note":12345678901234567890,"patch":"[]"},"status":"active"}`
	if diff := cmp.Diff(want, string(got.SiteLicense[0].Value)); diff != "" {
		t.Errorf("value (-want +got):\n%s", diff)
	}
}

func TestRunQuota(t *testing.T) {
	t.Parallel()
	in := check.Input{
		Settings: json.RawMessage(`{"memory":2000}`), Users: json.RawMessage(`{"u":{"upgrades":{"memory":500}}}`),
	}
	stored := []quota.License{{ID: first, Value: json.RawMessage(`{"quota":{"ram":9},"status":"active"}`)}}
	for name, test := range map[string]struct {
		purchase   bool
		wantMemory float64
	}{
		"licenses and users": {wantMemory: 9000},
		"purchase alone":     {purchase: true, wantMemory: 3000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := in
			in.PayAsYouGo = test.purchase
			got, err := check.RunQuota(in, stored, json.RawMessage(`{"quota":{"memory":3000}}`))
			if err != nil {
				t.Fatal(err)
			}
			if got.Quota.MemoryLimit != test.wantMemory {
				t.Errorf("memory %v, want %v", got.Quota.MemoryLimit, test.wantMemory)
			}
		})
	}
}

// What is said of a license that is not used is from its row: the value that is stored in
// its place has nothing of it.
func TestRunQuotaExplains(t *testing.T) {
	t.Parallel()
	const member = "not always running, member, idle_timeout short"
	for name, test := range map[string]struct {
		rows     []check.Row
		purchase bool
		want     []quota.Ignored
	}{
		"no more than the others": {
			rows: []check.Row{license(first, `{"ram":30}`), license(second, `{"ram":2}`)},
			want: []quota.Ignored{{License: second, Why: "ineffective: gives nothing beyond the others"}},
		},
		"another hosting type": {
			rows: []check.Row{license(first, `{"ram":30,"idle_timeout":"day","member":false}`), license(second, `{"ram":2,"member":true}`)},
			want: []quota.Ignored{{License: first, Why: "ineffective: of another hosting type (not always running, not member, idle_timeout day) " +
				"than the one in use (" + member + ")"}},
		},
		"a boost of another one": {
			rows: []check.Row{license(first, `{"ram":30,"boost":true}`), license(second, `{"ram":2,"member":true}`)},
			want: []quota.Ignored{{License: first, Why: "ineffective: of another hosting type (not always running, not member, idle_timeout short) " +
				"than the one in use (" + member + ")"}},
		},
		"a boost alone": {
			rows: []check.Row{license(first, `{"ram":30,"boost":true}`)},
			want: []quota.Ignored{{License: first, Why: "ineffective: a boost adds to a license of its hosting type and idle class, and there is none"}},
		},
		"a purchase": {
			rows: []check.Row{license(first, `{"ram":3}`), license(second, `{"ram":3,"ext_rw":true}`)}, purchase: true,
			want: []quota.Ignored{
				{License: first, Why: "a purchase runs: licenses are not used"},
				{License: second, Why: "a purchase runs: licenses are not used"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := check.Input{Now: now, Rows: test.rows, SiteLicense: attached(first, second), PayAsYouGo: test.purchase}
			in.SiteLicense = in.SiteLicense[:len(test.rows)]
			decided, err := check.Decide(in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := check.RunQuota(in, decided.SiteLicense, json.RawMessage(`{"quota":{"memory":3000}}`))
			if err != nil {
				t.Fatal(err)
			}
			var whole []quota.Ignored
			for _, ignored := range got.Ignored {
				if ignored.Field == "" {
					whole = append(whole, ignored)
				}
			}
			if diff := cmp.Diff(test.want, whole); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestLicenses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text, wantError string
		want            []quota.License
	}{
		"unset":     {},
		"null":      {text: "null"},
		"no object": {text: "[]"},
		"no JSON":   {text: "{", wantError: "read site_license: parse JSON: unexpected end of JSON input"},
		"sorted as stored, the last of two": {
			text: ` {"bb":{},"c":null,"aa":1,"bb":{"x":2}} `,
			want: []quota.License{
				{ID: "c", Value: json.RawMessage(`null`)},
				{ID: "aa", Value: json.RawMessage(`1`)},
				{ID: "bb", Value: json.RawMessage(`{"x":2}`)},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := check.Licenses(json.RawMessage(test.text))
			text := ""
			if err != nil {
				text = err.Error()
			}
			if diff := cmp.Diff(test.wantError, text); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("licenses (-want +got):\n%s", diff)
			}
		})
	}
}
