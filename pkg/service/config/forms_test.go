package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestForms has the forms of values that a file per mistake would be too much for.
func TestForms(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ file, want string }{
		"long value": {
			"cluster: " + strings.Repeat("a", 70) + "\n",
			`site.yaml:1: cluster: "` + strings.Repeat("a", 60) + `"… is no cluster name: use at most 63 letters, digits, "-" and "_", with a letter or digit first`,
		},
		"long key":      {strings.Repeat("a", 70) + ": 1\n", `site.yaml:1: ["` + strings.Repeat("a", 60) + `"…]: is not a key: remove it`},
		"long list":     {"trustedProxies: [" + strings.Repeat("a,", maxEntries+1) + "]\n", "site.yaml:1: trustedProxies: has more than 1000 entries"},
		"empty parts":   {"rateLimits: {perUser: }\nsilos: []\nadminTokenHash: ''\ntestingHost: ''\npodSubnetCidr: ''\n", "<nil>"},
		"list in list":  {"trustedProxies: [[10.0.0.1]]\n", "site.yaml:1: trustedProxies[0]: is a list or a mapping: write one text"},
		"zone":          {"testingHost: fe80::1%eth0\n", `site.yaml:1: testingHost: "fe80::1%eth0" is not an IP address: write one like 10.0.0.12 or fd00::12`},
		"infinite rate": {"rateLimits: {perUser: {perSecond: inf, burst: 1}}\n", `site.yaml:1: rateLimits.perUser.perSecond: "inf" is not a number: write one like 5 or 0.5`},
		"huge burst":    {"rateLimits: {perUser: {perSecond: 1, burst: 2000000}}\n", "site.yaml:1: rateLimits.perUser.burst: 2000000 is out of bounds: use 1 to 1e+06"},
		"burst alone":   {"rateLimits: {perUser: {burst: 2}}\n", "site.yaml:1: rateLimits.perUser.perSecond: is missing: write how many calls a second may come, or no burst either"},
		"unknown key among few": {
			"rateLimits: {everybody: {}}\n", "site.yaml:1: rateLimits.everybody: is not a key: the keys here are perSilo, perUser",
		},
		"no credentials in a mapping": {
			"silos: [{name: s, credentials: {}, dataAddress: 10.0.0.1, userDomains: [a.org]}]\n",
			"site.yaml:1: silos[0].credentials: is missing: write {tokenHash: HASH}, {certificateHash: HASH}, or none",
		},
		"expression with a line break": {
			"whitelistManifestRegex: \"(\\n\"\n",
			"site.yaml:1: whitelistManifestRegex: compile expression: error parsing regexp: missing closing ): `( `; the syntax is https://github.com/google/re2/wiki/Syntax",
		},
		"windows line ends": {"namespace: Berth\r\nreplicas: 1\r\n", `site.yaml:1: namespace: "Berth" is no DNS label: use at most 63 of a-z, 0-9 and "-", with a letter or digit at both ends`},
		"byte order mark":   {"\ufeffnamespace: berth\n", "<nil>"},
		"not text":          {"\x00\x01", "site.yaml: is not YAML: control characters are not allowed"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := Parse("site.yaml", []byte(tc.file), nil)
			if diff := cmp.Diff(tc.want, fmt.Sprint(err)); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}
