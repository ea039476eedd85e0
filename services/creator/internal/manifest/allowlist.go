package manifest

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// maxAddress bounds an address, in bytes.
const maxAddress = 2048

// allowList judges addresses by the site's expression.
type allowList struct {
	expression string
	whole      *regexp.Regexp
}

// compileAllowList compiles an expression so that it has to match a whole
// address. It is compiled by itself first: "a)|(b" is no expression, but becomes
// one between parentheses, and a loose one.
func compileAllowList(expression string) (allowList, error) {
	if _, err := regexp.Compile(expression); err != nil {
		return allowList{}, fmt.Errorf("compile whitelistManifestRegex: %w", err)
	}

	whole, err := regexp.Compile(`\A(?:` + expression + `)\z`)
	if err != nil {
		return allowList{}, fmt.Errorf("compile whitelistManifestRegex: %w", err)
	}

	return allowList{expression: expression, whole: whole}, nil
}

// parse reads an address and judges it.
func (a allowList) parse(address string) (*url.URL, *Error) {
	if len(address) > maxAddress {
		return nil, fault(ReasonForbidden, "the manifest's address is longer than %d bytes", maxAddress)
	}

	parsed, err := url.Parse(address)
	if err != nil || strings.Contains(address, "#") {
		return nil, fault(ReasonForbidden, "the manifest's address is no URL, or has a fragment")
	}

	if err := a.judge(parsed); err != nil {
		return nil, err
	}

	return parsed, nil
}

// judge refuses what the expression does not match as a whole, and what can make
// an address mean something else than it looks like.
func (a allowList) judge(address *url.URL) *Error {
	if err := suspicious(address); err != nil {
		return fault(ReasonForbidden, "manifest %s: %v", shown(address), err)
	}

	if !a.whole.MatchString(address.String()) {
		return fault(ReasonForbidden,
			"manifest %s is not allowed here (whitelistManifestRegex has to match the whole address)", shown(address))
	}

	return nil
}

func suspicious(address *url.URL) error {
	switch {
	case address.Scheme != "http" && address.Scheme != "https":
		return errors.New("the address must begin with https:// or http://")
	case address.Host == "" || address.Opaque != "":
		return errors.New("the address names no host")
	case address.User != nil:
		return errors.New("the address must not name a user")
	case address.Fragment != "":
		return errors.New("the address must not have a fragment")
	}

	// A server resolves "..", and the path that it then serves is another than the
	// one that the expression has seen. Path is decoded, so %2e counts as well.
	for segment := range strings.FieldsFuncSeq(address.Path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			return errors.New(`the path must not have "." or ".." in it`)
		}
	}

	return nil
}

// shown is an address as messages show it: no user, query or fragment.
func shown(address *url.URL) string {
	plain := url.URL{Scheme: address.Scheme, Host: address.Host, Path: address.Path, RawPath: address.RawPath}

	return plain.String()
}
