package config

import (
	"strings"
	"testing"
)

func TestManifestPatternAllows(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		pattern, url string
		want         bool
	}{
		"whole":                       {`https://example\.org/[a-z]+\.yaml`, "https://example.org/a.yaml", true},
		"inside of a query":           {`https://example\.org/a\.yaml`, "https://evil.org/?https://example.org/a.yaml", false},
		"beginning":                   {`https://example\.org/`, "https://example.org/a.yaml", false},
		"end":                         {`example\.org/a\.yaml`, "https://example.org/a.yaml", false},
		"anchored by hand":            {`^https://example\.org/.*$`, "https://example.org/a", true},
		"shorter alternative first":   {`https://a|https://a/b`, "https://a/b", true},
		"alternatives are not halves": {`https://a|b`, "https://b", false},
		"lazy":                        {`https://a/.*?`, "https://a/b/c", true},
		"open quotation":              {`https://a/\Q.`, "https://a/.", true},
		"lines":                       {`(?m)^https://a$`, "https://a\nhttps://b", false},
		"empty pattern":               {``, "", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pattern, err := ParseManifestPattern(tc.pattern)
			if err != nil {
				t.Fatal(err)
			}
			if got := pattern.Allows(tc.url); got != tc.want {
				t.Errorf("%q allows %q = %v, want %v", tc.pattern, tc.url, got, tc.want)
			}
			if pattern.String() != tc.pattern || pattern.IsZero() != (tc.pattern == "") {
				t.Errorf("pattern = %q, zero %v", pattern, pattern.IsZero())
			}
		})
	}
}

func TestPrefixNotice(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]bool{
		`^https:\/\/example[.]org\/manifests`: true,
		`(https://example[.]org/manifests/)`:  true,
		`^https://example[.]org/manifests/.*`: false,
		`^https://example[.]org/manifests/$`:  false,
		`https://example[.]org/a[.]yaml`:      false,
		`https://(a|b)`:                       false,
		``:                                    false,
	} {
		_, notices, err := Parse("site.yaml", nil, []string{"BACKEND_WHITELISTMANIFESTREGEX=" + pattern})
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Contains(strings.Join(texts(notices), "\n"), "whole URLs")
		if got != want {
			t.Errorf("notice for %q = %v, want %v", pattern, got, want)
		}
	}
}
