package quota_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/quota"
)

// vector is one recorded computation.
type vector struct {
	ID        string            `json:"id"`
	Settings  json.RawMessage   `json:"settings"`
	Users     json.RawMessage   `json:"users"`
	List      []json.RawMessage `json:"site_licenses_list"`
	Site      json.RawMessage   `json:"site_settings"`
	Purchase  json.RawMessage   `json:"pay_as_you_go"`
	Quota     json.RawMessage   `json:"want_quota"`
	Reasons   map[string]string `json:"want_reasons"`
	WantError string            `json:"want_error"`
}

func (v vector) input(tb testing.TB) quota.Input {
	tb.Helper()
	in := quota.Input{Settings: v.Settings, Users: v.Users, Site: v.Site, PayAsYouGo: v.Purchase}
	for _, pair := range v.List {
		var license quota.License
		if err := json.Unmarshal(pair, &[]any{&license.ID, &license.Value}); err != nil {
			tb.Fatal(err)
		}
		in.Licenses = append(in.Licenses, license)
	}
	return in
}

// vectors returns the recorded computations.
func vectors(tb testing.TB) []vector {
	tb.Helper()
	file, err := os.Open("testdata/quota.jsonl.gz")
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	text, err := gzip.NewReader(file)
	if err != nil {
		tb.Fatal(err)
	}
	var all []vector
	for lines := json.NewDecoder(bufio.NewReader(text)); lines.More(); {
		var v vector
		if err := lines.Decode(&v); err != nil {
			tb.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

func TestVectors(t *testing.T) {
	t.Parallel()
	all := vectors(t)
	if len(all) != 1841 {
		t.Fatalf("%d vectors, want 1841", len(all))
	}
	for _, v := range all {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			result, err := quota.Compute(v.input(t))
			if v.WantError != "" {
				if !errors.Is(err, quota.ErrUnknownMachine) {
					t.Errorf("error %v, want %v", err, quota.ErrUnknownMachine)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(result.Quota)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(value(t, v.Quota), value(t, got)); diff != "" {
				t.Errorf("quota (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(v.Reasons, notNil(result.Reasons)); diff != "" {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
		})
	}
}

func value(tb testing.TB, text []byte) any {
	tb.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		tb.Fatalf("%v in %s", err, text)
	}
	return v
}

func notNil(reasons map[string]string) map[string]string {
	if reasons == nil {
		return map[string]string{}
	}
	return reasons
}
