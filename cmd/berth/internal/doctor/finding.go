package doctor

import (
	"slices"

	"berth/pkg/events"
)

// Severity is how much a finding matters.
type Severity string

// The severities, the worst last.
const (
	// OK is for what is as it should be.
	OK Severity = "ok"
	// Skipped is for what was not looked at, because nobody said where it is.
	Skipped Severity = "skipped"
	// Notice is for what may be right, or passes by itself.
	Notice Severity = "notice"
	// Problem is for what keeps Berth from doing its work.
	Problem Severity = "problem"
)

// Finding is the result of one check.
type Finding struct {
	Severity Severity `json:"severity"`
	// Check names what was looked at, like "stream LOG".
	Check string `json:"check"`
	// What was seen, in a line.
	What string `json:"what"`
	// Why it matters, and what to Do. OK findings have neither.
	Why string `json:"why,omitempty"`
	Do  string `json:"do,omitempty"`
}

// Diagnose judges all that was seen, in the order in which people look. It is a
// pure function of the evidence: its time is that of the evidence.
func Diagnose(e Evidence) []Finding {
	d := &diagnosis{Evidence: e}
	d.api()
	d.nats()
	d.kubernetes()
	d.versions()
	return d.findings
}

// Worst is the severity of the worst of some findings; OK for none.
func Worst(findings []Finding) Severity {
	order := []Severity{OK, Skipped, Notice, Problem}
	worst := OK
	for _, f := range findings {
		if slices.Index(order, f.Severity) > slices.Index(order, worst) {
			worst = f.Severity
		}
	}
	return worst
}

// Reached says whether anything answered of what was asked.
func (e Evidence) Reached() bool {
	return e.API.Fault == "" || e.NATS.Asked && e.NATS.Fault == "" || e.Kubernetes.Asked && e.Kubernetes.Fault == ""
}

// diagnosis gathers findings.
type diagnosis struct {
	Evidence

	findings []Finding
}

func (d *diagnosis) ok(check, what string) {
	d.findings = append(d.findings, Finding{Severity: OK, Check: check, What: what})
}

func (d *diagnosis) found(s Severity, check, what, why, do string) {
	d.findings = append(d.findings, Finding{Severity: s, Check: check, What: what, Why: why, Do: do})
}

// unseen is for what could not be looked at although the server answers.
func (d *diagnosis) unseen(check, fault string) {
	d.found(Notice, check, "cannot be looked at: "+fault, "Whether all is well here is not known.",
		"Use a NATS user with the rights of the operator, and see that the server is not overloaded.")
}

// owner is the service that carries out a stage.
func owner(stage events.Stage) string {
	switch stage {
	case events.StageCreate, events.StageLaunch, events.StageFinish, events.StageRestart:
		return "creator"
	case events.StageLicense, events.StageProject:
		return "licenser"
	case events.StageDelete, events.StageDeleteUser, events.StageSweep:
		return "deleter"
	default:
		return "service"
	}
}
