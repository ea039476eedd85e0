package progress

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Table writes rows below a header, in columns that are as wide as they have to
// be. Empty cells become "-". Each row has as many cells as the header.
func Table(header []string, rows [][]string) string {
	all := make([][]string, 0, len(rows)+1)
	widths := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cells[i] = Clean(cell); cells[i] == "" {
				cells[i] = "-"
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cells[i]))
		}
		all = append(all, cells)
	}
	var text strings.Builder
	for _, cells := range all {
		var line strings.Builder
		for i, cell := range cells {
			fmt.Fprintf(&line, "%-*s  ", widths[i], cell)
		}
		text.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return text.String()
}
