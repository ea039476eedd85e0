package quota

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// units are the recorded parts of computations.
type units struct {
	Patches []struct {
		Patch string `json:"patch"`
		Want  []any  `json:"want"`
	} `json:"load_patch"`
	Groups []struct {
		License json.RawMessage `json:"license"`
		Want    string          `json:"want"`
	} `json:"group_key_after_normalisation"`
	Priority []string `json:"group_priority"`
	Machines map[string]struct {
		Memory float64 `json:"mem"`
		CPU    float64 `json:"cpu"`
	} `json:"vm_machines"`
	Constants struct {
		Defaults json.RawMessage    `json:"defaults"`
		Maxima   json.RawMessage    `json:"max_per_project"`
		Idle     map[string]float64 `json:"idle_timeout_seconds"`
	} `json:"constants"`
}

func readUnits(t *testing.T) units {
	t.Helper()
	text, err := os.ReadFile("testdata/quota_units.json")
	if err != nil {
		t.Fatal(err)
	}
	var u units
	if err := json.Unmarshal(text, &u); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestLoadPatchVectors(t *testing.T) {
	t.Parallel()
	for _, unit := range readUnits(t).Patches {
		operations, err := LoadPatch(unit.Patch)
		if err != nil && operations != nil {
			t.Errorf("%s: operations beside the error %v", unit.Patch, err)
		}
		got := []any{}
		for _, raw := range operations {
			var operation any
			if err := json.Unmarshal(raw, &operation); err != nil {
				t.Fatal(err)
			}
			got = append(got, operation)
		}
		if diff := cmp.Diff(unit.Want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", unit.Patch, diff)
		}
	}
}

func TestGroupVectors(t *testing.T) {
	t.Parallel()
	u := readUnits(t)
	if len(u.Priority) != groups {
		t.Fatalf("%d groups, want %d", len(u.Priority), groups)
	}
	for _, unit := range u.Groups {
		grant, err := Read(License{ID: "a", Value: unit.License})
		if err != nil {
			t.Fatal(err)
		}
		if want := slices.Index(u.Priority, unit.Want); grant.group != want {
			t.Errorf("%s: group %d, want %d (%s)", unit.License, grant.group, want, unit.Want)
		}
	}
}

func TestConstants(t *testing.T) {
	t.Parallel()
	u := readUnits(t)
	for name, test := range map[string]struct {
		upgrades json.RawMessage
		want     amounts
	}{
		"defaults": {u.Constants.Defaults, builtinDefaults},
		"maxima":   {u.Constants.Maxima, builtinMaxima},
	} {
		var recorded amounts
		readUpgrades(test.upgrades, &recorded)
		if recorded != test.want {
			t.Errorf("%s: recorded %v, ours %v", name, recorded, test.want)
		}
	}
	for class, seconds := range idleSeconds {
		if got := u.Constants.Idle[idleNames[class]]; got != seconds {
			t.Errorf("idle class %s: recorded %v, ours %v", idleNames[class], got, seconds)
		}
	}
	if len(u.Machines) != len(machines) {
		t.Errorf("%d machines recorded, %d ours", len(u.Machines), len(machines))
	}
	for name, machine := range u.Machines {
		if ours := machines[name]; ours.cores != machine.CPU || ours.gigabytes != machine.Memory {
			t.Errorf("machine %s: recorded %v, ours %v", name, machine, ours)
		}
	}
}

func TestReadings(t *testing.T) {
	t.Parallel()
	for text, test := range map[string]struct {
		number, integer float64
		flag            bool
	}{
		`null`:           {0, 0, false},
		`true`:           {0, 0, true},
		`false`:          {0, 0, false},
		`0.5`:            {0.5, 0, false},
		`1.9`:            {1.9, 0, true},
		`-1`:             {-1, 0, false},
		`1e999`:          {most, 0, true},
		`-1e999`:         {-most, 0, false},
		`"2e3"`:          {2000, 2, true},
		`" 900 MB"`:      {900, 900, true},
		`".5e3"`:         {500, 0, false},
		`"+700"`:         {700, 700, true},
		`"1,000"`:        {1, 1, true},
		`"abc"`:          {0, 0, false},
		`""`:             {0, 0, false},
		`"true"`:         {0, 0, false},
		`"1e"`:           {1, 1, true},
		`"5."`:           {5, 5, true},
		`"."`:            {0, 0, false},
		`"-"`:            {0, 0, false},
		`"0x10"`:         {0, 0, false},
		`"1_000"`:        {1, 1, true},
		`"inf"`:          {0, 0, false},
		`"\u00a07"`:      {7, 7, true},
		`"9000.9"`:       {9000.9, 9000, true},
		`"1e999"`:        {most, 1, true},
		`{"a":1}`:        {0, 0, false},
		`[5]`:            {0, 0, false},
		`"\ud800 1 2 3"`: {0, 0, false},
	} {
		if got := readNumber([]byte(text)); got != test.number {
			t.Errorf("number %s: %v, want %v", text, got, test.number)
		}
		if got := readFlag([]byte(text)); got != test.flag {
			t.Errorf("flag %s: %v, want %v", text, got, test.flag)
		}
		if text[0] != '"' {
			continue
		}
		p, err := NewProject(Input{Settings: json.RawMessage(`{"disk_quota":` + text + `}`)})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.settings.number[disk]; got != test.integer {
			t.Errorf("disk_quota %s: %v, want %v", text, got, test.integer)
		}
	}
}
