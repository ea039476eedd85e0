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

		direct := forbidden(r.NeverImports, r.OnlyImports)
		reached := forbidden(r.NeverReaches, r.OnlyReaches)
		for _, from := range slices.Sorted(maps.Keys(g)) {
			if !matches(r.From, from) {
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
	return func(path string) bool {
		return matches(never, path) || len(only) > 0 && !matches(only, path)
	}
}

// matches tells if the last pattern that fits path lets it in.
func matches(patterns []string, path string) bool {
	for _, pattern := range slices.Backward(patterns) {
		out := strings.HasPrefix(pattern, "!")
		if fits(strings.TrimPrefix(pattern, "!"), path) {
			return !out
		}
	}
	return false
}

func fits(pattern, path string) bool {
	if pattern == "std" {
		first, _, _ := strings.Cut(path, "/")
		return first != "berth" && !strings.Contains(first, ".")
	}
	expr := regexp.QuoteMeta(pattern)
	expr = strings.ReplaceAll(expr, `\*`, `[^/]+`)
	if base, ok := strings.CutSuffix(expr, `/\.\.\.`); ok {
		expr = base + `(/.*)?`
	}
	return regexp.MustCompile(`^` + expr + `$`).MatchString(path)
}

// isPath tells if a pattern names one package in full.
func isPath(pattern string) bool {
	return pattern != "std" && !strings.ContainsAny(pattern, "!*") && !strings.HasSuffix(pattern, "...")
}
