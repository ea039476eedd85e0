// Package kubename knows which names Kubernetes takes, for what a license writes into a
// pod: with a wrong one the API server refuses the whole pod.
package kubename

import (
	"regexp"
	"strings"
)

const (
	maxName   = 63
	maxDomain = 253
)

var (
	name   = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
	domain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// Key reports whether a text can be the key of a label or of a taint: a name, or
// domain/name.
func Key(text string) bool {
	before, after, qualified := strings.Cut(text, "/")
	if !qualified {
		return isName(before)
	}
	return isDomain(before) && isName(after)
}

// Value reports whether a text can be the value of a label or of a taint. It may be empty.
func Value(text string) bool { return text == "" || isName(text) }

// Device reports whether a text can be the resource by which a node offers devices:
// domain/name. What has no domain, as cpu and memory, or the one of Kubernetes, is
// something else than a device.
func Device(text string) bool {
	before, after, qualified := strings.Cut(text, "/")
	const quotas = "requests." // Kubernetes puts it before the name in a resource quota.
	return qualified && isDomain(quotas+before) && isName(after) &&
		!strings.HasPrefix(before, quotas) && !strings.HasSuffix(before, "kubernetes.io")
}

func isName(text string) bool { return len(text) <= maxName && name.MatchString(text) }

func isDomain(text string) bool { return len(text) <= maxDomain && domain.MatchString(text) }
