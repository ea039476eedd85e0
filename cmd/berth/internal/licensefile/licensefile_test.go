package licensefile_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/cmd/berth/internal/licensefile"
	"berth/pkg/client"
)

const id = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"

func TestRead(t *testing.T) {
	t.Parallel()
	limit, from := 3, time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	tests := map[string]struct {
		text string
		want client.SiteLicense
	}{
		"everything": {
			"id: " + id + "\ntitle: T\ndescription: |\n  two\n  lines\nactivates: 2026-01-02 15:04:05\nexpires: 2026-01-02T16:04:05+01:00\nrun_limit: 3\n" +
				"managers: [a, b]\nquota: {cpu: 0.5, gpu: {num: 1}, member: true}\nupgrades:\n  memory: 1000\n",
			client.SiteLicense{
				ID: id, Title: "T", Description: "two\nlines\n", Activates: &from, Expires: new(from), RunLimit: &limit, Managers: []string{"a", "b"},
				Quota: json.RawMessage(`{"cpu":0.5,"gpu":{"num":1},"member":true}`), Upgrades: json.RawMessage(`{"memory":1000}`),
			},
		},
		"as it is told": {
			`{"id":"` + id + `","title":"T","created":"2026-01-02T15:04:05Z","last_used":null,"seats_used":1,"revision":"d41d8cd9"}`,
			client.SiteLicense{ID: id, Title: "T"},
		},
		"JSON": {`{"id": "` + strings.ToUpper(id) + `", "quota": {"ram": 1e1}, "expires": null}`, client.SiteLicense{ID: id, Quota: json.RawMessage(`{"ram":1e1}`)}},
		"a patch as a list": {
			"id: " + id + "\nquota:\n  patch:\n    - {op: add, path: /a, value: {b: yes, c: [1, 9007199254740993, 0x10, ~]}}\n",
			client.SiteLicense{ID: id, Quota: json.RawMessage(`{"patch":"[{\"op\":\"add\",\"path\":\"/a\",\"value\":{\"b\":\"yes\",\"c\":[1,9007199254740993,16,null]}}]"}`)},
		},
		"a patch as text": {
			"id: " + id + "\nquota: {patch: '[{\"op\": \"remove\", \"path\": \"/a\"}]'}\n",
			client.SiteLicense{ID: id, Quota: json.RawMessage(`{"patch":"[{\"op\": \"remove\", \"path\": \"/a\"}]"}`)},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, faults := licensefile.Read("f", []byte(tt.text))
			if len(faults) > 0 || len(got) != 1 {
				t.Fatalf("%v, %v", got, faults)
			}
			if d := cmp.Diff(tt.want, got[0].License); d != "" {
				t.Errorf("license (-want +got):\n%s", d)
			}
			text, err := licensefile.Write(got[0].License)
			if err != nil {
				t.Fatal(err)
			}
			again, faults := licensefile.Read("f", text)
			if len(faults) > 0 || len(again) != 1 || len(again[0].Faults(nil)) > 0 {
				t.Fatalf("%s: %v", text, faults)
			}
			if changes := licensefile.Changes(got[0].License, again[0].License); len(changes) > 0 {
				t.Errorf("what was written is another license: %v\n%s", changes, text)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, want string }{
		"no YAML":        {"id: [\n", "is no YAML"},
		"a bare value":   {"- 1\n", "f:1: a license must be a mapping"},
		"twice":          {"id: " + id + "\ntitle: a\ntitle: b\n", "f:3: title is there twice"},
		"a quota twice":  {"id: " + id + "\nquota:\n  cpu: 1\n  cpu: 2\n", "f:4: quota.cpu is there twice"},
		"no object":      {"id: " + id + "\nquota: 7\n", "f:2: quota is neither an object nor null"},
		"a list":         {"id: " + id + "\nupgrades:\n- a\n", "f:3: upgrades is neither an object nor null"},
		"an alias":       {"id: " + id + "\nquota: &a {cpu: 1}\nupgrades: *a\n", "f:2: quota has an anchor or alias"},
		"not a number":   {"id: " + id + "\nquota: {cpu: .nan}\n", "f:2: quota.cpu is nothing that JSON has"},
		"binary":         {"id: " + id + "\nquota: {user: !!binary aGk=}\n", "f:2: quota.user is of a kind that JSON does not have"},
		"a bad patch":    {"id: " + id + "\nquota:\n  patch:\n    - {op: sub}\n", "f:3: quota.patch"},
		"a deep field":   {"id: " + id + "\nquota:\n  gpu:\n    num: 1\n    numb: 1\n", "f:5: quota.gpu.numb"},
		"negative seats": {"id: " + id + "\nrun_limit: -1\n", "f:2: run_limit must be a whole number"},
		"too large":      {strings.Repeat("#", licensefile.MaxFile+1), "f: is larger than"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, faults := licensefile.Read("f", []byte(tt.text))
			for _, f := range files {
				faults = append(faults, f.Faults(nil)...)
			}
			for _, f := range faults {
				if strings.Contains(f.String(), tt.want) {
					return
				}
			}
			t.Errorf("%v, want %q", faults, tt.want)
		})
	}
}

// TestSavedIsNoFault: what is saved is written so that it is read as the same, and only what is new is a fault.
func TestSavedIsNoFault(t *testing.T) {
	t.Parallel()
	of := func(quota, upgrades string, limit int) client.SiteLicense {
		return client.SiteLicense{ID: id, Quota: json.RawMessage(quota), Upgrades: json.RawMessage(upgrades), RunLimit: &limit}
	}
	saved := of(`{"cpu":"2","zzz":1,"a.b":{"c":null},"<<":{"x":1},"patch":"[","gpu":{"num":0.5},"`+strings.Repeat("n", 2000)+`":1}`, `{"memory":"x"}`, -5)
	tests := map[string]struct {
		saved, edited client.SiteLicense
		want          []string // The fields that are at fault.
	}{
		"nothing":          {saved, saved, nil},
		"one less":         {saved, of(`{"cpu":"2","a.b":{"c":null}}`, `{}`, -5), nil},
		"a good one":       {saved, of(`{"cpu":2,"zzz":1.0,"ram":4}`, ``, 0), nil},
		"another value":    {saved, of(`{"cpu":"3","zzz":1}`, `{"memory":"y"}`, -5), []string{"quota.cpu", "upgrades.memory"}},
		"another member":   {saved, of(`{"zzz":1,"c.d":1}`, `null`, -6), []string{"quota.c.d", "run_limit"}},
		"deeper":           {saved, of(`{"gpu":{"num":0.25}}`, ``, 1), []string{"quota.gpu.num"}},
		"a list":           {of(`[]`, `"x"`, 1), of(`[]`, `"x"`, 1), nil},
		"a list, edited":   {of(`[]`, `"x"`, 1), of(`[1]`, `{"y":1}`, 1), []string{"quota", "upgrades.y"}},
		"an object before": {of(`{"cpu":1}`, ``, 1), of(`"x"`, ``, 1), []string{"quota"}},
		"a patch": {
			of(`{"patch":"[{\"op\":\"add\",\"op\":\"x\"}]"}`, ``, 1), of(`{"patch":"[{\"op\":\"add\",\"op\":\"x\"}]"}`, ``, 1), nil,
		},
		"half a character in a patch": {of(`{"patch":"[\"\\ud800\"]"}`, ``, 1), of(`{"patch":"[\"\\ud800\"]"}`, ``, 1), nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := licensefile.Write(tt.edited)
			if err != nil {
				t.Fatal(err)
			}
			files, faults := licensefile.Read("f", text)
			if len(faults) > 0 || len(files) != 1 {
				t.Fatalf("%s: %v", text, faults)
			}
			if changes := licensefile.Changes(tt.edited, files[0].License); len(changes) > 0 {
				t.Errorf("what was written is another license: %v\n%s", changes, text)
			}
			var got []string
			for _, fault := range files[0].Faults(&tt.saved) {
				field, _, _ := strings.Cut(fault.Message, " ")
				got = append(got, field)
				if fault.Line < 2 {
					t.Errorf("the line of %s is %d", fault.Message, fault.Line)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("faults (-want +got):\n%s\n%s", d, text)
			}
		})
	}
}

// TestByteOrderMark: files of editors that write one are licenses.
func TestByteOrderMark(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"YAML": "id: " + id + "\n", "JSON": `{"id": "` + id + `"}`, "a list": `[{"id": "` + id + `"}]`, "a separator": "---\nid: " + id + "\n"} {
		if files, faults := licensefile.Read("f", []byte("\ufeff"+text)); len(faults) > 0 || len(files) != 1 || files[0].License.ID != id {
			t.Errorf("%s: %v, %v", name, files, faults)
		}
	}
}

// TestLists: a list has licenses as several documents have.
func TestLists(t *testing.T) {
	t.Parallel()
	const other = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
	tests := map[string]struct {
		text  string
		lines []int
		fault string
	}{
		"JSON":               {`[{"id":"` + id + `","seats_used":0},` + "\n" + `{"id":"` + other + `"}]`, []int{1, 2}, ""},
		"YAML":               {"- id: " + id + "\n- id: " + other + "\n", []int{1, 2}, ""},
		"a list and another": {"[]\n---\n- id: " + id + "\n---\nid: " + other + "\n", []int{3, 5}, ""},
		"none":               {"[]\n", nil, "f: has no license"},
		"a list in a list":   {"- - id: " + id + "\n", nil, "f:1: a license must be a mapping"},
		"a fault":            {"- id: " + id + "\n- id: x\n", nil, "f:2: id must be a UUID"},
		"too many":           {"[" + strings.Repeat("{},", 1001) + "]", nil, "f:1: has more than 1000 licenses"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, faults := licensefile.Read("f", []byte(tt.text))
			var lines []int
			for _, f := range files {
				lines = append(lines, f.Line)
			}
			if d := cmp.Diff(tt.lines, lines); d != "" {
				t.Errorf("lines (-want +got):\n%s", d)
			}
			if (len(faults) > 0) != (tt.fault != "") || len(faults) > 0 && !strings.HasPrefix(faults[0].String(), tt.fault) {
				t.Errorf("faults %v, want %q", faults, tt.fault)
			}
		})
	}
}

// TestLoad: a folder stands for its license files that are not hidden; all is read by the one function.
func TestLoad(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for _, name := range []string{"a.yaml", "b.json", ".hidden.yaml", ".yaml", "README"} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	n := 0
	files, faults, err := licensefile.Load([]string{"-", folder, filepath.Join(folder, ".hidden.yaml")}, func(name string) ([]byte, error) {
		names = append(names, filepath.Base(name))
		n++
		return fmt.Appendf(nil, "id: aaaaaaaa-aaaa-4aaa-8aaa-%012d\n", n), nil
	})
	if err != nil || len(faults) > 0 || len(files) != 4 {
		t.Fatalf("%d files, %v, %v", len(files), faults, err)
	}
	if d := cmp.Diff([]string{"-", "a.yaml", "b.json", ".hidden.yaml"}, names); d != "" {
		t.Errorf("read (-want +got):\n%s", d)
	}
	if files[0].Name != "stdin" {
		t.Errorf("stdin is called %s", files[0].Name)
	}
	broken := errors.New("broken")
	if _, _, err := licensefile.Load([]string{"-"}, func(string) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("Load = %v, want %v", err, broken)
	}
}

// TestTimes: two times are the same where a database cannot tell them apart.
func TestTimes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 15, 4, 5, 123456789, time.UTC)
	for name, tt := range map[string]struct {
		before time.Time
		want   []string
	}{
		"in microseconds": {at.Truncate(time.Microsecond), nil},
		"in another zone": {at.In(time.FixedZone("", 3600)), nil},
		"one less":        {at.Add(-time.Microsecond), []string{"activates: 2026-01-02T15:04:05.123455Z → 2026-01-02T15:04:05.123456Z"}},
	} {
		if d := cmp.Diff(tt.want, licensefile.Changes(client.SiteLicense{ID: id, Activates: &tt.before}, client.SiteLicense{ID: id, Activates: &at})); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// TestChanges: what differs is said, and no value of a patch.
func TestChanges(t *testing.T) {
	t.Parallel()
	of := func(quota string) client.SiteLicense {
		return client.SiteLicense{ID: id, Quota: json.RawMessage(quota)}
	}
	tests := map[string]struct {
		before, after string
		want          []string
	}{
		"the same, written otherwise": {`{"ram":4.0,"patch":"[ {\"path\":\"/a\",\"op\":\"remove\"} ]","x":null}`, `{"patch":"[{\"op\":\"remove\",\"path\":\"/a\"}]","ram":4}`, nil},
		"a quota":                     {``, `{"ram":4,"patch":"[{\"op\":\"add\",\"path\":\"/a\",\"value\":\"s3cret\"}]"}`, []string{`quota: none → {"patch":"1 operation","ram":4}`}},
		"no quota":                    {`{"ram":4}`, `null`, []string{`quota: {"ram":4} → none`}},
		"an operation": {
			`{"patch":"[{\"op\":\"add\",\"path\":\"/a\",\"value\":\"s3cret\"}]"}`, `{"patch":"[{\"op\":\"add\",\"path\":\"/a\",\"value\":\"other\"}]"}`,
			[]string{"quota.patch: operation 0 is another one: add /a"},
		},
		"no list":    {`{"patch":"s3cret"}`, `{"patch":"other"}`, []string{"quota.patch: another text"}},
		"no object":  {`"s3cret"`, `{"ram":4}`, []string{`quota: what is no object → {"ram":4}`}},
		"a list":     {``, `["s3cret"]`, []string{`quota: none → what is no object`}},
		"same lists": {`[1.0]`, `[1]`, nil},
		"large ones": {`{"a":9007199254740992}`, `{"a":9007199254740993}`, []string{"quota.a: 9007199254740992 → 9007199254740993"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tt.want, licensefile.Changes(of(tt.before), of(tt.after))); d != "" {
				t.Errorf("changes (-want +got):\n%s", d)
			}
		})
	}
}

// FuzzRead: no file makes a panic, and what is read is written so that it is read as the same.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"", "---\n---\n", "id: " + id, "id: " + id + "\nquota: {patch: [{op: add, path: /a, value: 1e400}]}", "id: " + id + "\nquota: &a [*a]",
		"id: " + id + "\nquota:\n  <<: {cpu: 1}\n", "id: " + id + "\nquota: {? [a] : 1}", "id: " + id + "\ntitle: \"\\u2028 x\"\n", `{"id":"` + id + `","quota":{"user":"a\nb"}}`,
		"id: " + id + "\nactivates: 9999-12-31\nmanagers: [~, 1, true]\n",
		"id: " + id + "\nquota: [{patch: [x]}]\nupgrades: text\nrun_limit: -3\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		files, faults := licensefile.Read("f", text)
		for _, fault := range faults {
			if fault.Message == "" {
				t.Errorf("%q has a fault without a message", text)
			}
		}
		for _, file := range files {
			if wrong := file.Faults(&file.License); len(wrong) > 0 {
				t.Errorf("%q has faults although nothing is new: %v", text, wrong)
			}
			if !json.Valid(file.License.Quota) && len(file.License.Quota) > 0 {
				t.Fatalf("%q has the quota %s", text, file.License.Quota)
			}
			written, err := licensefile.Write(file.License)
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			again, faults := licensefile.Read("f", written)
			if len(faults) > 0 || len(again) != 1 {
				t.Fatalf("%q is written as %q: %v", text, written, faults)
			}
			if changes := licensefile.Changes(file.License, again[0].License); len(changes) > 0 {
				t.Errorf("%q is written as %q: %v", text, written, changes)
			}
		}
	})
}

// TestDocumentation: what the documentation shows as a license is one, with a patch.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../../docs/projects.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	sample, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/projects.md shows no license")
	}
	files, faults := licensefile.Read("docs/projects.md", []byte(sample))
	if len(faults) > 0 || len(files) != 1 || files[0].License.Activates == nil || !strings.Contains(string(files[0].License.Quota), `"patch":"[{`) {
		t.Errorf("%v, %+v", faults, files)
	}
}

// TestEmptyFiles: a file without a license is a fault, not a success.
func TestEmptyFiles(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"nothing": "", "a comment": "# soon\n", "separators": "---\n---\n", "null": "null\n"} {
		if files, faults := licensefile.Read("f", []byte(text)); len(files) > 0 || len(faults) != 1 || faults[0].String() != "f: has no license" {
			t.Errorf("%s: %v, %v", name, files, faults)
		}
	}
}
