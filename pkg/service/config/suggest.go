package config

import "strings"

// suggest returns the known name that an unknown one most likely means, or "" when none is near.
func suggest(unknown string, known []string) string {
	const longest = 64 // Bounds the work; no key is near that long.
	if len(unknown) > longest {
		return ""
	}
	best, least := "", max(len(unknown)/3, 1)+1
	for _, name := range known {
		if d := distance(strings.ToLower(unknown), strings.ToLower(name)); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is the number of bytes to insert, delete or replace to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
