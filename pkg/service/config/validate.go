package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate returns every fault of the values, in the order of the keys, without files and lines.
// A configuration without faults can be used as it is.
func (c Config) Validate() Faults {
	v := validator{seen: map[string]bool{}}
	v.check("cluster", clusterName(c.Cluster))
	v.check("namespace", label(c.Namespace))
	v.check("logLevel", choice(c.LogLevel, "trace", "debug", "info", "warn", "error"))
	v.check("defaultRestartPolicy", choice(c.DefaultRestartPolicy, "Always", "OnFailure", "Never"))

	v.between("timeoutCreate", c.TimeoutCreate, time.Second, day)
	v.between("timeoutCreateMax", c.TimeoutCreateMax, time.Second, day)
	if c.TimeoutCreateMax < c.TimeoutCreate {
		v.check("timeoutCreateMax", fmt.Sprintf("%s is less than timeoutCreate, %s: raise it, or leave it out",
			show(c.TimeoutCreateMax), show(c.TimeoutCreate)))
	}
	v.between("timeoutDelete", c.TimeoutDelete, time.Second, day)
	v.between("createDeadline", c.CreateDeadline, time.Second, time.Minute)
	v.within("imagePullBackOffs", c.ImagePullBackOffs, 1, 100)
	v.between("resyncInterval", c.ResyncInterval, 10*time.Second, day)
	v.between("logRetention", c.LogRetention, time.Hour, 3650*day)
	v.check("replicas", choice(strconv.Itoa(c.Replicas), "1", "3", "5"))

	v.optional("localRegistryURL", c.LocalRegistryURL, registry)
	v.optional("localRegistrySecret", c.LocalRegistrySecret, subdomain)
	v.hostnames(c.HostnameList)

	v.silos(c.Silos)
	v.networks("trustedProxies", c.TrustedProxies)
	v.secrets(c)
	for i, host := range c.AllowedHosts {
		v.check(fmt.Sprintf("allowedHosts[%d]", i), hostName(host))
	}
	v.tls(c)
	v.between("auditRetention", c.AuditRetention, time.Hour, 3650*day)
	v.between("sweepInterval", c.SweepInterval, time.Minute, 7*day)
	v.rateLimit("rateLimits.perSilo", c.RateLimits.PerSilo)
	v.rateLimit("rateLimits.perUser", c.RateLimits.PerUser)
	v.networks("podSubnetCidr", c.PodSubnetCIDR)
	v.within("tokenByteLimit", c.TokenByteLimit, 1, 256<<10)
	v.optional("nfsStorageRoot", c.NFSStorageRoot, folder)
	v.optional("ingressDomain", c.IngressDomain, subdomain)
	v.optional("ingressWildcardSecret", c.IngressWildcardSecret, subdomain)
	v.optional("ingressClass", c.IngressClass, subdomain)
	for _, name := range slices.Sorted(maps.Keys(c.IngressAnnotations)) {
		v.check(value{path: "ingressAnnotations"}.below(name), annotationKey(name))
	}
	v.projects(c.Projects)
	return v.faults
}

const day = 24 * time.Hour

// validator collects faults, at most one a path: what follows from the first would only confuse.
type validator struct {
	faults Faults
	seen   map[string]bool
}

// check adds the fault of a message that is not empty.
func (v *validator) check(path, message string) {
	if message == "" || v.seen[path] {
		return
	}
	v.seen[path] = true
	v.faults = append(v.faults, Fault{Path: path, Message: message})
}

// optional checks a value unless it is empty.
func (v *validator) optional(path, text string, wrong func(string) string) {
	if text != "" {
		v.check(path, wrong(text))
	}
}

func (v *validator) between(path string, d, low, high time.Duration) {
	if d < low || d > high {
		v.check(path, fmt.Sprintf("%s is out of bounds: use %s to %s", show(d), show(low), show(high)))
	}
}

func (v *validator) within(path string, n, low, high int) {
	if n < low || n > high {
		v.check(path, fmt.Sprintf("%d is out of bounds: use %d to %d", n, low, high))
	}
}

func (v *validator) networks(path string, all []netip.Prefix) {
	for i, network := range all {
		if !network.IsValid() {
			v.check(fmt.Sprintf("%s[%d]", path, i), "is missing: write a network like 10.2.0.0/16")
		}
	}
}

func (v *validator) rateLimit(path string, limit RateLimit) {
	const most = 1e6
	switch {
	case limit.PerSecond < 0 || limit.PerSecond > most:
		v.check(path+".perSecond", fmt.Sprintf("%g is out of bounds: use 0 (no limit) to %g", limit.PerSecond, most))
	case limit.Burst < 0 || limit.Burst > most:
		v.check(path+".burst", fmt.Sprintf("%d is out of bounds: use 1 to %g", limit.Burst, most))
	case limit.PerSecond > 0 && limit.Burst == 0:
		v.check(path+".burst", "is missing: write how many calls may come at once, at least 1")
	case limit.PerSecond == 0 && limit.Burst > 0:
		v.check(path+".perSecond", "is missing: write how many calls a second may come, or no burst either")
	}
}

func (v *validator) hostnames(all []Hostname) {
	first := map[netip.Addr]int{}
	for i, entry := range all {
		path := fmt.Sprintf("hostnameList[%d]", i)
		v.check(path+".hostname", required(entry.Hostname, "a host name", subdomain))
		if !entry.Address.IsValid() {
			v.check(path+".address", "is missing: write the address of the silo")
			continue
		}
		if other, twice := first[entry.Address]; twice {
			v.check(path+".address", fmt.Sprintf("%s is that of hostnameList[%d] too: remove one", entry.Address, other))
			continue
		}
		first[entry.Address] = i
	}
}

func (v *validator) silos(all []Silo) {
	first := map[string]int{}
	for i, silo := range all {
		path := fmt.Sprintf("silos[%d]", i)
		v.check(path+".name", required(silo.Name, "a name", clusterName))
		if other, twice := first[silo.Name]; twice && silo.Name != "" {
			v.check(path+".name", fmt.Sprintf("%s is that of silos[%d] too: rename one", quote(silo.Name), other))
		}
		first[silo.Name] = i
		v.credentials(path, silo)
		v.networks(path+".sourceNetworks", silo.SourceNetworks)
		v.optional(path+".hostName", silo.HostName, subdomain)
		if !silo.DataAddress.IsValid() {
			v.check(path+".dataAddress", "is missing: write the address of the silo in the data network")
		}
		if len(silo.UserDomains) == 0 {
			v.check(path+".userDomains", `is missing: list the domains of its users, or "*" for every user`)
		}
		for j, domain := range silo.UserDomains {
			v.check(fmt.Sprintf("%s.userDomains[%d]", path, j), userDomain(domain))
		}
		v.overlap(all, i)
	}
}

func (v *validator) credentials(path string, silo Silo) {
	hashed := !silo.Credentials.TokenHash.IsZero() || !silo.Credentials.CertificateHash.IsZero()
	switch {
	case silo.Credentials.None && hashed:
		v.check(path+".credentials", "is none and has a hash: choose one")
	case !silo.Credentials.None && !hashed:
		v.check(path+".credentials", "is missing: write {tokenHash: HASH}, {certificateHash: HASH}, or none")
	case silo.Credentials.None && len(silo.SourceNetworks) == 0:
		v.check(path+".sourceNetworks", "is missing: without credentials it is all that tells the silo from others")
	}
}

// secrets refuses one secret for two callers: it would be luck who they are.
func (v *validator) secrets(c Config) {
	tokens, certificates := map[Hash]string{}, map[Hash]string{}
	once := func(known map[Hash]string, hash Hash, path string) {
		if hash.IsZero() {
			return
		}
		if other, twice := known[hash]; twice {
			v.check(path, "is that of "+other+" too: give each a secret of its own")
			return
		}
		known[hash] = path
	}
	for i, silo := range c.Silos {
		path := fmt.Sprintf("silos[%d].credentials", i)
		once(tokens, silo.Credentials.TokenHash, path+".tokenHash")
		once(certificates, silo.Credentials.CertificateHash, path+".certificateHash")
	}
	once(tokens, c.AdminTokenHash, "adminTokenHash")
}

// tls checks the keys of the TLS listener, which make sense together alone. The files are opened by the api.
func (v *validator) tls(c Config) {
	if c.TLSListen == "" {
		if c.TLSCertificateFile != "" || c.TLSKeyFile != "" {
			v.check("tlsListen", "is missing: write where to answer over TLS, like :8443, or remove tlsCertificateFile and tlsKeyFile")
		}
		for i, silo := range c.Silos {
			if !silo.Credentials.CertificateHash.IsZero() {
				v.check(fmt.Sprintf("silos[%d].credentials.certificateHash", i),
					"is of no use without TLS: set tlsListen, tlsCertificateFile and tlsKeyFile")
			}
		}
		return
	}
	v.check("tlsListen", listenAddress(c.TLSListen))
	if c.TLSCertificateFile == "" {
		v.check("tlsCertificateFile", "is missing: write the file that holds the certificate of tlsListen")
	}
	if c.TLSKeyFile == "" {
		v.check("tlsKeyFile", "is missing: write the file that holds the key of tlsCertificateFile")
	}
}

// overlap refuses an address that would be two silos without credentials.
func (v *validator) overlap(all []Silo, i int) {
	if !all[i].Credentials.None {
		return
	}
	for j, other := range all[:i] {
		if !other.Credentials.None {
			continue
		}
		for n, network := range all[i].SourceNetworks {
			if slices.ContainsFunc(other.SourceNetworks, network.Overlaps) {
				v.check(fmt.Sprintf("silos[%d].sourceNetworks[%d]", i, n),
					fmt.Sprintf("%s overlaps with silos[%d], and neither has credentials: narrow one", network, j))
			}
		}
	}
}

// required checks a value that may not be empty.
func required(text, what string, wrong func(string) string) string {
	if text == "" {
		return "is missing: write " + what
	}
	return wrong(text)
}

// show returns a duration as people write it: 2m, not 2m0s.
func show(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
