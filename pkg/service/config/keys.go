package config

import (
	"net/netip"
	"reflect"
	"strings"
	"time"
)

// key is one key of the configuration.
type key struct {
	name string
	// read decodes the value of the key into a field, or adds its faults to the source.
	read func(v value, c *Config)
	// of returns what the key has set, to compare two configurations by.
	of func(c *Config) any
	// live marks a key that a running service takes over; others need a restart.
	live bool
	// verbatim keeps the text of an environment variable from being read as YAML.
	verbatim bool
}

const keyPodCacheDir = "podCacheDir"

// keys returns every key. Their names are those of the old backend where it had them.
func keys() []key {
	return []key{
		text("cluster", func(c *Config) *string { return &c.Cluster }),
		text("namespace", func(c *Config) *string { return &c.Namespace }),
		text("logLevel", func(c *Config) *string { return &c.LogLevel }),
		text("defaultRestartPolicy", func(c *Config) *string { return &c.DefaultRestartPolicy }),
		duration("timeoutCreate", func(c *Config) *time.Duration { return &c.TimeoutCreate }),
		duration("timeoutCreateMax", func(c *Config) *time.Duration { return &c.TimeoutCreateMax }),
		duration("timeoutDelete", func(c *Config) *time.Duration { return &c.TimeoutDelete }),
		duration("createDeadline", func(c *Config) *time.Duration { return &c.CreateDeadline }),
		integer("imagePullBackOffs", func(c *Config) *int { return &c.ImagePullBackOffs }),
		duration("resyncInterval", func(c *Config) *time.Duration { return &c.ResyncInterval }),
		duration("logRetention", func(c *Config) *time.Duration { return &c.LogRetention }),
		integer("replicas", func(c *Config) *int { return &c.Replicas }),
		live(key{
			name: "whitelistManifestRegex", read: readManifestPattern, verbatim: true,
			of: func(c *Config) any { return c.WhitelistManifestRegex.String() },
		}),
		text("localRegistryURL", func(c *Config) *string { return &c.LocalRegistryURL }),
		text("localRegistrySecret", func(c *Config) *string { return &c.LocalRegistrySecret }),
		live(key{name: "hostnameList", read: readHostnames, of: func(c *Config) any { return c.HostnameList }}),
		live(key{
			name: "testingHost", read: func(v value, c *Config) { c.TestingHost = v.address() }, verbatim: true,
			of: func(c *Config) any { return c.TestingHost },
		}),

		live(key{name: "silos", read: readSilos, of: func(c *Config) any { return c.Silos }}),
		live(key{
			name: "adminTokenHash", read: func(v value, c *Config) { c.AdminTokenHash = v.hash() }, verbatim: true,
			of: func(c *Config) any { return c.AdminTokenHash },
		}),
		live(networks("trustedProxies", func(c *Config) *[]netip.Prefix { return &c.TrustedProxies })),
		live(key{name: "allowedHosts", read: readAllowedHosts, of: func(c *Config) any { return c.AllowedHosts }}),
		live(key{name: "rateLimits", read: readRateLimits, of: func(c *Config) any { return c.RateLimits }}),
		text("tlsListen", func(c *Config) *string { return &c.TLSListen }),
		live(text("tlsCertificateFile", func(c *Config) *string { return &c.TLSCertificateFile })),
		live(text("tlsKeyFile", func(c *Config) *string { return &c.TLSKeyFile })),
		duration("auditRetention", func(c *Config) *time.Duration { return &c.AuditRetention }),
		duration("sweepInterval", func(c *Config) *time.Duration { return &c.SweepInterval }),

		networks("podSubnetCidr", func(c *Config) *[]netip.Prefix { return &c.PodSubnetCIDR }),
		integer("tokenByteLimit", func(c *Config) *int { return &c.TokenByteLimit }),
		text("nfsStorageRoot", func(c *Config) *string { return &c.NFSStorageRoot }),
		text("ingressDomain", func(c *Config) *string { return &c.IngressDomain }),
		text("ingressWildcardSecret", func(c *Config) *string { return &c.IngressWildcardSecret }),
		text("ingressClass", func(c *Config) *string { return &c.IngressClass }),
		{name: "ingressAnnotations", read: readAnnotations, of: func(c *Config) any { return c.IngressAnnotations }},
		{name: "projects", read: readProjects, of: func(c *Config) any { return c.Projects }},
		{name: keyPodCacheDir, read: func(v value, _ *Config) { v.text() }, verbatim: true, of: func(*Config) any { return nil }},
	}
}

// keyNames returns the names of the keys, in the order of [keys].
func keyNames(all []key) []string {
	names := make([]string, len(all))
	for i, k := range all {
		names[i] = k.name
	}
	return names
}

func live(k key) key {
	k.live = true
	return k
}

// RestartKeys returns the names of the keys whose values differ and that a running service does not
// take over, in the order of the keys: those that need a restart.
func RestartKeys(before, after Config) []string {
	var names []string
	for _, k := range keys() {
		if !k.live && !reflect.DeepEqual(k.of(&before), k.of(&after)) {
			names = append(names, k.name)
		}
	}
	return names
}

func text(name string, field func(*Config) *string) key {
	return key{
		name: name, verbatim: true, read: func(v value, c *Config) { *field(c) = v.text() },
		of: func(c *Config) any { return *field(c) },
	}
}

func integer(name string, field func(*Config) *int) key {
	return key{
		name: name, verbatim: true, read: func(v value, c *Config) { *field(c) = v.integer() },
		of: func(c *Config) any { return *field(c) },
	}
}

func duration(name string, field func(*Config) *time.Duration) key {
	return key{
		name: name, verbatim: true, read: func(v value, c *Config) { *field(c) = v.duration() },
		of: func(c *Config) any { return *field(c) },
	}
}

func networks(name string, field func(*Config) *[]netip.Prefix) key {
	return key{
		name: name, read: func(v value, c *Config) { *field(c) = v.networks() },
		of: func(c *Config) any { return *field(c) },
	}
}

func readManifestPattern(v value, c *Config) {
	pattern, err := ParseManifestPattern(v.text())
	if err != nil {
		v.fault(oneLine(err.Error()) + "; the syntax is https://github.com/google/re2/wiki/Syntax")
		return
	}
	c.WhitelistManifestRegex = pattern
}

func readHostnames(v value, c *Config) {
	c.HostnameList = list(v, "a list of {hostname: NAME, address: ADDRESS}", func(v value) Hostname {
		var h Hostname
		v.object("{hostname: NAME, address: ADDRESS}", map[string]func(value){
			"hostname": func(v value) { h.Hostname = v.text() },
			"address":  func(v value) { h.Address = v.address() },
		})
		return h
	})
}

func readSilos(v value, c *Config) {
	c.Silos = list(v, "a list of silos", func(v value) Silo {
		var s Silo
		v.object("a silo: {name: NAME, credentials: …, …}", map[string]func(value){
			"name":           func(v value) { s.Name = v.text() },
			"credentials":    func(v value) { s.Credentials = readCredentials(v) },
			"sourceNetworks": func(v value) { s.SourceNetworks = v.networks() },
			"hostName":       func(v value) { s.HostName = v.text() },
			"dataAddress":    func(v value) { s.DataAddress = v.address() },
			"projects":       func(v value) { s.Projects = v.boolean() },
			"userDomains":    func(v value) { s.UserDomains = list(v, "a list of domains", value.text) },
		})
		return s
	})
}

// readAllowedHosts reads a list, or one text with commas.
func readAllowedHosts(v value, c *Config) {
	if !v.isScalar() {
		c.AllowedHosts = list(v, "a list of host names", value.text)
		return
	}
	c.AllowedHosts = nil
	for part := range strings.SplitSeq(v.text(), ",") {
		if part = strings.TrimSpace(part); part != "" {
			c.AllowedHosts = append(c.AllowedHosts, part)
		}
	}
}

func readCredentials(v value) Credentials {
	var c Credentials
	if v.isScalar() {
		// The text is not shown: it could be a token in the wrong place.
		if c.None = v.text() == "none"; !c.None {
			v.fault("is neither none nor {tokenHash: HASH} nor {certificateHash: HASH}")
		}
		return c
	}
	v.object("none, {tokenHash: HASH} or {certificateHash: HASH}", map[string]func(value){
		"tokenHash":       func(v value) { c.TokenHash = v.hash() },
		"certificateHash": func(v value) { c.CertificateHash = v.hash() },
	})
	return c
}

func readRateLimits(v value, c *Config) {
	limit := func(into *RateLimit) func(value) {
		return func(v value) {
			v.object("{perSecond: NUMBER, burst: NUMBER}", map[string]func(value){
				"perSecond": func(v value) { into.PerSecond = v.number() },
				"burst":     func(v value) { into.Burst = v.integer() },
			})
		}
	}
	c.RateLimits = RateLimits{}
	v.object("{perSilo: …, perUser: …}", map[string]func(value){
		"perSilo": limit(&c.RateLimits.PerSilo),
		"perUser": limit(&c.RateLimits.PerUser),
	})
}

func readAnnotations(v value, c *Config) {
	c.IngressAnnotations = v.texts("{NAME: TEXT, …}")
}
