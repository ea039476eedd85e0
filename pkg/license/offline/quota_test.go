package offline_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/offline"
)

// recorded returns the lines of a file of vectors.
func recorded(tb testing.TB, path string) []byte {
	tb.Helper()
	file, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	text, err := gzip.NewReader(file)
	if err != nil {
		tb.Fatal(err)
	}
	lines, err := io.ReadAll(text)
	if err != nil {
		tb.Fatal(err)
	}
	return lines
}

func TestComputeQuotas(t *testing.T) {
	t.Parallel()
	lines := recorded(t, "../quota/testdata/quota.jsonl.gz")
	out := new(bytes.Buffer)
	if err := offline.ComputeQuotas(t.Context(), bytes.NewReader(lines), out); err != nil {
		t.Fatal(err)
	}
	answers := json.NewDecoder(out)
	for cases := json.NewDecoder(bytes.NewReader(lines)); cases.More(); {
		var c struct {
			ID      any `json:"id"`
			Quota   any `json:"want_quota"`
			Reasons any `json:"want_reasons"`
			Error   any `json:"want_error"`
		}
		if err := cases.Decode(&c); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{"id": c.ID, "quota": c.Quota, "reasons": c.Reasons}
		if c.Error != nil {
			want = map[string]any{"id": c.ID, "error": c.Error}
		}
		var got map[string]any
		if err := answers.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.ID, diff)
		}
	}
	if answers.More() {
		t.Error("more answers than cases")
	}
}

func TestCheckQuotas(t *testing.T) {
	t.Parallel()
	lines := recorded(t, "../check/testdata/license_check.jsonl.gz")
	text, err := os.ReadFile("../check/testdata/ours.json")
	if err != nil {
		t.Fatal(err)
	}
	// Where our rules make another outcome, it is kept beside those of the check.
	var ours map[string]struct {
		SiteLicense map[string]any `json:"site_license"`
		Quota       any            `json:"run_quota"`
		LastUsed    any            `json:"last_used"`
	}
	if err := json.Unmarshal(text, &ours); err != nil {
		t.Fatal(err)
	}
	out := new(bytes.Buffer)
	if err := offline.CheckQuotas(t.Context(), bytes.NewReader(lines), out); err != nil {
		t.Fatal(err)
	}
	answers := json.NewDecoder(out)
	for cases := json.NewDecoder(bytes.NewReader(lines)); cases.More(); {
		var c struct {
			ID          string `json:"id"`
			SiteLicense []any  `json:"want_site_license_list"`
			Quota       any    `json:"want_run_quota"`
			LastUsed    any    `json:"want_last_used"`
			Error       any    `json:"want_error"`
		}
		if err := cases.Decode(&c); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{"id": c.ID, "site_license_list": any(c.SiteLicense), "run_quota": c.Quota, "last_used": c.LastUsed}
		switch our, differs := ours[c.ID]; {
		case c.Error != nil:
			want = map[string]any{"id": c.ID, "error": c.Error}
		case c.SiteLicense == nil:
			want["site_license_list"] = nil
		case differs:
			want["run_quota"], want["last_used"] = our.Quota, our.LastUsed
			for i, pair := range c.SiteLicense {
				id := pair.([]any)[0].(string)
				c.SiteLicense[i] = []any{id, our.SiteLicense[id]}
			}
		}
		var got map[string]any
		if err := answers.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.ID, diff)
		}
	}
	if answers.More() {
		t.Error("more answers than cases")
	}
}

func TestMalformedCases(t *testing.T) {
	t.Parallel()
	const quota = `{"network":false,"member_host":false,"privileged":false,"always_running":false,"memory_request":200,` +
		`"memory_limit":1000,"cpu_request":0.02,"cpu_limit":1,"disk_quota":3000,"idle_timeout":1800,` +
		`"dedicated_vm":false,"dedicated_disks":[],"gpu":false}`
	const now = `"now":"2026-03-01T12:00:00Z"`
	const misnamedLicenses = `{"id":null,"error":"licenses is not read: write it as site_licenses_list, a list of [id, value]"}`
	for name, test := range map[string]struct{ line, wantCompute, wantCheck string }{
		"nothing": {``, `{"id":null,"error":"the line is not a JSON object"}`, `{"id":null,"error":"the line is not a JSON object"}`},
		"no JSON": {
			`{"id":1,`, `{"id":null,"error":"parse JSON: unexpected end of JSON input"}`,
			`{"id":null,"error":"parse JSON: unexpected end of JSON input"}`,
		},
		"an id alone": {
			`{"id": {"x" : 12345678901234567890} }`, `{"id":{"x":12345678901234567890},"quota":` + quota + `,"reasons":{}}`,
			`{"id":{"x":12345678901234567890},"error":"now is missing: give the time as 2006-01-02T15:04:05Z"}`,
		},
		"no id": {
			`{` + now + `}`, `{"id":null,"quota":` + quota + `,"reasons":{}}`,
			`{"id":null,"site_license_list":null,"run_quota":` + quota + `,"last_used":[]}`,
		},
		"licenses that are no pairs": {
			`{"id":"a",` + now + `,"site_licenses_list":[["x"]],"project":{"site_license_list":{"x":{}}}}`,
			`{"id":"a","error":"site_licenses_list is not a list of [id, value]"}`,
			`{"id":"a","error":"project.site_license_list is not a list of [id, value]"}`,
		},
		"wrong types": {
			`{"id":"a",` + now + `,"settings":[],"project":{"settings":[]}}`,
			`{"id":"a","error":"settings is neither an object nor null"}`, `{"id":"a","error":"settings is neither an object nor null"}`,
		},
		"the last of two values, at the first place": {
			`{"id":"a",` + now + `,"site_licenses_list":[["x",{"quota":{"ram":"3"}}],["x",{}]],"project":{"site_license_list":[["x",{}],["x",null]]}}`,
			`{"id":"a","quota":` + quota + `,"reasons":{}}`,
			`{"id":"a","site_license_list":[["x",{"status":"expired","reason":"expired"}]],"run_quota":` + quota + `,"last_used":[]}`,
		},
		"half a character": {
			`{"id":"a",` + now + `,"site_licenses_list":[["\ud800",{"quota":{"ram":3}}],["\ud801",{}]]}`,
			`{"id":"a","error":"the line has half a character (a lone surrogate): write the whole one"}`,
			`{"id":"a","error":"the line has half a character (a lone surrogate): write the whole one"}`,
		},
		"half a character in a text of a text": {
			`{"id":"a",` + now + `,"settings":{"x":"\\ud800"},"project":{"settings":{"x":"\\ud800"}}}`, `{"id":"a","quota":` + quota + `,"reasons":{}}`,
			`{"id":"a","site_license_list":null,"run_quota":` + quota + `,"last_used":[]}`,
		},
		"the last of two lists": {
			`{"id":"a",` + now + `,"site_licenses_list":5,"site_licenses_list":null,"licenses":5,"licenses":null,"now":"x",` + now + `}`,
			`{"id":"a","quota":` + quota + `,"reasons":{}}`,
			`{"id":"a","site_license_list":null,"run_quota":` + quota + `,"last_used":[]}`,
		},
		"names in another case": {
			`{"id":"a","ID":"b",` + now + `,"NOW":7,"Licenses":7,"SETTINGS":7,"project":{"Settings":7}}`,
			`{"id":"a","quota":` + quota + `,"reasons":{}}`,
			`{"id":"a","site_license_list":null,"run_quota":` + quota + `,"last_used":[]}`,
		},
		"a time": {`{"now":"yesterday"}`, `{"id":null,"quota":` + quota + `,"reasons":{}}`, `{"id":null,"error":"now is not a time: give it as 2006-01-02T15:04:05Z"}`},
		"a purchase": {
			`{` + now + `,"paygo_active":1}`, `{"id":null,"quota":` + quota + `,"reasons":{}}`, `{"id":null,"error":"paygo_active is neither true nor false"}`,
		},
		"a row": {`{` + now + `,"licenses":[null,5]}`, misnamedLicenses, `{"id":null,"error":"licenses[1] is neither an object nor null"}`},
		"a row's id": {
			`{` + now + `,"licenses":[{"id":5}]}`, misnamedLicenses, `{"id":null,"error":"licenses[0].id is not a string"}`,
		},
		"a row's times": {
			`{` + now + `,"licenses":[{"activates":true}]}`, misnamedLicenses,
			`{"id":null,"error":"licenses[0].activates is not a time: give it as 2006-01-02T15:04:05Z"}`,
		},
		"a row's seats": {
			`{` + now + `,"licenses":[{"expires":null},{"run_limit":"5"}]}`, misnamedLicenses,
			`{"id":null,"error":"licenses[1].run_limit is not a number: write it without quotes"}`,
		},
		"a project": {`{` + now + `,"project":[]}`, `{"id":null,"quota":` + quota + `,"reasons":{}}`, `{"id":null,"error":"project is neither an object nor null"}`},
		"other projects": {
			`{` + now + `,"other_projects":{}}`, `{"id":null,"quota":` + quota + `,"reasons":{}}`, `{"id":null,"error":"other_projects is neither a list nor null"}`,
		},
		"odd other projects": {
			`{"id":"a",` + now + `,"other_projects":[{"state":3,"site_license":[]},{"state":"running","site_license":{"x":null,"y":{"status":1}}}]}`,
			`{"id":"a","quota":` + quota + `,"reasons":{}}`,
			`{"id":"a","site_license_list":null,"run_quota":` + quota + `,"last_used":[]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := new(strings.Builder)
			if err := offline.ComputeQuotas(t.Context(), strings.NewReader(test.line+"\n"), out); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.wantCompute+"\n", out.String()); diff != "" {
				t.Errorf("compute (-want +got):\n%s", diff)
			}
			out.Reset()
			if err := offline.CheckQuotas(t.Context(), strings.NewReader(test.line+"\n"), out); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.wantCheck+"\n", out.String()); diff != "" {
				t.Errorf("check (-want +got):\n%s", diff)
			}
		})
	}
}

// Limits of seats are numbers of any form; ids are those of a database, which knows no case.
func TestCheckSeats(t *testing.T) {
	t.Parallel()
	const id, spelled = "aaaaaaaa-0000-4000-8000-000000000000", "AAAAAAAA-0000-4000-8000-000000000000"
	const active = `{"quota":{"ram":5},"status":"active"}`
	for name, test := range map[string]struct{ attached, limit, want string }{
		"a whole number":      {id, `2`, active},
		"with a fraction":     {id, `2.0`, active},
		"taken":               {id, `1.0`, `{"status":"exhausted","reason":"exhausted"}`},
		"a part of a seat":    {id, `1.5`, active},
		"less than none":      {id, `-0.5`, `{"status":"exhausted","reason":"exhausted"}`},
		"any number":          {id, `0.0`, active},
		"none":                {id, `null`, active},
		"far too many":        {id, `1e300`, active},
		"in upper case":       {spelled, `2`, active},
		"taken, upper case":   {spelled, `1`, `{"status":"exhausted","reason":"exhausted"}`},
		"what is no UUID":     {"aaaaaaaa-0000-4000-8000-00000000000x", `2`, `{"status":"expired","reason":"expired"}`},
		"what is not so long": {"aaaa", `2`, `{"status":"expired","reason":"expired"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row := id
			if !strings.EqualFold(test.attached, id) {
				row = test.attached
			}
			line := `{"id":1,"now":"2026-01-02T00:00:00Z","licenses":[{"id":"` + row + `","activates":"2026-01-01T00:00:00Z","quota":{"ram":5},"run_limit":` + test.limit +
				`}],"project":{"site_license_list":[["` + test.attached + `",{}]]},"other_projects":[{"state":"running","site_license":{"` + spelled + `":{"status":"active"}}}]}`
			out := new(strings.Builder)
			if err := offline.CheckQuotas(t.Context(), strings.NewReader(line+"\n"), out); err != nil {
				t.Fatal(err)
			}
			if want := `{"id":1,"site_license_list":[["` + test.attached + `",` + test.want + `]]`; !strings.HasPrefix(out.String(), want) {
				t.Errorf("%s, want %s", out, want)
			}
		})
	}
}

// Names of members are exact, of two of one name the last counts, and a project has one seat of a license.
func TestCheckNames(t *testing.T) {
	t.Parallel()
	const id, spelled = "aaaaaaaa-0000-4000-8000-000000000000", "AAAAAAAA-0000-4000-8000-000000000000"
	const active, exhausted = `{"quota":{"ram":5},"status":"active"}`, `{"status":"exhausted","reason":"exhausted"}`
	other := func(licenses string) string { return `{"state":"running","site_license":{` + licenses + `}}` }
	for name, test := range map[string]struct{ row, others, want string }{
		"a quota in another case":        {`"quota":{"ram":5},"QUOTA":null,"Run_Limit":1`, ``, active},
		"the last quota":                 {`"quota":{},"quota":{"ram":5}`, ``, active},
		"no quota at the end":            {`"quota":{"ram":5},"quota":null`, ``, `{"status":"ineffective"}`},
		"active twice":                   {`"quota":{"ram":5},"run_limit":2`, other(`"` + id + `":{"status":"active","status":"active"}`), active},
		"active, then expired":           {`"quota":{"ram":5},"run_limit":1`, other(`"` + id + `":{"status":"active","status":"expired"}`), active},
		"expired, then active":           {`"quota":{"ram":5},"run_limit":1`, other(`"` + id + `":{"status":"expired","status":"active"}`), exhausted},
		"an id twice":                    {`"quota":{"ram":5},"run_limit":2`, other(`"` + id + `":{"status":"active"},"` + id + `":{"status":"active"}`), active},
		"an id in two cases":             {`"quota":{"ram":5},"run_limit":2`, other(`"` + id + `":{"status":"active"},"` + spelled + `":{"status":"active"}`), active},
		"the last value of an id":        {`"quota":{"ram":5},"run_limit":1`, other(`"` + id + `":{"status":"active"},"` + id + `":{}`), active},
		"two projects":                   {`"quota":{"ram":5},"run_limit":2`, other(`"`+id+`":{"status":"active"}`) + `,` + other(`"`+spelled+`":{"status":"active"}`), exhausted},
		"a status in another case":       {`"quota":{"ram":5},"run_limit":1`, other(`"` + id + `":{"Status":"active"}`), active},
		"a state in another case":        {`"quota":{"ram":5},"run_limit":1`, `{"State":"running","site_license":{"` + id + `":{"status":"active"}}}`, active},
		"the state at the end":           {`"quota":{"ram":5},"run_limit":1`, `{"state":"running","state":"opened","site_license":{"` + id + `":{"status":"active"}}}`, active},
		"a null among the projects":      {`"quota":{"ram":5},"run_limit":1`, `null`, active},
		"activated by the last instance": {`"quota":{"ram":5},"activates":null,"activates":"2026-01-01T00:00:00Z"`, ``, active},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line := `{"id":1,"now":"2026-01-02T00:00:00Z","licenses":[{"id":"` + id + `","activates":"2026-01-01T00:00:00Z",` + test.row +
				`}],"project":{"site_license_list":[["` + id + `",{}]]},"other_projects":[` + test.others + `]}`
			out := new(strings.Builder)
			if err := offline.CheckQuotas(t.Context(), strings.NewReader(line+"\n"), out); err != nil {
				t.Fatal(err)
			}
			if want := `{"id":1,"site_license_list":[["` + id + `",` + test.want + `]]`; !strings.HasPrefix(out.String(), want) {
				t.Errorf("%s, want %s", out, want)
			}
		})
	}
}

// A member that is likely to be meant for one that is absent is refused; any other is not.
func TestMisnamedMembers(t *testing.T) {
	t.Parallel()
	const now = `,"now":"2026-03-01T12:00:00Z"`
	for name, test := range map[string]struct {
		answer     func(context.Context, io.Reader, io.Writer) error
		line, want string // The error, empty for none.
	}{
		"the name in the text": {
			offline.ComputeQuotas, `{"id":12,"site_licenses":{"a":{"quota":{"cpu":2}}}}`,
			"site_licenses is not read: write it as site_licenses_list, a list of [id, value]",
		},
		"the name of the check":    {offline.ComputeQuotas, `{"id":12,"site_license_list":[]}`, "site_license_list is not read: write it as site_licenses_list"},
		"the column":               {offline.ComputeQuotas, `{"id":12,"site_license":{}}`, "site_license is not read: write it as site_licenses_list, a list of [id, value]"},
		"a start":                  {offline.ComputeQuotas, `{"id":12,"licenses":[],"project":{}}`, "licenses is not read: write it as site_licenses_list, a list of [id, value]"},
		"the table of settings":    {offline.ComputeQuotas, `{"id":12,"server_settings":{"default_quotas":{}}}`, "server_settings is not read: write it as site_settings"},
		"the column of a purchase": {offline.ComputeQuotas, `{"id":12,"pay_as_you_go_quotas":{}}`, "pay_as_you_go_quotas is not read: write it as pay_as_you_go, an object with a quota"},
		"beside the list":          {offline.ComputeQuotas, `{"id":12,"site_licenses":{"a":{}},"site_licenses_list":[],"site_settings":null,"server_settings":{}}`, ""},
		"beside no list":           {offline.ComputeQuotas, `{"id":12,"site_licenses_list":null,"site_licenses":{"a":{}}}`, ""},
		"null":                     {offline.ComputeQuotas, `{"id":12,"site_licenses":null}`, ""},
		"the last of two":          {offline.ComputeQuotas, `{"id":12,"site_licenses":{},"site_licenses":null}`, ""},
		"an escaped name":          {offline.ComputeQuotas, `{"id":12,"site_licen\u0073es":{}}`, "site_licenses is not read: write it as site_licenses_list, a list of [id, value]"},
		"others":                   {offline.ComputeQuotas, `{"id":12,"name":"x","tags":[],"project":{},"want_quota":{},"site":{"site_licenses":{}}}`, ""},

		"the table of licenses":          {offline.CheckQuotas, `{"id":12,"site_licenses":[]` + now + `}`, "site_licenses is not read: write it as licenses, a list of rows"},
		"a start's table of settings":    {offline.CheckQuotas, `{"id":12,"server_settings":{}` + now + `}`, "server_settings is not read: write it as site_settings"},
		"a purchase":                     {offline.CheckQuotas, `{"id":12,"pay_as_you_go":{}` + now + `}`, "pay_as_you_go is not read: write it as paygo_active, true or false"},
		"settings beside the project":    {offline.CheckQuotas, `{"id":12,"settings":{}` + now + `}`, "settings is not read: write it as project.settings"},
		"users beside the project":       {offline.CheckQuotas, `{"id":12,"users":{},"project":{"settings":{}}` + now + `}`, "users is not read: write it as project.users"},
		"licenses beside the project":    {offline.CheckQuotas, `{"id":12,"site_license_list":[]` + now + `}`, "site_license_list is not read: write it as project.site_license_list"},
		"a project's column":             {offline.CheckQuotas, `{"id":12,"project":{"site_license":{"a":{}}}` + now + `}`, "project.site_license is not read: write it as site_license_list, a list of [id, value]"},
		"the list of the calculation":    {offline.CheckQuotas, `{"id":12,"project":{"site_licenses_list":[]}` + now + `}`, "project.site_licenses_list is not read: write it as site_license_list"},
		"another project's list":         {offline.CheckQuotas, `{"id":12,"other_projects":[{},{"site_license_list":[]}]` + now + `}`, "other_projects[1].site_license_list is not read: write it as site_license, an object of values by their ids"},
		"a start's, beside what is read": {offline.CheckQuotas, `{"id":12,"users":{},"project":{"users":null,"site_license_list":[],"site_license":{}}` + now + `}`, ""},
		"a start's others":               {offline.CheckQuotas, `{"id":12,"tags":[],"seats_in_use":{},"want_error":1,"project":{"state":"x","title":"y"}` + now + `}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := new(bytes.Buffer)
			if err := test.answer(t.Context(), strings.NewReader(test.line), out); err != nil {
				t.Fatal(err)
			}
			var got struct {
				ID    int    `json:"id"`
				Error string `json:"error"`
			}
			if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.ID != 12 {
				t.Fatalf("answer %s, %v", out, err)
			}
			if got.Error != test.want {
				t.Errorf("error %q, want %q", got.Error, test.want)
			}
		})
	}
}

func FuzzCases(f *testing.F) {
	for i, line := range bytes.SplitAfter(recorded(f, "../check/testdata/license_check.jsonl.gz"), []byte("\n")) {
		if i%40 == 0 {
			f.Add(line)
		}
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		line = bytes.ReplaceAll(line, []byte("\n"), nil)
		out := new(bytes.Buffer)
		if err := offline.CheckQuotas(t.Context(), bytes.NewReader(line), out); err != nil {
			t.Fatal(err)
		}
		if err := offline.ComputeQuotas(t.Context(), bytes.NewReader(line), out); err != nil {
			t.Fatal(err)
		}
		for answer := range bytes.Lines(out.Bytes()) {
			if !json.Valid(answer) {
				t.Errorf("answer is no JSON: %s", answer)
			}
		}
	})
}

func BenchmarkComputeQuotas(b *testing.B) {
	benchmark(b, offline.ComputeQuotas, recorded(b, "../quota/testdata/quota.jsonl.gz"))
}

func BenchmarkCheckQuotas(b *testing.B) {
	benchmark(b, offline.CheckQuotas, recorded(b, "../check/testdata/license_check.jsonl.gz"))
}

// benchmark answers lines again and again.
func benchmark(b *testing.B, answer func(context.Context, io.Reader, io.Writer) error, lines []byte) {
	b.Helper()
	cases := bytes.Count(lines, []byte("\n"))
	b.ReportAllocs()
	b.SetBytes(int64(len(lines)))
	for b.Loop() {
		if err := answer(b.Context(), bytes.NewReader(lines), io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*cases), "ns/case")
}
