package doctor

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"berth/cmd/berth/internal/progress"
)

// look is how a severity is shown: a mark, and the colour of it in a terminal
// (ECMA-48, Select Graphic Rendition).
func look(s Severity) (mark, colour string) {
	switch s {
	case OK:
		return "✓", "\x1b[32m"
	case Problem:
		return "✗", "\x1b[31m"
	case Notice:
		return "!", "\x1b[33m"
	case Skipped:
		return "-", "\x1b[2m"
	default:
		return "?", ""
	}
}

// Text writes findings for people: a line for each, then, for those that are
// not as they should be, why they matter and what to do. With colour the marks
// have colours for a terminal. brief leaves out what is well.
func Text(findings []Finding, colour, brief bool) string {
	var out strings.Builder
	mark := func(s Severity) string {
		m, c := look(s)
		if colour && c != "" {
			return c + m + "\x1b[0m"
		}
		return m
	}
	width := 0
	for _, f := range findings {
		width = max(width, utf8.RuneCountInString(f.Check))
	}
	counts := map[Severity]int{}
	for _, f := range findings {
		if counts[f.Severity]++; !brief || f.Severity == Problem || f.Severity == Notice {
			fmt.Fprintf(&out, "%s %-*s  %s\n", mark(f.Severity), width, f.Check, progress.Clean(f.What))
		}
	}
	advice := func(s Severity, title string) {
		if counts[s] == 0 {
			return
		}
		fmt.Fprintf(&out, "\n%s:\n", title)
		for _, f := range findings {
			if f.Severity != s {
				continue
			}
			fmt.Fprintf(&out, "%s %s\n", mark(s), f.Check)
			if f.Why != "" {
				fmt.Fprintf(&out, "    %s\n", progress.Clean(f.Why))
			}
			fmt.Fprintf(&out, "    What to do: %s\n", progress.Clean(f.Do))
		}
	}
	advice(Problem, count(counts[Problem], "problem"))
	advice(Notice, count(counts[Notice], "notice"))
	if !brief {
		advice(Skipped, "Not looked at")
	}
	if counts[Problem] == 0 && !brief {
		out.WriteString("\nNo problem was found.\n")
	}
	return out.String()
}
