package service

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
)

// Identity says who speaks in logs, metrics, traces, events and leases.
type Identity struct {
	// Service is the name of the service, like creator.
	Service string
	// Instance tells the replicas of a service apart, also those of one host or one process.
	Instance string
	// Version is that of the program.
	Version string
}

// NewIdentity returns the identity of a new instance of the service: its Instance is
// hostname-pid-random, of letters, digits and "-", at most 63 characters.
func NewIdentity(service string) Identity {
	const maxHost = 40
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	host = regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(host, "-")
	host = strings.Trim(host[:min(len(host), maxHost)], "-")
	random := make([]byte, 3)
	_, _ = rand.Read(random) // It never fails: it ends the program instead.
	return Identity{
		Service:  service,
		Instance: host + "-" + strconv.Itoa(os.Getpid()) + "-" + hex.EncodeToString(random),
		Version:  Version(),
	}
}

// Version returns the version that the program was built from: that of its module, else the
// revision of the source with "-dirty" where it was changed, else "unknown".
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	const shown = 12
	revision, dirty := "", ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			revision = setting.Value[:min(len(setting.Value), shown)]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return "unknown"
	}
	return revision + dirty
}
