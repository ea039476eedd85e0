package quota_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/quota"
)

func TestRelaxedObject(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"JSON":                      {` {"mem": 2000, "internet": true} `, `{"mem": 2000, "internet": true}`},
		"nothing":                   {" ", `{}`},
		"bare keys":                 {`{mem: 2000, mem_oc:5}`, `{"mem":2000,"mem_oc":5}`},
		"without braces":            {`mem: 2000, 'cpu': 1.5`, `{"mem":2000,"cpu":1.5}`},
		"lines":                     {"{\n mem: 2000\n cpu: 1 # cores\n}", `{"mem":2000,"cpu":1}`},
		"lines without braces":      {"mem: 2000 // MB\ncpu: 1\n", `{"mem":2000,"cpu":1}`},
		"single quotes":             {`{'a': 'it\'s "b"', "c": "d"}`, `{"a":"it's \"b\"","c":"d"}`},
		"simple texts":              {`{a: some words, b: false, c: null, d: -1e3, e: .5}`, `{"a":"some words","b":false,"c":null,"d":-1e3,"e":".5"}`},
		"commas left over":          {`{,a:1,,b:[1,2,],}`, `{"a":1,"b":[1,2]}`},
		"comments":                  {"/* a */{a:/*b*/1, // c\n# d\nb:2}//e", `{"a":1,"b":2}`},
		"objects in objects":        {`a:{b:{c:1}}`, `{"a":{"b":{"c":1}}}`},
		"a string of JSON":          {`"{\"mem\":2000}"`, `{"mem":2000}`},
		"a string of relaxed JSON":  {`"mem: 2000"`, `{"mem":2000}`},
		"no value":                  {`{mem:}`, ``},
		"no name":                   {`{:1}`, ``},
		"no comma":                  {`{"a":1 "b":2}`, ``},
		"a list":                    {`[1]`, ``},
		"a number":                  {`2000`, ``},
		"no end":                    {`{mem: 2000`, ``},
		"more after it":             {`{mem: 2000} {`, ``},
		"one brace too many":        {`mem: 2000}`, ``},
		"a quote that does not end": {`{mem: "2000}`, ``},
		"a comment without end":     {`{mem: 2000 /* }`, ``},
		"a quote within":            {`{mem: 20"00}`, ``},
		"too deep":                  {strings.Repeat("a:{", 40) + strings.Repeat("}", 40), ``},
		"not UTF-8":                 {"{a:\xff}", ``},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := quota.RelaxedObject(test.text)
			if !ok {
				got = nil
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A text becomes one JSON object or none, and nothing panics.
func FuzzRelaxedObject(f *testing.F) {
	for _, seed := range []string{`{a: 1}`, `a:'b'`, "/*", `"\"a:1\""`, `{a:[{},],}`, "\ufeff a : b # c", `{'\'`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		object, ok := quota.RelaxedObject(text)
		var members map[string]any
		if ok && (json.Unmarshal(object, &members) != nil || members == nil) {
			t.Errorf("%q becomes %q", text, object)
		}
	})
}

// Settings of a site are texts; one that cannot be read is not passed over in silence.
func TestSiteAsRelaxedText(t *testing.T) {
	t.Parallel()
	result, err := quota.Compute(quota.Input{Site: raw(`{"default_quotas":"{mem: 2000, cpu: 2,}","max_upgrades":"{memory:"}`)})
	if err != nil {
		t.Fatal(err)
	}
	if result.Quota.MemoryLimit != 2000 || result.Quota.CPULimit != 2 {
		t.Errorf("quota %+v", result.Quota)
	}
	if !slices.ContainsFunc(result.Ignored, func(i quota.Ignored) bool { return i.Field == "max_upgrades" && i.License == "" }) {
		t.Errorf("ignored %+v, want max_upgrades", result.Ignored)
	}
}
