package progress

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// spinner turns in front of the phase that is under way.
const spinner = `|/-\`

// turn is how long one position of the spinner lasts.
const turn = 200 * time.Millisecond

// Finished is the line of a phase that is over.
func Finished(s Span) string { return line(' ', s) }

// Live is the line of the phase that is under way, of at most so many columns.
// It is "" for an empty timeline.
func Live(t Timeline, now time.Time, columns int) string {
	spans := t.Spans(now)
	if len(spans) == 0 {
		return ""
	}
	frame := spinner[int(max(now.Sub(t.Began()), 0)/turn)%len(spinner)]
	return Clip(line(frame, spans[len(spans)-1]), columns)
}

func line(mark byte, s Span) string {
	text := fmt.Sprintf("%c %-9s %7s  %s", mark, Clean(string(s.Event)), Duration(s.Took), Cause(s.Reason, s.Message))
	return strings.TrimRight(text, " ")
}

// Entered is the line that says that a pod has come to a phase, for where lines
// cannot be written over: when, since the timeline began, and why.
func Entered(name string, began time.Time, c Change) string {
	text := fmt.Sprintf("%s %8s  %-9s  %s", Clean(name), "+"+Duration(c.At.Sub(began)), Clean(string(c.Event)), Cause(c.Reason, c.Message))
	return strings.TrimRight(text, " ")
}

// Summary says how long each finished phase took: "claimed 0.1s, waiting
// (PULLING) 4.0s". Phases that came several times are added up.
func Summary(t Timeline) string {
	var sums []Span
	for _, s := range t.Done() {
		i := slices.IndexFunc(sums, func(have Span) bool { return have.Event == s.Event && have.Reason == s.Reason })
		if i < 0 {
			sums = append(sums, s)
			continue
		}
		sums[i].Took += s.Took
	}
	parts := make([]string, len(sums))
	for i, s := range sums {
		parts[i] = Clean(string(s.Event)) + " "
		if s.Reason != "" {
			parts[i] += "(" + Clean(string(s.Reason)) + ") "
		}
		parts[i] += Duration(s.Took)
	}
	return strings.Join(parts, ", ")
}
