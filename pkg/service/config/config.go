// Package config reads and checks the configuration of a site: one file and a set of
// environment variables for all services of Berth.
//
// [Load] reports every fault at once and opens nothing but the file. The keys, their meaning
// and their bounds are described in example.yaml ([Example]).
package config

import (
	"net/netip"
	"time"
)

// Config is the configuration of a site, the same for all services. Values that come from
// [Load] have been checked; whoever fills one by hand starts from [Default] and calls
// [Config.Validate]. A Config is a plain value: it is never changed once it has been loaded,
// so that any number of goroutines may read it.
type Config struct {
	// Cluster names the Kubernetes cluster and namespace to fill, as subjects and records call it.
	Cluster string
	// Namespace is where the pods of the users are made, a DNS-1123 label.
	Namespace string
	// LogLevel is trace, debug, info, warn or error.
	LogLevel string

	// DefaultRestartPolicy is for manifests that have none: Always, OnFailure or Never.
	DefaultRestartPolicy string
	// TimeoutCreate is how long a create may take without progress.
	TimeoutCreate time.Duration
	// TimeoutCreateMax is how long a create may take, progress or not. It is never below TimeoutCreate.
	TimeoutCreateMax time.Duration
	// TimeoutDelete is how long the watcher of a delete waits.
	TimeoutDelete time.Duration
	// CreateDeadline is how long the api waits for the outcome of a create command.
	CreateDeadline time.Duration
	// ImagePullBackOffs is the number of back-offs of an image pull at which the create fails.
	ImagePullBackOffs int
	// ResyncInterval is the time between two comparisons of the log with the cluster.
	ResyncInterval time.Duration
	// LogRetention is how long the history of a pod stays in the log after the pod has gone.
	LogRetention time.Duration
	// Replicas is the number of copies that JetStream keeps of each stream: 1, 3 or 5.
	Replicas int

	// WhitelistManifestRegex says which manifest URLs are allowed. Its zero value allows none.
	WhitelistManifestRegex ManifestPattern
	// LocalRegistryURL takes the place of LOCALREGISTRY in images: host[:port][/path], no scheme.
	LocalRegistryURL string
	// LocalRegistrySecret is the pull secret of pods with an image from that registry.
	LocalRegistrySecret string
	// HostnameList names the silos by their addresses.
	HostnameList []Hostname
	// TestingHost is the silo address assumed for calls from loopback, invalid where none is set.
	TestingHost netip.Addr

	// Silos are the servers that may call. With none, the api serves loopback alone.
	Silos []Silo
	// AdminTokenHash is what the token of an administrator must hash to, empty for no administrator.
	AdminTokenHash Hash
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// AllowedHosts are the names by which callers without credentials may call the api, in lower case
	// and without a port; localhost and addresses are always allowed.
	AllowedHosts []string
	// TLSListen is where the api answers over TLS too, host:port; empty for nowhere.
	TLSListen string
	// TLSCertificateFile and TLSKeyFile are its certificate, with the chain, and its key, in PEM form.
	TLSCertificateFile, TLSKeyFile string
	// AuditRetention is how long audit records are kept.
	AuditRetention time.Duration
	// SweepInterval is the time between two searches for what belongs to no pod.
	SweepInterval time.Duration
	// RateLimits bound the calls of a silo and of a user.
	RateLimits RateLimits
	// PodSubnetCIDR holds the networks of the pods, one a family.
	PodSubnetCIDR []netip.Prefix
	// TokenByteLimit is how many bytes of a token are copied from a pod.
	TokenByteLimit int
	// NFSStorageRoot is the folder that holds the storage of the users, on the silo.
	NFSStorageRoot string
	// IngressDomain is the domain below which pods get their host names.
	IngressDomain string
	// IngressWildcardSecret is the TLS secret of that domain.
	IngressWildcardSecret string
	// IngressClass is the class of the ingresses, empty for the default class of the cluster.
	IngressClass string
	// IngressAnnotations are added to each ingress.
	IngressAnnotations map[string]string
	// Projects is about the pods of projects, and what licenses make of them.
	Projects Projects
}

// Hostname names the silo with an address.
type Hostname struct {
	Hostname string
	Address  netip.Addr
}

// Silo is a server that may call Berth for its users.
type Silo struct {
	// Name is the silo in records, metrics and logs.
	Name string
	// Credentials say how the silo proves who it is.
	Credentials Credentials
	// SourceNetworks are where its calls come from. Empty means anywhere, and needs credentials.
	SourceNetworks []netip.Prefix
	// HostName is what its pods get as HOME_SERVER_HOSTNAME.
	HostName string
	// DataAddress is its address in the data network: HOME_SERVER_IP of its pods, and their NFS server.
	DataAddress netip.Addr
	// UserDomains are the parts after the @ of the users that it may speak for; "*" is every user.
	UserDomains []string
	// Projects says that it may start, stop and look at all projects.
	Projects bool
}

// Credentials of a silo: None, or at least one of the hashes. With both, a caller needs both.
type Credentials struct {
	// None means that the source networks alone identify the silo.
	None bool
	// TokenHash is the SHA-256 of its bearer token.
	TokenHash Hash
	// CertificateHash is the SHA-256 of its client certificate in DER form.
	CertificateHash Hash
}

// RateLimits bound the calls of each silo and of each user.
type RateLimits struct {
	PerSilo, PerUser RateLimit
}

// RateLimit is a token bucket. Its zero value sets no limit.
type RateLimit struct {
	// PerSecond is the lasting rate.
	PerSecond float64
	// Burst is the number of calls that may come at once.
	Burst int
}

const (
	defaultTimeout          = 90 * time.Second
	defaultTimeoutCreateMax = 15 * time.Minute
	defaultCreateDeadline   = 10 * time.Second
	defaultResyncInterval   = 10 * time.Minute
	defaultLogRetention     = 14 * 24 * time.Hour
	defaultAuditRetention   = 90 * 24 * time.Hour
	defaultSweepInterval    = time.Hour
	defaultTokenByteLimit   = 4096
	defaultPullBackOffs     = 3
)

// Default returns the configuration of a site that sets nothing. It is valid, and allows no manifest.
func Default() Config {
	return Config{
		Cluster:              "main",
		Namespace:            "berth",
		LogLevel:             "info",
		DefaultRestartPolicy: "Always",
		TimeoutCreate:        defaultTimeout,
		TimeoutCreateMax:     defaultTimeoutCreateMax,
		TimeoutDelete:        defaultTimeout,
		CreateDeadline:       defaultCreateDeadline,
		ImagePullBackOffs:    defaultPullBackOffs,
		ResyncInterval:       defaultResyncInterval,
		LogRetention:         defaultLogRetention,
		Replicas:             1,
		TokenByteLimit:       defaultTokenByteLimit,
		AuditRetention:       defaultAuditRetention,
		SweepInterval:        defaultSweepInterval,
		Projects:             defaultProjects(),
	}
}

// HostnameOf returns the host name of the silo with the address, "" for an address that
// HostnameList does not know.
func (c Config) HostnameOf(address netip.Addr) string {
	address = address.Unmap()
	for _, known := range c.HostnameList {
		if known.Address == address {
			return known.Hostname
		}
	}
	return ""
}
