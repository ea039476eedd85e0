package config

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// ManifestPattern is a regular expression (RE2) over whole manifest URLs. The zero value allows none.
type ManifestPattern struct {
	text string
	re   *regexp.Regexp
}

// ParseManifestPattern compiles the expression. An empty text is the zero value.
func ParseManifestPattern(text string) (ManifestPattern, error) {
	if text == "" {
		return ManifestPattern{}, nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return ManifestPattern{}, fmt.Errorf("compile expression: %w", err)
	}
	re.Longest()
	return ManifestPattern{text: text, re: re}, nil
}

// Allows tells whether the whole URL matches, not just a part of it. The match is the leftmost,
// longest one, so it covers everything if any match does; wrapping the text in \A(?:…)\z
// would say the same, but for texts like "a\Q".
func (p ManifestPattern) Allows(url string) bool {
	if p.re == nil {
		return false
	}
	match := p.re.FindStringIndex(url)
	return match != nil && match[0] == 0 && match[1] == len(url)
}

// IsZero tells whether the pattern is the one that allows nothing.
func (p ManifestPattern) IsZero() bool { return p.re == nil }

// String returns the expression as it was written.
func (p ManifestPattern) String() string { return p.text }

// Equal makes patterns comparable by go-cmp.
func (p ManifestPattern) Equal(other ManifestPattern) bool { return p.text == other.text }

// prefixNotice returns a notice for an expression that looks as if it were meant to match the
// beginning of URLs, as it did in the old backend: it ends in a fixed text without a file
// name. It returns "" for others.
func (p ManifestPattern) prefixNotice() string {
	tree, err := syntax.Parse(p.text, syntax.Perl)
	if p.re == nil || err != nil {
		return ""
	}
	for tree.Op == syntax.OpConcat || tree.Op == syntax.OpCapture {
		tree = tree.Sub[len(tree.Sub)-1]
	}
	if tree.Op != syntax.OpLiteral {
		return ""
	}
	end := string(tree.Rune)
	if strings.HasSuffix(end, "yaml") || strings.HasSuffix(end, "yml") {
		return ""
	}
	return fmt.Sprintf("matches whole URLs, and as it ends in %s only URLs with that end: append /.* to allow what is below",
		quote(end))
}
