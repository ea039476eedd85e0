package check

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"berth/pkg/license/internal/rawjson"
	"berth/pkg/license/quota"
)

var update = flag.Bool("update", false, "write our outcomes anew")

// start is one recorded start.
type start struct {
	ID       string          `json:"id"`
	Now      time.Time       `json:"now"`
	Purchase bool            `json:"paygo_active"`
	Site     json.RawMessage `json:"site_settings"`
	Rows     []struct {
		ID        string          `json:"id"`
		Activates *time.Time      `json:"activates"`
		Expires   *time.Time      `json:"expires"`
		Upgrades  json.RawMessage `json:"upgrades"`
		Quota     json.RawMessage `json:"quota"`
		RunLimit  *int64          `json:"run_limit"`
	} `json:"licenses"`
	Project struct {
		Settings    json.RawMessage   `json:"settings"`
		Users       json.RawMessage   `json:"users"`
		SiteLicense []json.RawMessage `json:"site_license_list"`
	} `json:"project"`
	Others []struct {
		State       string `json:"state"`
		SiteLicense map[string]struct {
			Status string `json:"status"`
		} `json:"site_license"`
	} `json:"other_projects"`
	Seats map[string]int `json:"seats_in_use"`

	WantError string            `json:"want_error"`
	Want      []json.RawMessage `json:"want_site_license_list"`
	Quota     json.RawMessage   `json:"want_run_quota"`
	LastUsed  []string          `json:"want_last_used"`
	Order     []string          `json:"want_written_order"`
}

// starts returns the recorded starts.
func starts(tb testing.TB) []start {
	tb.Helper()
	file, err := os.Open("testdata/license_check.jsonl.gz")
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	text, err := gzip.NewReader(file)
	if err != nil {
		tb.Fatal(err)
	}
	var all []start
	for lines := json.NewDecoder(bufio.NewReader(text)); lines.More(); {
		var s start
		if err := lines.Decode(&s); err != nil {
			tb.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func licenses(tb testing.TB, pairs []json.RawMessage) []quota.License {
	tb.Helper()
	if pairs == nil {
		return nil
	}
	list := []quota.License{}
	for _, pair := range pairs {
		var license quota.License
		if err := json.Unmarshal(pair, &[]any{&license.ID, &license.Value}); err != nil {
			tb.Fatal(err)
		}
		list = append(list, license)
	}
	return list
}

func (s start) input(tb testing.TB) Input {
	tb.Helper()
	in := Input{
		Now: s.Now, Settings: s.Project.Settings, Users: s.Project.Users, Site: s.Site,
		SiteLicense: licenses(tb, s.Project.SiteLicense), PayAsYouGo: s.Purchase,
		SeatsOfOthers: func(license string) int {
			seats := 0
			for _, other := range s.Others {
				if (other.State == "running" || other.State == "starting") && other.SiteLicense[license].Status == Active {
					seats++
				}
			}
			return seats
		},
	}
	for _, r := range s.Rows {
		in.Rows = append(in.Rows, Row(r))
	}
	return in
}

// outcome is what is stored after a start.
type outcome struct {
	SiteLicense any      `json:"site_license"`
	Quota       any      `json:"run_quota"`
	LastUsed    []string `json:"last_used"`
	Error       string   `json:"error,omitempty"`
}

func (s start) wanted(tb testing.TB) outcome {
	tb.Helper()
	if s.WantError != "" {
		return outcome{Error: s.WantError}
	}
	return outcome{SiteLicense: members(tb, licenses(tb, s.Want)), Quota: decoded(tb, s.Quota), LastUsed: s.LastUsed}
}

func members(tb testing.TB, list []quota.License) any {
	tb.Helper()
	if list == nil {
		return nil
	}
	values := map[string]any{}
	for _, license := range list {
		values[license.ID] = decoded(tb, license.Value)
	}
	return values
}

func decoded(tb testing.TB, text []byte) any {
	tb.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		tb.Fatalf("%v in %s", err, text)
	}
	return v
}

// The rules by which we differ from what was recorded.
const (
	// A seat is held by the other projects alone that start or run with the
	// license as active.
	ruleSeats = "seats"
	// A run limit of 0 is none.
	ruleZero = "run limit 0"
	// An id without a row is expired.
	ruleRow = "no row"
	// The examination skips no dedicated machine or disk beside another.
	ruleSkip = "skips nothing"
)

// run carries out a start by our rules, but for those that are undone.
func (s start) run(tb testing.TB, undone ...string) outcome {
	tb.Helper()
	in := s.input(tb)
	if slices.Contains(undone, ruleSeats) {
		in.SeatsOfOthers = func(license string) int { return s.Seats[license] }
	}
	for i, row := range in.Rows {
		if slices.Contains(undone, ruleZero) && row.RunLimit != nil && *row.RunLimit == 0 {
			never := int64(-1)
			in.Rows[i].RunLimit = &never
		}
	}
	stored := inStoredOrder(in.SiteLicense)
	rows := inExaminationOrder(stored, in.Rows)
	if slices.Contains(undone, ruleSkip) && s.Order != nil {
		slices.SortFunc(rows, func(a, b *row) int {
			return cmp.Compare(slices.Index(s.Order, a.ID), slices.Index(s.Order, b.ID))
		})
	}
	result, err := decide(in, stored, rows)
	if errors.Is(err, quota.ErrUnknownMachine) {
		return outcome{Error: "unknown_vm_machine"}
	}
	if err != nil {
		tb.Fatal(err)
	}
	if slices.Contains(undone, ruleRow) {
		for i, license := range stored {
			if !slices.Contains(result.LastUsed, license.ID) {
				result.SiteLicense[i] = license
			}
		}
	}
	// What was recorded leaves the purchase out of the quota, as it was not known:
	// it is that of the stored licenses also where a purchase runs. It is all that
	// "ignores the purchase" can mean: with the purchase's effect on the statuses
	// left out, or with the quota made of the settings alone, fewer starts agree.
	in.PayAsYouGo = false
	run, err := RunQuota(in, result.SiteLicense, nil)
	if err != nil {
		tb.Fatal(err)
	}
	last := result.LastUsed
	if last == nil {
		last = []string{}
	}
	return outcome{SiteLicense: members(tb, result.SiteLicense), Quota: decoded(tb, run.Quota.AppendJSON(nil)), LastUsed: last}
}

// explained returns the fewest rules that make a start differ, by undoing each of
// them alone, then two, and so on; nil if it does not differ.
func (s start) explained(tb testing.TB) (rules []string, found bool) {
	tb.Helper()
	all := []string{ruleSeats, ruleZero, ruleRow, ruleSkip}
	sets := make([][]string, 1<<len(all))
	for set := range sets {
		for i, rule := range all {
			if set&(1<<i) != 0 {
				sets[set] = append(sets[set], rule)
			}
		}
	}
	slices.SortStableFunc(sets, func(a, b []string) int { return cmp.Compare(len(a), len(b)) })
	for _, set := range sets {
		if gocmp.Equal(s.wanted(tb), s.run(tb, set...)) {
			return set, true
		}
	}
	return nil, false
}

func TestVectors(t *testing.T) {
	t.Parallel()
	all := starts(t)
	if len(all) != 280 {
		t.Fatalf("%d starts, want 280", len(all))
	}
	got := map[string]string{}
	ours := map[string]outcome{}
	for _, s := range all {
		rules, found := s.explained(t)
		if !found {
			t.Errorf("%s differs by no rule of ours (-want +got):\n%s", s.ID, gocmp.Diff(s.wanted(t), s.run(t)))
		}
		if len(rules) > 0 {
			got[s.ID], ours[s.ID] = strings.Join(rules, ", "), s.run(t)
		}
	}
	if diff := gocmp.Diff(differing, got); diff != "" {
		t.Errorf("starts that differ, with the rules that make them (-want +got):\n%s", diff)
	}

	const golden = "testdata/ours.json"
	text, err := json.MarshalIndent(ours, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(golden, append(text, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(decoded(t, want), decoded(t, text)); diff != "" {
		t.Errorf("our outcomes (-want +got):\n%s", diff)
	}
	if !rawjson.Equal(want, text) {
		t.Error("our outcomes are equal but for their numbers")
	}
}
