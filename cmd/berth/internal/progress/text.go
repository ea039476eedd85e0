package progress

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"berth/pkg/events"
)

// Duration writes a duration as people read it: 4.2s, 3m05s, 2h07m, 3d5h.
func Duration(d time.Duration) string {
	d = max(d, 0)
	switch {
	// What would be rounded to a whole minute is written as one.
	case d < time.Minute-50*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d.Round(time.Second) < time.Hour:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d.Round(time.Minute) < 24*time.Hour:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		d = d.Round(time.Hour)
		return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// Cause writes a reason and its message: "PULLING: image x is being pulled".
// It is "" where there is neither.
func Cause(reason events.Reason, message string) string {
	switch {
	case reason == "":
		return Clean(message)
	case message == "":
		return Clean(string(reason))
	default:
		return Clean(string(reason) + ": " + message)
	}
}

// Clean makes a text that others wrote fit to be shown: one line, without
// anything that could steer a terminal or turn the direction of the writing.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return unicode.ReplacementChar
		default:
			return r
		}
	}, strings.ToValidUTF8(strings.TrimSpace(s), string(unicode.ReplacementChar)))
}

// Clip shortens a text to what fits into so many columns.
func Clip(s string, columns int) string {
	if columns <= 0 {
		return ""
	}
	used, cut := 0, 0
	for i, r := range s {
		if used < columns {
			cut = i
		}
		if used += width(r); used > columns {
			return s[:cut] + "…"
		}
	}
	return s
}

// width is how many columns a character takes in a terminal: two from the first
// CJK block on and for Hangul Jamo, none for marks. Where it counts too many the
// line is a little shorter than it might be, which does no harm.
func width(r rune) int {
	const jamoFirst, jamoLast, cjkFirst = 0x1100, 0x115F, 0x2E80
	switch {
	case unicode.Is(unicode.Mn, r):
		return 0
	case r >= jamoFirst && r <= jamoLast, r >= cjkFirst:
		return 2
	default:
		return 1
	}
}
