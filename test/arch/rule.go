package arch

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Rule says what some packages may not depend on. All its lists hold
// patterns of import paths: `*` stands for one path element, a closing `/...`
// for the path itself and all below it, `std` for the standard library. A
// pattern after `!` takes out what earlier ones let in.
type Rule struct {
	// Name tells the reader of a failure what is at stake.
	Name string
	// From are the packages bound by the rule. One that is named in full must
	// exist, so that no rule goes blind when a package is renamed.
	From []string
	// NeverImports and OnlyImports bound the direct imports.
	NeverImports, OnlyImports []string
	// NeverReaches and OnlyReaches bound all that a package depends on.
	NeverReaches, OnlyReaches []string
}

// Check returns what breaks the rules, one line each, sorted: the rule, and
// the way from the bound package to the one that it must not depend on.
func (g Graph) Check(rules []Rule) []string {
	var broken []string
	for _, r := range rules {
		report := func(format string, args ...any) {
			broken = append(broken, r.Name+": "+fmt.Sprintf(format, args...))
		}
		for _, pattern := range r.From {
			if _, ok := g[pattern]; !ok && isPath(pattern) {
				report("no package %s", pattern)
			}
		}

		bound := matcher(r.From)
		direct := forbidden(r.NeverImports, r.OnlyImports)
		reached := forbidden(r.NeverReaches, r.OnlyReaches)
		for _, from := range slices.Sorted(maps.Keys(g)) {
			if !bound(from) {
				continue
			}
			for _, imported := range g[from] {
				if direct(imported) {
					report("%s imports %s", from, imported)
				}
			}
			if way := g.chain(from, reached); way != nil {
				report("%s", strings.Join(way, " -> "))
			}
		}
	}
	slices.Sort(broken)
	return broken
}

// forbidden joins a list of what is never allowed and one of what alone is; an
// empty list forbids nothing.
func forbidden(never, only []string) func(string) bool {
	isNever, isAllowed := matcher(never), matcher(only)
	return func(path string) bool {
		return isNever(path) || len(only) > 0 && !isAllowed(path)
	}
}

// matcher returns the function that tells if the last pattern that fits a path
// lets it in.
func matcher(patterns []string) func(string) bool {
	fits := make([]func(string) bool, 0, len(patterns))
	for _, pattern := range patterns {
		fits = append(fits, fitter(strings.TrimPrefix(pattern, "!")))
	}
	return func(path string) bool {
		for i, pattern := range slices.Backward(patterns) {
			if fits[i](path) {
				return !strings.HasPrefix(pattern, "!")
			}
		}
		return false
	}
}

func fitter(pattern string) func(string) bool {
	if pattern == "std" {
		return func(path string) bool {
			first, _, _ := strings.Cut(path, "/")
			return first != "berth" && !strings.Contains(first, ".")
		}
	}
	expr := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `[^/]+`)
	if base, ok := strings.CutSuffix(expr, `/\.\.\.`); ok {
		expr = base + `(/.*)?`
	}
	return regexp.MustCompile(`^` + expr + `$`).MatchString
}

// isPath tells if a pattern names one package in full.
func isPath(pattern string) bool {
	return pattern != "std" && !strings.ContainsAny(pattern, "!*") && !strings.HasSuffix(pattern, "...")
}
