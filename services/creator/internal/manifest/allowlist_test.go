package manifest

import (
	"strings"
	"testing"
)

func TestAllowList(t *testing.T) {
	t.Parallel()

	const expression = `https://git\.example\.org/pods/.*\.yaml|http://localhost:\d+/.*`

	tests := map[string]struct {
		address string
		want    bool
	}{
		"allowed":                 {"https://git.example.org/pods/a/b.yaml", true},
		"the other half":          {"http://localhost:80/x?y=z", true},
		"encoded":                 {"https://git.example.org/pods/a%20b.yaml", true},
		"empty":                   {"", false},
		"no URL":                  {"https://git.example.org/pods/%zz.yaml", false},
		"newline":                 {"https://git.example.org/pods/x\n.yaml", false},
		"in a query string":       {"https://evil.example.com/?https://git.example.org/pods/a.yaml", false},
		"in front":                {"https://git.example.org/pods/a.yaml.evil", false},
		"dot is no dot":           {"https://gitxexample.org/pods/a.yaml", false},
		"user info":               {"https://git.example.org@evil.example.com/pods/a.yaml", false},
		"user":                    {"http://user@localhost:80/x", false},
		"empty user":              {"http://@localhost:80/x", false},
		"fragment":                {"https://git.example.org/pods/a.yaml#x.yaml", false},
		"empty fragment":          {"https://git.example.org/pods/a.yaml#", false},
		"other scheme":            {"file:///etc/passwd", false},
		"no host":                 {"https:///pods/a.yaml", false},
		"opaque":                  {"https:git.example.org/pods/a.yaml", false},
		"up and away":             {"https://git.example.org/pods/../evil/a.yaml", false},
		"up and away, encoded":    {"https://git.example.org/pods/%2e%2E/evil/a.yaml", false},
		"up and away, slash too":  {"https://git.example.org/pods/x%2f..%2f..%2fevil.yaml", false},
		"up and away, backslash":  {`https://git.example.org/pods/..\evil.yaml`, false},
		"up and away, parameters": {"https://git.example.org/pods/..;a/evil.yaml", false},
		"long":                    {"http://localhost:80/" + strings.Repeat("x", maxAddress), false},
	}

	list, err := compileAllowList(expression)
	if err != nil {
		t.Fatal(err)
	}

	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			_, refused := list.parse(tc.address)
			if (refused == nil) != tc.want {
				t.Errorf("parse(%q) = %v", tc.address, refused)
			}

			if refused != nil && refused.Reason != ReasonForbidden {
				t.Errorf("reason %s", refused.Reason)
			}
		})
	}
}

func TestAllowListRefusesExpressions(t *testing.T) {
	t.Parallel()

	for _, expression := range []string{"(", "a)|(b", `\`, "a)(?:b"} {
		if _, err := compileAllowList(expression); err == nil || !strings.Contains(err.Error(), "whitelistManifestRegex") {
			t.Errorf("%q: %v", expression, err)
		}
	}
}

func TestEmptyAllowListAllowsNothing(t *testing.T) {
	t.Parallel()

	list, err := compileAllowList("")
	if err != nil {
		t.Fatal(err)
	}

	if _, refused := list.parse("http://localhost/"); refused == nil {
		t.Error("allowed")
	}
}

// FuzzAllowList checks that what is allowed is asked of the host that it shows.
func FuzzAllowList(f *testing.F) {
	f.Add("https://git.example.org/pods/a.yaml")
	f.Add("https://git.example.org/pods/../a.yaml")
	f.Add("https://git.example.org:443@evil/pods/a.yaml")

	list, err := compileAllowList(`https://git\.example\.org/pods/.*`)
	if err != nil {
		f.Fatal(err)
	}

	f.Fuzz(func(t *testing.T, address string) {
		parsed, refused := list.parse(address)
		if refused != nil {
			return
		}

		if parsed.Host != "git.example.org" || parsed.Scheme != "https" || !strings.HasPrefix(parsed.Path, "/pods/") {
			t.Errorf("%q asks %s", address, parsed)
		}
	})
}
