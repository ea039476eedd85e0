package store

// The times in a hub's columns may be infinite, or in years that neither a program nor JSON knows; such a row must
// be read like any other. Each of these takes an expression for a time, or NULL, and returns one for a time within
// the years 1 to 9998, or NULL.

// instant is a time of which nothing follows; an odd one is unset.
func instant(of string) string {
	return `CASE WHEN ` + of + `::timestamptz >= '0001-01-02' AND ` + of + `::timestamptz < '9999-01-01' THEN ` + of + `::timestamptz END`
}

// activates is when a license begins: what lies beyond all years stays in the future, what lies before them in the past.
func activates(of string) string {
	return `CASE WHEN ` + of + ` IS NOT NULL THEN least(greatest(` + of + `::timestamptz, '0001-01-02'), '9998-12-31') END`
}

// expires is when a license ends: never, where that lies beyond all years.
func expires(of string) string {
	return `CASE WHEN ` + of + `::timestamptz < '9999-01-01' THEN greatest(` + of + `::timestamptz, '0001-01-02') END`
}
