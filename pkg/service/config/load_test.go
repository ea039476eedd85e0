package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// compare lets cmp look at addresses as values.
func compare() cmp.Option {
	return cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}
}

func with(change func(*Config)) Config {
	c := Default()
	change(&c)
	return c
}

func TestParse(t *testing.T) {
	t.Parallel()
	pattern, err := ParseManifestPattern(`https://example\.org/.*`)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		file    string
		environ []string
		want    Config
	}{
		"nothing is the default": {want: Default()},
		"comments alone":         {file: "# Nothing here.\n", want: Default()},
		"a key without a value keeps its default": {
			file: "namespace:\ntimeoutCreate: ~\nhostnameList:\n", want: Default(),
		},
		"durations in both forms": {
			file: "timeoutCreate: 2m\ntimeoutDelete: 45\nlogRetention: 24h\n",
			want: with(func(c *Config) {
				c.TimeoutCreate, c.TimeoutDelete, c.LogRetention = 2*time.Minute, 45*time.Second, 24*time.Hour
			}),
		},
		"a long timeoutCreate raises an unset maximum": {
			file: "timeoutCreate: 1h\n",
			want: with(func(c *Config) { c.TimeoutCreate, c.TimeoutCreateMax = time.Hour, time.Hour }),
		},
		"keys in any case": {
			file: "NAMESPACE: a\nTimeoutCREATE: 60\nHostNameList: [{HOSTNAME: silo, Address: 10.0.0.1}]\n",
			want: with(func(c *Config) {
				c.Namespace, c.TimeoutCreate = "a", time.Minute
				c.HostnameList = []Hostname{{Hostname: "silo", Address: netip.MustParseAddr("10.0.0.1")}}
			}),
		},
		"texts that look like something else": {
			file: "namespace: 0123\nlocalRegistrySecret: no\n",
			want: with(func(c *Config) { c.Namespace, c.LocalRegistrySecret = "0123", "no" }),
		},
		"environment wins": {
			file:    "namespace: a\ncluster: one\n",
			environ: []string{"BACKEND_NAMESPACE=b", "OTHER=1", "BACKEND_testingHost=::ffff:10.0.0.9"},
			want: with(func(c *Config) {
				c.Namespace, c.Cluster, c.TestingHost = "b", "one", netip.MustParseAddr("10.0.0.9")
			}),
		},
		"environment in any case": {
			environ: []string{"BACKEND_timeoutCreate=2m", "BACKEND_TIMEOUTDELETE=30"},
			want:    with(func(c *Config) { c.TimeoutCreate, c.TimeoutDelete = 2*time.Minute, 30*time.Second }),
		},
		"the last of a variable counts": {
			environ: []string{"BACKEND_NAMESPACE=a", "BACKEND_NAMESPACE=b"},
			want:    with(func(c *Config) { c.Namespace = "b" }),
		},
		"an empty variable is not set": {
			file: "namespace: a\n", environ: []string{"BACKEND_NAMESPACE=", "BACKEND_NAMESPACEE="},
			want: with(func(c *Config) { c.Namespace = "a" }),
		},
		"a text variable is no YAML": {
			environ: []string{`BACKEND_WHITELISTMANIFESTREGEX=https://example\.org/.*`},
			want:    with(func(c *Config) { c.WhitelistManifestRegex = pattern }),
		},
		"a list in a variable as JSON": {
			environ: []string{`BACKEND_HOSTNAMELIST=[{"hostname": "silo", "address": "10.0.0.1"}]`},
			want: with(func(c *Config) {
				c.HostnameList = []Hostname{{Hostname: "silo", Address: netip.MustParseAddr("10.0.0.1")}}
			}),
		},
		"a list in a variable replaces that of the file": {
			file:    "hostnameList: [{hostname: old, address: 10.0.0.2}, {hostname: older, address: 10.0.0.3}]\n",
			environ: []string{"BACKEND_HOSTNAMELIST=- hostname: silo\n  address: 10.0.0.1\n"},
			want: with(func(c *Config) {
				c.HostnameList = []Hostname{{Hostname: "silo", Address: netip.MustParseAddr("10.0.0.1")}}
			}),
		},
		"networks with commas, as a list, with host bits, as an address": {
			file:    "podSubnetCidr: [10.42.3.4/16, fd00:42::/56]\n",
			environ: []string{"BACKEND_TRUSTEDPROXIES=10.0.0.1, 10.1.0.0/16"},
			want: with(func(c *Config) {
				c.PodSubnetCIDR = []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("fd00:42::/56")}
				c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.1.0.0/16")}
			}),
		},
		"variables that Kubernetes sets for a service": {
			environ: []string{
				"BACKEND_SERVICE_HOST=10.96.0.1", "BACKEND_SERVICE_PORT_HTTP=80", "BACKEND_PORT=tcp://10.96.0.1:80",
				"BACKEND_PORT_80_TCP_ADDR=10.96.0.1", "BACKEND_API_SERVICE_PORT=80", "BACKEND_API_PORT_80_TCP=x",
			},
			want: Default(),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _, err := Parse("site.yaml", []byte(tc.file), tc.environ)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, compare()); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseEnvironmentFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		file    string
		environ []string
		want    string
	}{
		"value":            {environ: []string{"BACKEND_TIMEOUTCREATE=soon"}, want: `BACKEND_TIMEOUTCREATE: "soon" is not a duration: write one like 90s, 15m or 1h30m, or whole seconds`},
		"bounds":           {environ: []string{"BACKEND_replicas=2"}, want: `BACKEND_replicas: "2" is not a choice: write 1, 3 or 5`},
		"inside of a list": {environ: []string{`BACKEND_HOSTNAMELIST=[{"hostname": "a", "address": "b"}]`}, want: `BACKEND_HOSTNAMELIST[0].address: "b" is not an IP address: write one like 10.0.0.12 or fd00::12`},
		"missing in a list": {
			environ: []string{`BACKEND_HOSTNAMELIST=[{"hostname": "a"}]`},
			want:    `BACKEND_HOSTNAMELIST[0].address: is missing: write the address of the silo`,
		},
		"broken list":   {environ: []string{"BACKEND_HOSTNAMELIST=["}, want: "BACKEND_HOSTNAMELIST: is not YAML: did not find expected node content"},
		"unknown":       {environ: []string{"BACKEND_TIMEOUTCREAT=1"}, want: "BACKEND_TIMEOUTCREAT: is not a key: did you mean BACKEND_timeoutCreate?"},
		"unknown, odd":  {environ: []string{"BACKEND_\n=1"}, want: `"BACKEND_\n": is not a key: remove it`},
		"twice":         {environ: []string{"BACKEND_replicas=1", "BACKEND_REPLICAS=3"}, want: "BACKEND_replicas: sets the key that BACKEND_REPLICAS sets: remove one"},
		"secret":        {environ: []string{"BACKEND_ADMINTOKENHASH=hunter2"}, want: `BACKEND_ADMINTOKENHASH: is not a hash: write "sha256:" and the 64 hexadecimal digits of ` + "`printf %s SECRET | sha256sum`"},
		"secret, alias": {environ: []string{"BACKEND_SILOS=*hunter2"}, want: "BACKEND_SILOS: has an anchor or alias (& or *): write the value out, or in quotes if it begins so"},
		"file and environment, the file first": {
			file: "namespace: A\nreplicas: 2\n", environ: []string{"BACKEND_CLUSTER=a.b", "BACKEND_REPLICAS=4"},
			want: `site.yaml:1: namespace: "A" is no DNS label: use at most 63 of a-z, 0-9 and "-", with a letter or digit at both ends
BACKEND_CLUSTER: "a.b" is no cluster name: use at most 63 letters, digits, "-" and "_", with a letter or digit first
BACKEND_REPLICAS: "4" is not a choice: write 1, 3 or 5`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := Parse("site.yaml", []byte(tc.file), tc.environ)
			if diff := cmp.Diff(tc.want, fmt.Sprint(err)); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNotices(t *testing.T) {
	t.Parallel()
	file := "podCacheDir: /tmp\nnfsStorageRoot: /tank\ntimeoutCreate: 2m\n"
	_, notices, err := Parse("site.yaml", []byte(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"site.yaml:1: podCacheDir: is ignored: nothing is cached on disk any more; remove it",
		"whitelistManifestRegex: is empty, so no manifest is allowed: set it to match the URLs of yours",
	}
	if diff := cmp.Diff(want, texts(notices)); diff != "" {
		t.Errorf("notices (-want +got):\n%s", diff)
	}
}

func texts(notices []Notice) []string {
	var all []string
	for _, n := range notices {
		all = append(all, n.String())
	}
	return all
}

func TestLoadRefusesFiles(t *testing.T) {
	t.Parallel()
	large := filepath.Join(t.TempDir(), "large.yaml")
	if err := os.WriteFile(large, []byte(strings.Repeat("# comment\n", maxSize/10+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	many := filepath.Join(t.TempDir(), "many.yaml")
	if err := os.WriteFile(many, []byte(strings.Repeat("nonsense: 1\n", maxFaults+5)), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		path, want string
	}{
		"missing":     {path: filepath.Join(t.TempDir(), "none.yaml"), want: "cannot be read: open "},
		"folder":      {path: t.TempDir(), want: "cannot be read: read "},
		"large":       {path: large, want: "is larger than 1 MiB"},
		"many faults": {path: many, want: "has 5 more faults, not shown"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := Load(tc.path, nil)
			var faults Faults
			if !errors.As(err, &faults) || !strings.Contains(err.Error(), tc.path+": "+tc.want) {
				t.Errorf("Load = %v, want faults with %q", err, tc.want)
			}
		})
	}
}

// TestExample keeps the example true: every key is in it, it is valid, and nothing is to be said of it.
func TestExample(t *testing.T) {
	t.Parallel()
	got, notices, err := Load("example.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(notices) > 0 {
		t.Errorf("notices: %v", texts(notices))
	}
	for _, k := range keys() {
		// The keys of TLS are comments: whoever starts from the example has no such files yet.
		text := strings.ReplaceAll("\n"+Example, "\n# tls", "\ntls")
		if !strings.Contains(text, "\n"+k.name+":") && k.name != keyPodCacheDir {
			t.Errorf("the example has no %s", k.name)
		}
	}
	if !strings.Contains(Example, keyPodCacheDir) {
		t.Errorf("the example does not mention %s", keyPodCacheDir)
	}
	// Where the example shows a default, it is the default.
	shared := got
	want := Default()
	for _, zero := range []*Config{&shared, &want} {
		zero.WhitelistManifestRegex, zero.LocalRegistryURL, zero.LocalRegistrySecret = ManifestPattern{}, "", ""
		zero.HostnameList, zero.TestingHost, zero.Silos = nil, netip.Addr{}, nil
		zero.AdminTokenHash, zero.TrustedProxies, zero.RateLimits, zero.PodSubnetCIDR = Hash{}, nil, RateLimits{}, nil
		zero.NFSStorageRoot, zero.IngressDomain, zero.IngressWildcardSecret = "", "", ""
		zero.IngressClass, zero.IngressAnnotations = "", nil
		zero.AllowedHosts = nil
		zero.Projects.Image, zero.Projects.Tag, zero.Projects.ProtectedPaths, zero.Projects.Forbid = "", "", nil, nil
		zero.Projects.DataClaim, zero.Projects.SoftwareClaim = "", ""
	}
	if diff := cmp.Diff(want, shared, compare()); diff != "" {
		t.Errorf("defaults of the example (-default +example):\n%s", diff)
	}
	wantSilos := []Silo{
		{
			Name: "silo1", Credentials: Credentials{TokenHash: Hash{set: true}}, HostName: "silo1.example.org",
			SourceNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
			DataAddress:    netip.MustParseAddr("10.2.0.12"), UserDomains: []string{"example.org"}, Projects: true,
		},
		{
			Name: "silo2", Credentials: Credentials{None: true},
			SourceNetworks: []netip.Prefix{netip.MustParsePrefix("fd00::12/128")},
			DataAddress:    netip.MustParseAddr("fd00:2::12"), UserDomains: []string{"*"},
		},
	}
	if diff := cmp.Diff(wantSilos, got.Silos, compare()); diff != "" {
		t.Errorf("silos of the example (-want +got):\n%s", diff)
	}
	wantLimits := RateLimits{PerSilo: RateLimit{PerSecond: 50, Burst: 100}, PerUser: RateLimit{PerSecond: 2, Burst: 10}}
	if diff := cmp.Diff(wantLimits, got.RateLimits); diff != "" {
		t.Errorf("rate limits of the example (-want +got):\n%s", diff)
	}
}

func TestDefaultIsValid(t *testing.T) {
	t.Parallel()
	if faults := Default().Validate(); len(faults) > 0 {
		t.Error(faults)
	}
}

func TestValidateByHand(t *testing.T) {
	t.Parallel()
	c := with(func(c *Config) {
		c.TimeoutDelete = 0
		c.PodSubnetCIDR = []netip.Prefix{{}}
		c.Silos = []Silo{{Credentials: Credentials{None: true, TokenHash: Hash{set: true}}}}
	})
	want := `timeoutDelete: 0s is out of bounds: use 1s to 24h
silos[0].name: is missing: write a name
silos[0].credentials: is none and has a hash: choose one
silos[0].dataAddress: is missing: write the address of the silo in the data network
silos[0].userDomains: is missing: list the domains of its users, or "*" for every user
podSubnetCidr[0]: is missing: write a network like 10.2.0.0/16`
	if diff := cmp.Diff(want, c.Validate().Error()); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// TestRestartKeys changes one key after the other. Those that a running service takes over are not
// named; all others are.
func TestRestartKeys(t *testing.T) {
	t.Parallel()
	taken := map[string]bool{
		"whitelistManifestRegex": true, "hostnameList": true, "testingHost": true, "silos": true, "adminTokenHash": true,
		"trustedProxies": true, "allowedHosts": true, "rateLimits": true, "tlsCertificateFile": true, "tlsKeyFile": true,
	}
	example, _, err := Load("example.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	example.TLSListen, example.TLSCertificateFile, example.TLSKeyFile = ":8443", "tls.crt", "tls.key"
	if names := RestartKeys(example, example); len(names) > 0 {
		t.Errorf("nothing has changed, but %v", names)
	}
	changed := reflect.ValueOf(&example).Elem()
	for i := range changed.NumField() {
		field := changed.Type().Field(i).Name
		after := example
		value := reflect.ValueOf(&after).Elem().Field(i)
		value.SetZero()
		if reflect.DeepEqual(value.Interface(), changed.Field(i).Interface()) {
			t.Errorf("the example does not set %s", field)
		}
		names := RestartKeys(example, after)
		known := slices.IndexFunc(keys(), func(k key) bool { return strings.EqualFold(k.name, field) })
		if known < 0 {
			t.Errorf("no key has the name of %s", field)
			continue
		}
		var want []string
		if name := keys()[known].name; !taken[name] {
			want = []string{name}
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("after a change of %s (-want +got):\n%s", field, diff)
		}
	}
}

func TestHostnameOf(t *testing.T) {
	t.Parallel()
	c := Config{HostnameList: []Hostname{{Hostname: "silo", Address: netip.MustParseAddr("10.0.0.1")}}}
	for address, want := range map[string]string{"10.0.0.1": "silo", "::ffff:10.0.0.1": "silo", "10.0.0.2": ""} {
		if got := c.HostnameOf(netip.MustParseAddr(address)); got != want {
			t.Errorf("HostnameOf(%s) = %q, want %q", address, got, want)
		}
	}
}
