package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"berth/cmd/berth/internal/progress"
	"berth/pkg/client"
)

// details are lines with a name and a value each.
type details struct{ strings.Builder }

func (d *details) line(name, value string) {
	if value != "" {
		fmt.Fprintf(d, "%-11s %s\n", name, progress.Clean(value))
	}
}

func (d *details) moment(name string, t time.Time) {
	if !t.IsZero() {
		d.line(name, t.UTC().Format(time.RFC3339))
	}
}

// explained writes an explanation for people: what set what, what was cut, what was ignored and why. It writes no
// value of a step, which may be secret; those of the quota are numbers and switches.
func explained(text json.RawMessage) string {
	var e client.Explanation
	if len(text) == 0 || json.Unmarshal(text, &e) != nil {
		return ""
	}
	var out strings.Builder
	if len(e.Quota) > 0 {
		rows := make([][]string, len(e.Quota))
		for i, q := range e.Quota {
			rows[i] = []string{q.Field, short(q.Value), sourceWords(q.Sources), q.Capped}
		}
		out.WriteString("\nQuota\n" + progress.Table([]string{"FIELD", "VALUE", "SET BY", "CAPPED BY"}, rows))
	}
	if len(e.Steps) > 0 {
		rows := make([][]string, len(e.Steps))
		for i, s := range e.Steps {
			rows[i] = []string{s.Op, s.Path, stepWords(s), s.Note}
		}
		out.WriteString("\nWhat made the pod of the template\n" + progress.Table([]string{"DOES", "PATH", "SET BY", "NOTE"}, rows))
	}
	if len(e.Ignored) > 0 {
		rows := make([][]string, len(e.Ignored))
		for i, n := range e.Ignored {
			rows[i] = []string{n.License, n.Field, n.Why}
		}
		out.WriteString("\nIgnored\n" + progress.Table([]string{"LICENSE", "FIELD", "WHY"}, rows))
	}
	return out.String()
}

// short is a value of JSON in one line that is not long.
func short(text json.RawMessage) string {
	const most = 40
	var out bytes.Buffer
	if json.Compact(&out, text) != nil {
		return ""
	}
	return progress.Clip(out.String(), most)
}

func sourceWords(sources []client.QuotaSource) string {
	words := make([]string, len(sources))
	for i, s := range sources {
		words[i] = strings.TrimSpace(strings.ReplaceAll(s.Kind, "_", " ") + " " + s.License)
		if len(s.Amount) > 0 && string(s.Amount) != "null" {
			words[i] += " " + short(s.Amount)
		}
		if s.Rule != "" {
			words[i] += " (" + s.Rule + ")"
		}
	}
	return strings.Join(words, ", ")
}

func stepWords(s client.ExplainedStep) string {
	words := s.Kind
	if s.License != "" {
		words += " " + s.License
	}
	if s.Operation != nil {
		words += fmt.Sprintf(", operation %d", *s.Operation)
	}
	if len(s.Fields) > 0 {
		words += " " + strings.Join(s.Fields, ", ")
	}
	if s.Rule != "" {
		words += " (" + s.Rule + ")"
	}
	return words
}
