package config

import (
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The functions here return what is wrong with a value, as a message with the fix, or "".

const (
	// The syntax of names in Kubernetes: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
	labelSyntax     = `[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`
	subdomainSyntax = labelSyntax + `(\.` + labelSyntax + `)*`
	maxSubdomain    = 253
	maxLabel        = 63
)

// isPlainName tells whether a name of a key can be shown as it is.
func isPlainName(name string) bool {
	return matches(`[A-Za-z_][A-Za-z0-9_-]{0,62}`, name)
}

// showName returns the name of a variable so that it fits on one line.
func showName(name string) string {
	if isPlainName(name) {
		return name
	}
	return quote(name)
}

// clusterName wants what stays itself as a token of a subject.
func clusterName(name string) string {
	if matches(`[A-Za-z0-9][A-Za-z0-9_-]{0,62}`, name) {
		return ""
	}
	return quote(name) + ` is no cluster name: use at most 63 letters, digits, "-" and "_", with a letter or digit first`
}

// label wants a DNS-1123 label.
func label(name string) string {
	if len(name) <= maxLabel && matches(labelSyntax, name) {
		return ""
	}
	return quote(name) + ` is no DNS label: use at most 63 of a-z, 0-9 and "-", with a letter or digit at both ends`
}

// subdomain wants a DNS-1123 subdomain, which names of objects and hosts are.
func subdomain(name string) string {
	if len(name) <= maxSubdomain && matches(subdomainSyntax, name) {
		return ""
	}
	return quote(name) + ` is no DNS name: use labels of a-z, 0-9 and "-" with dots between them, at most 253 characters`
}

// userDomain wants a domain, or the star that stands for all.
func userDomain(name string) string {
	if name == "*" {
		return ""
	}
	if strings.HasPrefix(name, "@") {
		return quote(name) + " begins with @: write the domain alone, or * for every user"
	}
	return subdomain(name)
}

// hostName wants the name of a host as it stands in a URL, without a port.
func hostName(name string) string {
	if lower := strings.ToLower(name); lower != name && subdomain(lower) == "" {
		return quote(name) + " has capitals: write " + quote(lower)
	}
	return subdomain(name)
}

// listenAddress wants host:port, whose host may be empty for every address.
func listenAddress(address string) string {
	host, port, err := net.SplitHostPort(address)
	if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || strings.ContainsAny(host, " /") {
		return quote(address) + " is no address: write one like :8443 or 10.0.0.5:8443"
	}
	return ""
}

// annotationKey wants a qualified name of Kubernetes: [domain/]name.
func annotationKey(key string) string {
	domain, name, found := strings.Cut(key, "/")
	if !found {
		domain, name = "x", key
	}
	if subdomain(domain) == "" && matches(`[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?`, name) {
		return ""
	}
	return "is no annotation: write one like nginx.ingress.kubernetes.io/proxy-body-size"
}

// registry wants what an image reference may begin with.
func registry(address string) string {
	switch {
	case strings.Contains(address, "://"):
		_, rest, _ := strings.Cut(address, "://")
		return quote(address) + " has a scheme: write " + quote(strings.TrimRight(rest, "/"))
	case strings.HasSuffix(address, "/"):
		return quote(address) + " ends in /: write " + quote(strings.TrimRight(address, "/"))
	case !matches(`([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*`, address):
		return quote(address) + " is no registry: write host, host:port or host:port/path"
	default:
		return ""
	}
}

// folder wants an absolute path without detours.
func folder(name string) string {
	if !path.IsAbs(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) {
		return quote(name) + " is no absolute path: begin it with /"
	}
	if clean := path.Clean(name); clean != name {
		return quote(name) + " has parts that it needs not: write " + quote(clean)
	}
	return ""
}

// choice wants one of a few values.
func choice(value string, allowed ...string) string {
	if slices.Contains(allowed, value) {
		return ""
	}
	last := len(allowed) - 1
	return quote(value) + " is not a choice: write " + strings.Join(allowed[:last], ", ") + " or " + allowed[last]
}

// matches tells whether the expression matches the whole text. The expressions are constants.
func matches(expression, text string) bool {
	return regexp.MustCompile(`^(?:` + expression + `)$`).MatchString(text)
}
