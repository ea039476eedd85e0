package access

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"berth/pkg/events"
	"berth/pkg/service/config"
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func hash(secret string) config.Hash { return config.Sum([]byte(secret)) }

// site has a silo of each kind.
func site() config.Config {
	c := config.Default()
	c.AdminTokenHash = hash("admin")
	c.TrustedProxies = prefixes("10.9.0.0/24", "fd09::/64")
	c.AllowedHosts = []string{"berth.example.org"}
	c.HostnameList = []config.Hostname{
		{Hostname: "listed.example.org", Address: netip.MustParseAddr("10.1.0.7")},
		{Hostname: "data.example.org", Address: netip.MustParseAddr("10.2.0.4")},
	}
	c.TLSListen, c.TLSCertificateFile, c.TLSKeyFile = ":0", "c", "k"
	c.Silos = []config.Silo{
		{
			Name: "token", Credentials: config.Credentials{TokenHash: hash("one")}, SourceNetworks: prefixes("10.0.0.0/24", "fd00::/64"),
			HostName: "one.example.org", DataAddress: netip.MustParseAddr("10.2.0.1"), UserDomains: []string{"example.org", "other.org"},
		},
		{
			Name: "anywhere", Credentials: config.Credentials{TokenHash: hash("two")},
			DataAddress: netip.MustParseAddr("10.2.0.4"), UserDomains: []string{"two.org"},
		},
		{
			Name: "certificate", Credentials: config.Credentials{CertificateHash: hash("cert")},
			DataAddress: netip.MustParseAddr("10.2.0.2"), UserDomains: []string{"*"},
		},
		{
			Name: "both", Credentials: config.Credentials{TokenHash: hash("three"), CertificateHash: hash("cert3")},
			DataAddress: netip.MustParseAddr("10.2.0.3"), UserDomains: []string{"*"},
		},
		{
			Name: "none", Credentials: config.Credentials{None: true}, SourceNetworks: prefixes("10.1.0.0/24"),
			DataAddress: netip.MustParseAddr("10.2.0.5"), UserDomains: []string{"none.org"},
		},
	}
	if faults := c.Validate(); len(faults) > 0 {
		panic(faults)
	}
	return c
}

func ask(tb testing.TB, from string, change ...func(*http.Request)) *http.Request {
	tb.Helper()
	r := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, "/get_pods", http.NoBody)
	r.RemoteAddr, r.Host = from, "10.0.0.99:8080"
	for _, f := range change {
		f(r)
	}
	return r
}

func token(text string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add("Authorization", "Bearer "+text) }
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

func host(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }

// certificate is one that the client has proved to have the key of, in the DER form given.
func certificate(der string, valid time.Duration) func(*http.Request) {
	return func(r *http.Request) {
		now := time.Now()
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Raw: []byte(der), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(valid)}}}
	}
}

// denied returns the status and the reason of a denial, and 0 for none.
func denied(tb testing.TB, err error) (int, events.Reason) {
	tb.Helper()
	if err == nil {
		return 0, ""
	}
	d, ok := errors.AsType[*Denial](err)
	if !ok {
		tb.Fatalf("error %v is no denial", err)
	}
	return d.Status, d.Reason
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		r       *http.Request
		silo    string
		host    string
		address string
		admin   bool
		status  int
	}{
		"by token":                           {r: ask(t, "10.0.0.7:1", token("one")), silo: "token", host: "one.example.org", address: "10.0.0.7"},
		"by token over IPv6":                 {r: ask(t, "[fd00::7]:1", token("one")), silo: "token", host: "one.example.org", address: "fd00::7"},
		"the scheme in any case":             {r: ask(t, "10.0.0.7:1", header("Authorization", "bearer one")), silo: "token", host: "one.example.org", address: "10.0.0.7"},
		"a mapped address":                   {r: ask(t, "[::ffff:10.0.0.7]:1", token("one")), silo: "token", host: "one.example.org", address: "10.0.0.7"},
		"by token, from anywhere":            {r: ask(t, "192.0.2.1:1", token("two")), silo: "anywhere", host: "data.example.org", address: "192.0.2.1"},
		"by token under any name":            {r: ask(t, "192.0.2.1:1", token("two"), host("evil.example")), silo: "anywhere", host: "data.example.org", address: "192.0.2.1"},
		"by token, where another has none":   {r: ask(t, "10.1.0.7:1", token("two")), silo: "anywhere", host: "listed.example.org", address: "10.1.0.7"},
		"by token, from elsewhere":           {r: ask(t, "192.0.2.1:1", token("one")), status: 403},
		"by token, from nowhere":             {r: ask(t, "@", token("one")), status: 403},
		"a wrong token":                      {r: ask(t, "10.0.0.7:1", token("on")), status: 401},
		"a wrong token where none is needed": {r: ask(t, "10.1.0.7:1", token("on")), status: 401},
		"the hash for a token":               {r: ask(t, "10.0.0.7:1", token("7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed")), status: 401},
		"two tokens":                         {r: ask(t, "10.0.0.7:1", token("one"), token("two")), status: 401},
		"a password":                         {r: ask(t, "10.0.0.7:1", header("Authorization", "Basic b25l")), status: 401},
		"an empty token":                     {r: ask(t, "10.0.0.7:1", header("Authorization", "Bearer ")), status: 401},
		"an empty header":                    {r: ask(t, "10.0.0.7:1", header("Authorization", "")), status: 401},
		"an endless token":                   {r: ask(t, "10.0.0.7:1", token(strings.Repeat("a", maxToken+1))), status: 401},
		"nothing":                            {r: ask(t, "10.0.0.7:1"), status: 401},
		"nothing, from this machine":         {r: ask(t, "127.0.0.1:1"), status: 401},

		"by certificate":                    {r: ask(t, "192.0.2.1:1", certificate("cert", time.Hour)), silo: "certificate", address: "192.0.2.1"},
		"a certificate that is over":        {r: ask(t, "192.0.2.1:1", certificate("cert", -time.Second)), status: 401},
		"another's certificate":             {r: ask(t, "192.0.2.1:1", certificate("other", time.Hour)), status: 401},
		"another's where none is needed":    {r: ask(t, "10.1.0.7:1", certificate("other", time.Hour)), silo: "none", host: "listed.example.org", address: "10.1.0.7"},
		"both":                              {r: ask(t, "192.0.2.1:1", certificate("cert3", time.Hour), token("three")), silo: "both", address: "192.0.2.1"},
		"one of both, the token":            {r: ask(t, "192.0.2.1:1", token("three")), status: 401},
		"one of both, the certificate":      {r: ask(t, "192.0.2.1:1", certificate("cert3", time.Hour)), status: 401},
		"one of both, and another's":        {r: ask(t, "192.0.2.1:1", certificate("cert3", time.Hour), token("guessed")), status: 401},
		"a certificate and a wrong token":   {r: ask(t, "192.0.2.1:1", certificate("cert", time.Hour), token("admin")), silo: "certificate", address: "192.0.2.1", admin: true},
		"by address":                        {r: ask(t, "10.1.0.8:1"), silo: "none", address: "10.1.0.8"},
		"by address under an allowed name":  {r: ask(t, "10.1.0.8:1", host("Berth.example.org:443")), silo: "none", address: "10.1.0.8"},
		"by address under any name":         {r: ask(t, "10.1.0.8:1", host("evil.example")), status: 403},
		"by address under none":             {r: ask(t, "10.1.0.8:1", host("")), status: 403},
		"an administrator from nowhere":     {r: ask(t, "192.0.2.1:1", token("admin")), address: "192.0.2.1", admin: true},
		"an administrator of a silo":        {r: ask(t, "10.1.0.8:1", token("admin"), host("evil.example")), silo: "none", address: "10.1.0.8", admin: true},
		"through a proxy":                   {r: ask(t, "10.9.0.1:1", header("X-Forwarded-For", "10.1.0.8")), silo: "none", address: "10.1.0.8"},
		"through two proxies":               {r: ask(t, "10.9.0.1:1", header("X-Forwarded-For", "10.1.0.8"), header("X-Forwarded-For", "10.9.0.2, fd09::1")), silo: "none", address: "10.1.0.8"},
		"what the client wrote":             {r: ask(t, "10.9.0.1:1", header("X-Forwarded-For", "10.1.0.8, 192.0.2.1")), status: 401},
		"what the client wrote, with token": {r: ask(t, "10.9.0.1:1", header("X-Forwarded-For", "10.1.0.8, nonsense, 192.0.2.1"), token("two")), silo: "anywhere", host: "data.example.org", address: "192.0.2.1"},
		"a stranger plays proxy":            {r: ask(t, "192.0.2.1:1", header("X-Forwarded-For", "10.1.0.8")), status: 401},
		"a proxy that writes nonsense":      {r: ask(t, "10.9.0.1:1", header("X-Forwarded-For", "unknown"), token("two")), status: 400},
		"a proxy that writes nothing":       {r: ask(t, "10.9.0.1:1", header("X-Forwarded-For", ""), token("two")), status: 400},
		"a proxy by itself":                 {r: ask(t, "10.9.0.1:1", token("two")), silo: "anywhere", host: "data.example.org", address: "10.9.0.1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := New(site(), time.Now).Admit(tt.r)
			if status, _ := denied(t, err); status != tt.status {
				t.Fatalf("Admit = %v, want status %d", err, tt.status)
			}
			if tt.status != 0 {
				if d := cmp.Diff(Caller{}, c, cmp.AllowUnexported(Caller{}, users{}), cmpopts.EquateComparable(netip.Addr{})); d != "" {
					t.Errorf("a caller who is denied (-want +got):\n%s", d)
				}
				return
			}
			if c.Silo.Name != tt.silo || c.Address.String() != tt.address || c.Admin != tt.admin || c.Silo.HostName != tt.host {
				t.Errorf("caller = %+v; want silo %q, host name %q, address %s, admin %t", c, tt.silo, tt.host, tt.address, tt.admin)
			}
		})
	}
}

// TestLoopback is a site without silos.
func TestLoopback(t *testing.T) {
	t.Parallel()
	plainSite, admins, proxied := config.Default(), config.Default(), config.Default()
	plainSite.TestingHost = netip.MustParseAddr("10.2.0.9")
	plainSite.HostnameList = []config.Hostname{{Hostname: "nine.example.org", Address: netip.MustParseAddr("10.2.0.9")}}
	admins.AdminTokenHash = hash("admin")
	proxied.TrustedProxies = prefixes("127.0.0.0/8")
	loopback := events.Silo{Name: Loopback, DataAddress: "127.0.0.1"}
	tests := map[string]struct {
		config config.Config
		r      *http.Request
		want   events.Silo
		admin  bool
		status int
	}{
		"a caller":                    {config: plainSite, r: ask(t, "127.0.0.1:1"), want: events.Silo{Name: Loopback, DataAddress: "10.2.0.9", HostName: "nine.example.org"}},
		"a caller over IPv6":          {r: ask(t, "[::1]:1"), want: events.Silo{Name: Loopback, DataAddress: "::1"}},
		"any header means nothing":    {r: ask(t, "127.0.0.1:1", header("Authorization", "Basic x")), want: loopback},
		"from elsewhere":              {r: ask(t, "10.0.0.1:1"), status: 403},
		"from elsewhere, by proxy":    {r: ask(t, "10.0.0.1:1", header("X-Forwarded-For", "127.0.0.1")), status: 403},
		"under another name":          {r: ask(t, "127.0.0.1:1", host("evil.example:8080")), status: 403},
		"a stranger behind a proxy":   {config: proxied, r: ask(t, "127.0.0.1:1", header("X-Forwarded-For", "192.0.2.1")), status: 403},
		"an administrator":            {config: admins, r: ask(t, "127.0.0.1:1", token("admin")), want: loopback, admin: true},
		"a wrong administrator":       {config: admins, r: ask(t, "127.0.0.1:1", token("guess")), status: 401},
		"an administrator, elsewhere": {config: admins, r: ask(t, "10.0.0.1:1", token("admin")), status: 403},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.config.Cluster == "" {
				tt.config = config.Default()
			}
			g := New(tt.config, time.Now)
			c, err := g.Admit(tt.r)
			if status, _ := denied(t, err); status != tt.status {
				t.Fatalf("Admit = %v, want status %d", err, tt.status)
			}
			if d := cmp.Diff(tt.want, c.Silo); d != "" || c.Admin != tt.admin {
				t.Errorf("admin %t; silo (-want +got):\n%s", c.Admin, d)
			}
			if err := g.User(c, "anybody@anywhere.org"); tt.status == 0 && err != nil {
				t.Errorf("User = %v", err)
			}
		})
	}
}

// TestSiloOfAName: a silo is found by its name as its own calls have it, and nothing else is.
func TestSiloOfAName(t *testing.T) {
	t.Parallel()
	loopback := config.Default()
	tests := map[string]struct {
		config config.Config
		r      *http.Request
		name   string
		host   string
		known  bool
	}{
		"the caller's own":        {site(), ask(t, "10.1.0.8:1", token("admin")), "none", "", true},
		"another":                 {site(), ask(t, "10.1.0.8:1", token("admin")), "anywhere", "data.example.org", true},
		"any, from nowhere":       {site(), ask(t, "192.0.2.1:1", token("admin")), "anywhere", "data.example.org", true},
		"none, from nowhere":      {site(), ask(t, "192.0.2.1:1", token("admin")), "", "", false},
		"no silo":                 {site(), ask(t, "192.0.2.1:1", token("admin")), "nobody", "", false},
		"in another case":         {site(), ask(t, "192.0.2.1:1", token("admin")), "Anywhere", "", false},
		"the loopback":            {loopback, ask(t, "127.0.0.1:1"), Loopback, "", true},
		"the loopback of another": {site(), ask(t, "10.1.0.8:1"), Loopback, "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := New(tt.config, time.Now)
			c, err := g.Admit(tt.r)
			if err != nil {
				t.Fatal(err)
			}
			got, known := g.Silo(c, tt.name)
			if known != tt.known || known && (got.Name != tt.name || got.HostName != tt.host || got.DataAddress == "") || !known && got != (events.Silo{}) {
				t.Errorf("Silo(%q) = %+v, %t; want host name %q, %t", tt.name, got, known, tt.host, tt.known)
			}
		})
	}
}

// TestHostOfAWebPage: a page whose name points to this machine is no silo.
func TestHostOfAWebPage(t *testing.T) {
	t.Parallel()
	p := newPolicy(site())
	for host, want := range map[string]bool{
		"localhost": true, "localhost:8080": true, "LocalHost": true, "127.0.0.1:8080": true, "[::1]:8080": true, "::1": true,
		"berth.example.org": true, "BERTH.example.org:80": true,
		"evil.example:8080": false, "evil.example": false, "": false, "localhost.evil.example": false, "x.berth.example.org": false,
	} {
		if got := p.mayCall(host); got != want {
			t.Errorf("mayCall(%q) = %t, want %t", host, got, want)
		}
	}
}

func TestMayName(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		domains []string
		yes, no []string
	}{
		"one":  {[]string{"example.org"}, []string{"a@example.org"}, []string{"a@x.example.org", "a@example.org.evil", "example.org", "a", "@", "", "a@", "project:1"}},
		"two":  {[]string{"a.org", "b.org"}, []string{"x@a.org", "x@b.org"}, []string{"x@c.org", "x@a.org@c.org"}},
		"all":  {[]string{"*"}, []string{"a@b", "a"}, []string{"project:1"}},
		"none": {nil, nil, []string{"a@b", "a", "", "a@*"}},
		"star": {[]string{"a.org", "*"}, []string{"x@y"}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Caller{users: usersOf(tt.domains)}
			for _, user := range tt.yes {
				if !c.MayName(user) {
					t.Errorf("may not name %q", user)
				}
			}
			for _, user := range tt.no {
				if c.MayName(user) {
					t.Errorf("may name %q", user)
				}
			}
		})
	}
	if (Caller{}).MayName("a@b") || (Caller{Admin: true}).MayName("a@b") {
		t.Error("the zero Caller, or an administrator of no silo, may name somebody")
	}
	c := Caller{Admin: true}
	if got := From(With(t.Context(), c)); !got.Admin || From(t.Context()).Admin {
		t.Errorf("From = %+v", got)
	}
}

// TestForeignUser: the denial says nothing about the user.
func TestForeignUser(t *testing.T) {
	t.Parallel()
	g := New(site(), time.Now)
	c, err := g.Admit(ask(t, "10.0.0.7:1", token("one")))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.User(c, "alice@example.org"); err != nil {
		t.Error(err)
	}
	var first *Denial
	for _, user := range []string{"bob@two.org", "nobody@nowhere.org", "bob"} {
		d, ok := errors.AsType[*Denial](g.User(c, user))
		if !ok || !d.Foreign || d.Status != 403 {
			t.Errorf("User(%q) = %+v", user, d)
			continue
		}
		if first == nil {
			first = d
		}
		if diff := cmp.Diff(first, d, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("the denial of %s (-first +this):\n%s", user, diff)
		}
	}
}

// clock is one that a test sets.
type clock struct{ now time.Time }

func TestRates(t *testing.T) {
	t.Parallel()
	cfg := site()
	cfg.RateLimits = config.RateLimits{PerSilo: config.RateLimit{PerSecond: 2, Burst: 4}, PerUser: config.RateLimit{PerSecond: 1, Burst: 2}}
	c := &clock{now: time.Unix(1e9, 0)}
	g := New(cfg, func() time.Time { return c.now })
	admit := func(secret string) error {
		_, err := g.Admit(ask(t, "10.0.0.7:1", token(secret)))
		return err
	}
	for i := range 4 {
		if err := admit("one"); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	d, ok := errors.AsType[*Denial](admit("one"))
	if !ok || d.Status != 429 || d.Reason != events.RateLimited || d.RetryAfter != 500*time.Millisecond || d.Foreign {
		t.Fatalf("the fifth call: %+v", d)
	}
	if err := admit("two"); err != nil {
		t.Errorf("another silo: %v", err)
	}
	g.Reload(cfg)
	if err := admit("one"); err == nil {
		t.Error("a reload has given the silo another burst")
	}
	c.now = c.now.Add(d.RetryAfter)
	if err := admit("one"); err != nil {
		t.Errorf("after Retry-After: %v", err)
	}

	one, two := Caller{Silo: events.Silo{Name: "token"}, users: users{all: true}}, Caller{Silo: events.Silo{Name: "anywhere"}, users: users{all: true}}
	for range 2 {
		if err := g.User(one, "alice@example.org"); err != nil {
			t.Fatal(err)
		}
	}
	d, ok = errors.AsType[*Denial](g.User(one, "alice@example.org"))
	if !ok || d.Status != 429 || d.RetryAfter != time.Second {
		t.Errorf("the third of a user: %+v", d)
	}
	if err := errors.Join(g.User(one, "bob@example.org"), g.User(two, "alice@example.org")); err != nil {
		t.Errorf("another user, and the same of another silo: %v", err)
	}
	c.now = c.now.Add(time.Second)
	if err := g.User(one, "alice@example.org"); err != nil {
		t.Error(err)
	}

	// Without limits, and for silos that are no more, nothing is kept.
	cfg.RateLimits, cfg.Silos = config.RateLimits{}, cfg.Silos[1:]
	g.Reload(cfg)
	for range 100 {
		if err := errors.Join(admit("two"), g.User(two, "alice@example.org")); err != nil {
			t.Fatal(err)
		}
	}
	if err := admit("one"); err == nil {
		t.Error("a silo that was removed is admitted")
	}
	if len(g.rates.silos) != len(cfg.Silos) || len(g.rates.silos["anywhere"].users) != 0 {
		t.Errorf("rates are kept: %+v", g.rates.silos)
	}
}

// TestDenialsForTheAudit: whose credentials a request has that is denied, and where it is from.
func TestDenialsForTheAudit(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		r             *http.Request
		silo, address string
	}{
		"a token from elsewhere":                 {ask(t, "192.0.2.1:1", token("one")), "token", "192.0.2.1"},
		"a token from elsewhere, behind a proxy": {ask(t, "10.9.0.1:1", token("one"), header("X-Forwarded-For", "192.0.2.1")), "token", "192.0.2.1"},
		"half of what is needed":                 {ask(t, "192.0.2.1:1", token("three")), "both", "192.0.2.1"},
		"the other half":                         {ask(t, "192.0.2.1:1", certificate("cert3", time.Hour)), "both", "192.0.2.1"},
		"a certificate that has expired":         {ask(t, "192.0.2.1:1", certificate("cert", -time.Minute)), "certificate", "192.0.2.1"},
		"a stranger":                             {ask(t, "192.0.2.1:1", token("guessed")), "", "192.0.2.1"},
		"a network, but a strange name":          {ask(t, "10.1.0.7:1", host("evil.example")), "", "10.1.0.7"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(site(), time.Now).Admit(tt.r)
			d, ok := errors.AsType[*Denial](err)
			if !ok || d.Silo != tt.silo || d.Address.String() != tt.address {
				t.Errorf("denial = %+v, want of %q at %s", d, tt.silo, tt.address)
			}
		})
	}
}

// TestRequestsUnderWay: a silo has so many, and another one its own.
func TestRequestsUnderWay(t *testing.T) {
	t.Parallel()
	g := New(site(), time.Now)
	g.open.most = 2
	one, two := Caller{Silo: events.Silo{Name: "token"}}, Caller{Silo: events.Silo{Name: "anywhere"}}
	var leaves []func()
	for _, c := range []Caller{one, one, two} {
		leave, err := g.Enter(c)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leave)
	}
	_, err := g.Enter(one)
	if d, ok := errors.AsType[*Denial](err); !ok || d.Status != 429 || d.Reason != events.RateLimited || d.RetryAfter <= 0 || d.Silo != "token" {
		t.Errorf("the third: %+v", d)
	}
	leaves[0]()
	leave, err := g.Enter(one)
	if err != nil {
		t.Fatal(err)
	}
	for _, leave := range append(leaves[1:], leave) {
		leave()
	}
	if len(g.open.silos) != 0 {
		t.Errorf("requests are kept: %v", g.open.silos)
	}
}

// TestRenewChargesNothing: a stream asks as often as it likes who it is for.
func TestRenewChargesNothing(t *testing.T) {
	t.Parallel()
	cfg := site()
	cfg.RateLimits.PerSilo = config.RateLimit{PerSecond: 0.001, Burst: 1}
	g := New(cfg, time.Now)
	for range 10 {
		if c, _, err := g.Renew(ask(t, "10.0.0.7:1", token("one"))); err != nil || c.Silo.Name != "token" {
			t.Fatalf("Renew = %+v, %v", c, err)
		}
	}
	_, changed, err := g.Renew(ask(t, "10.0.0.7:1", token("guessed")))
	if status, _ := denied(t, err); status != 401 {
		t.Errorf("a stranger: %v", err)
	}
	select {
	case <-changed:
		t.Error("changed before a reload")
	default:
	}
	if _, err := g.Admit(ask(t, "10.0.0.7:1", token("one"))); err != nil {
		t.Error(err)
	}
	g.Reload(cfg)
	<-changed
}

// TestRatesAreBounded: whatever users a silo names, so many are remembered.
func TestRatesAreBounded(t *testing.T) {
	t.Parallel()
	cfg := site()
	cfg.RateLimits.PerUser = config.RateLimit{PerSecond: 1, Burst: 1}
	g := New(cfg, time.Now)
	c := Caller{Silo: events.Silo{Name: "token"}, users: users{all: true}}
	for i := range maxUsers + 100 {
		if err := g.User(c, "user"+strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	if s := g.rates.silos["token"]; len(s.users) != maxUsers || s.recent.Len() != maxUsers {
		t.Errorf("%d users in the map and %d in the list, want %d", len(s.users), s.recent.Len(), maxUsers)
	}
}

// TestReloadWhileAsked: a request sees one configuration or the other.
func TestReloadWhileAsked(t *testing.T) {
	t.Parallel()
	first, second := site(), site()
	second.Silos[0].Credentials.TokenHash = hash("new")
	g := New(first, time.Now)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for n := range 200 {
				if i == 0 {
					g.Reload([]config.Config{first, second}[n%2])
					continue
				}
				_, old := g.Admit(ask(t, "10.0.0.7:1", token("one")))
				if status, _ := denied(t, old); status != 0 && status != 401 {
					t.Errorf("Admit = %v", old)
				}
			}
		})
	}
	group.Wait()
	g.Reload(second)
	if _, err := g.Admit(ask(t, "10.0.0.7:1", token("one"))); err == nil {
		t.Error("the old token still counts")
	}
	if c, err := g.Admit(ask(t, "10.0.0.7:1", token("new"))); err != nil || c.Silo.Name != "token" {
		t.Errorf("the new token: %+v, %v", c, err)
	}
}

// FuzzForwarded: an address comes from a proxy's own words or from the peer, never from what a client wrote.
func FuzzForwarded(f *testing.F) {
	for _, seed := range []string{"", "10.1.0.8", "10.1.0.8, 10.9.0.1", "[fd00::1]:80", "1.2.3.4:80", "fe80::1%eth0", "::ffff:10.1.0.8", ",", ", ,", "unknown", "10.1.0.8,evil", "[", "]:1", strings.Repeat("10.9.0.1,", 1000)} {
		f.Add("10.9.0.1:1", seed)
		f.Add("192.0.2.1:1", seed)
	}
	proxies := prefixes("10.9.0.0/24")
	f.Fuzz(func(t *testing.T, peer, written string) {
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {written}}}
		direct, err := clientAddress(&http.Request{RemoteAddr: peer}, proxies)
		if err != nil {
			t.Fatalf("without the header: %v", err)
		}
		got, err := clientAddress(r, proxies)
		switch {
		case err != nil:
			if !trusted(direct, proxies) {
				t.Errorf("a stranger's header is read: %v", err)
			}
		case got.Is4In6() || got.Zone() != "":
			t.Errorf("address %s is not in its one form", got)
		case !trusted(direct, proxies) && got != direct:
			t.Errorf("peer %s counts as %s", direct, got)
		}
		// What is put in front by a client that the proxy has seen changes nothing.
		behind := &http.Request{RemoteAddr: "10.9.0.1:1", Header: http.Header{"X-Forwarded-For": {written, "192.0.2.77"}}}
		if got, err := clientAddress(behind, proxies); err != nil || got != netip.MustParseAddr("192.0.2.77") {
			t.Errorf("behind the proxy: %s, %v", got, err)
		}
	})
}

// FuzzAuthorization: no header makes an administrator or a silo but the right one.
func FuzzAuthorization(f *testing.F) {
	for _, seed := range []string{"Bearer one", "bearer  one ", "Basic b25l", "Bearer", "Bearer \x00", "Bearer one two", "one", "Bearer " + strings.Repeat("a", 5000)} {
		f.Add(seed)
	}
	g := New(site(), time.Now)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := g.Admit(ask(t, "192.0.2.1:1", header("Authorization", text)))
		if err != nil {
			if status, _ := denied(t, err); status != 401 && status != 403 {
				t.Errorf("Admit = %v", err)
			}
			return
		}
		scheme, token, _ := strings.Cut(text, " ")
		token = strings.Trim(token, " ")
		if !strings.EqualFold(scheme, "bearer") || (token == "admin") != c.Admin || (token == "two") != (c.Silo.Name == "anywhere") {
			t.Errorf("%q is %+v", text, c)
		}
	})
}
