// Package licensing decides what the licenses of a project, or of a user, make of a pod. It
// is pure: the time, the rows of the database and the template are inputs.
package licensing

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"berth/pkg/events"
	"berth/pkg/license"
	"berth/pkg/license/check"
	"berth/pkg/license/quota"
)

// Input is a pod that is to be made, or one that runs and is looked at again.
type Input struct {
	// Check is what the database has of the project, its licenses and the site.
	// PayAsYouGo is set by [Decide].
	Check check.Input
	// Purchase is the column of that name; see [Purchase].
	Purchase json.RawMessage
	// RunQuota is the quota that the project has run with so far.
	RunQuota json.RawMessage
	// Titles are what people call the licenses, by id, in lower case.
	Titles map[string]string

	// Base is what the pod is made from: the template of projects where Fill is set, else
	// the pod of a manifest.
	Base json.RawMessage
	Fill *license.FillOptions
	// Options are the site's rules.
	Options license.Options
	// Container is the one whose image the pod's record names; where there is none, the first.
	Container string
	// Tracing asks for [Result.Trace].
	Tracing bool
}

// Result is what the licenses make of a pod.
type Result struct {
	// Pod is the pod as it goes to Kubernetes.
	Pod json.RawMessage
	// Licenses and Licensing are what the log says of it; neither has a variable's value.
	Licenses  []events.License
	Licensing events.Licensing
	// RunQuota is the quota in its one form, with all patches. Changed says that it differs, in
	// any field, from the one that the project has run with.
	RunQuota json.RawMessage
	Changed  bool
	// Container and Image are what the pod's record should name.
	Container, Image string
	// Quota is the quota without patches, as people read it.
	Quota json.RawMessage
	// Explanation is the whole one, with variables: for those who may see the pod.
	Explanation license.Explanation

	// SiteLicense are the values that are to be stored, each under its license, where a status
	// has changed. Seats are the licenses that the pod uses, LastUsed those that were looked at.
	SiteLicense     map[string]json.RawMessage
	Seats, LastUsed []string

	// Trace is set, where it was asked for, for a project's pod; with a [Fault], too.
	Trace *Trace
}

// MaxLicenses is how many licenses one project or user may have.
const MaxLicenses = 100

// The bounds of what goes into the log, in bytes: together with the rest of a record they stay
// below [events.MaxEvent], whatever a license says.
const (
	maxExplanation    = 20 << 10
	maxLoggedQuota    = 6 << 10
	maxLoggedLicenses = 20 << 10
)

// Decide examines the licenses, computes the quota, and makes the pod. The error is a
// [*Fault]. in is not modified; results share memory with it.
func Decide(in Input) (Result, error) {
	if n := len(in.Check.SiteLicense); n > MaxLicenses {
		return Result{}, &Fault{events.LicenseInvalid, fmt.Sprintf("%d licenses are attached, more than %d: detach those that are over", n, MaxLicenses)}
	}
	purchase := Purchase(in.Purchase)
	in.Check.PayAsYouGo = purchase != nil
	checked, err := check.Decide(in.Check)
	if err != nil {
		return Result{}, in.refused(err)
	}
	if len(checked.BadPatches) > 0 {
		return Result{}, in.badPatch(checked.BadPatches[0])
	}
	computed, err := check.RunQuota(in.Check, checked.SiteLicense, purchase)
	if err != nil {
		return Result{}, in.refused(err)
	}
	r := Result{Seats: checked.Active, LastUsed: checked.LastUsed}
	if r.RunQuota, err = in.runQuota(computed.Quota); err != nil {
		return Result{}, err
	}
	before, err := license.Canonical(in.RunQuota)
	r.Changed = err != nil || !bytes.Equal(before, r.RunQuota)
	if checked.Changed {
		r.SiteLicense = make(map[string]json.RawMessage, len(checked.Written))
		for _, value := range checked.Written {
			r.SiteLicense[value.ID] = value.Value
		}
	}
	if in.Tracing && in.Fill != nil {
		r.Trace = in.trace(computed)
	}
	if err := in.compose(computed, len(checked.Active) > 0, &r); err != nil {
		return Result{Trace: r.Trace}, err
	}
	r.Licenses = in.licenses(checked.Statuses, r.Explanation)
	q := computed.Quota
	q.Patch = nil
	r.Quota = q.AppendJSON(nil)
	r.Licensing = in.licensing(r)
	return r, nil
}

// runQuota is the quota as the database can hold it.
func (in Input) runQuota(q quota.Quota) (json.RawMessage, error) {
	for _, op := range q.Patch {
		if hasNUL(op.Raw) {
			return nil, &Fault{events.PatchInvalid, fmt.Sprintf("%s: operation %d: it has the character NUL: take it out", in.name(op.License), op.Index)}
		}
	}
	text, err := license.Canonical(q.AppendJSON(nil))
	switch {
	case err != nil && len(q.Patch) > 0:
		largest, size := largestPatch(q.Patch)
		return nil, &Fault{events.PatchInvalid, fmt.Sprintf("%s: its patch has %d bytes, the most of all: shorten it; the quota of all licenses together: %s",
			in.name(largest), size, err.Error())}
	case err != nil:
		return nil, &Fault{events.LicenseInvalid, "the quota of all licenses together: " + err.Error()}
	}
	return text, nil
}

// largestPatch returns the license whose operations are the longest in all, and their size in bytes.
func largestPatch(ops []quota.Operation) (largest string, size int) {
	sizes := map[string]int{}
	for _, op := range ops {
		sizes[op.License] += len(op.Raw)
		if sizes[op.License] > size {
			largest, size = op.License, sizes[op.License]
		}
	}
	return largest, size
}

// hasNUL says whether a JSON text has an escaped NUL, which PostgreSQL cannot store.
func hasNUL(text []byte) bool {
	for i := 0; i+6 <= len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		if string(text[i+1:i+6]) == "u0000" {
			return true
		}
		i++ // What is escaped begins nothing.
	}
	return false
}

// compose makes the pod. A pod of a manifest that no license gives anything stays what it is:
// an expired license must not cut it down to the defaults.
func (in Input) compose(q quota.Result, active bool, r *Result) error {
	if in.Fill == nil && !active {
		r.Pod = in.Base
		return nil
	}
	base, steps := in.Base, []license.Step(nil)
	if in.Fill != nil {
		if err := podKind(in.Base); err != nil {
			return err
		}
		var err error
		if base, steps, err = license.Fill(in.Base, *in.Fill); err != nil {
			return &Fault{events.TemplateInvalid, err.Error()}
		}
	} else {
		unlicensed, err := check.RunQuota(in.Check, nil, nil)
		if err != nil {
			return in.refused(err)
		}
		in.Options.Pod.Unlicensed = unlicensed.Quota
	}
	composed, err := license.Compose(base, q, in.Options)
	if err != nil {
		return in.refused(err, q.Findings...)
	}
	r.Pod, r.Explanation = composed.Pod, composed.Explanation
	r.Explanation.Steps = append(steps, r.Explanation.Steps...)
	r.Container, r.Image = image(composed.Pod, in.Container)
	return nil
}

// podKind refuses a template that is something else than a pod.
func podKind(template json.RawMessage) error {
	var head struct {
		Kind any `json:"kind"`
	}
	if err := json.Unmarshal(template, &head); err != nil || head.Kind != "Pod" {
		return &Fault{events.TemplateInvalid, "the template of project pods is no Pod: it must be a JSON object with kind: Pod"}
	}
	return nil
}

// image finds the container of a pod that people mean, and what it runs.
func image(pod json.RawMessage, container string) (name, reference string) {
	var shape struct {
		Spec struct {
			Containers []struct {
				Name  string `json:"name"`
				Image string `json:"image"`
			} `json:"containers"`
		} `json:"spec"`
	}
	if json.Unmarshal(pod, &shape) != nil || len(shape.Spec.Containers) == 0 {
		return "", "" // The API server says what is wrong with it.
	}
	found := shape.Spec.Containers[0]
	for _, c := range shape.Spec.Containers {
		if c.Name == container {
			found = c
		}
	}
	return found.Name, found.Image
}

// licenses are the statuses as the log has them.
func (in Input) licenses(statuses []check.Status, explanation license.Explanation) []events.License {
	patched, machine := changedBy(explanation)
	licenses := make([]events.License, 0, len(statuses))
	for _, s := range statuses {
		licenses = append(licenses, events.License{
			ID: s.ID, Title: clip(in.title(s.ID)), Status: s.Status, Reason: s.Reason,
			Patched: patched[s.ID], Machine: machine[s.ID],
		})
	}
	if size(licenses) > maxLoggedLicenses {
		for i := range licenses {
			licenses[i].Title = ""
		}
	}
	return licenses
}

// changedBy are the licenses, by id, that have changed a pod by their patch, and by their gpu or dedicated_vm.
func changedBy(explanation license.Explanation) (patched, machine map[string]bool) {
	patched, machine = map[string]bool{}, map[string]bool{}
	written := map[string]bool{} // The members of the quota that are in the pod.
	for _, step := range explanation.Steps {
		if step.Kind == license.KindLicense {
			patched[step.License] = true
		}
		for _, field := range step.Fields {
			written[field] = slices.Contains(machineMembers(), field)
		}
	}
	for _, finding := range explanation.Quota {
		for _, source := range finding.Sources {
			if written[finding.Field] && source.License != "" {
				machine[source.License] = true
			}
		}
	}
	return patched, machine
}

// licensing is how the pod was made, as the log has it.
func (in Input) licensing(r Result) events.Licensing {
	l := events.Licensing{
		SettingsDigest: digest(in.Check.Settings), TemplateDigest: digest(in.Base), PodDigest: digest(r.Pod),
	}
	if size(r.Quota) <= maxLoggedQuota {
		l.Quota = r.Quota
	}
	text, err := json.Marshal(r.Explanation.Redacted(maxExplanation))
	if err == nil {
		l.Explanation = text
	}
	return l
}

// size is how many bytes something takes in a record.
func size(value any) int {
	text, err := json.Marshal(value)
	if err != nil {
		return events.MaxEvent // Not to be logged.
	}
	return len(text)
}

// digest is the SHA-256 sum of a document in its one form, in hex.
func digest(document json.RawMessage) string {
	if len(document) == 0 {
		return ""
	}
	if canonical, err := license.Canonical(document); err == nil {
		document = canonical
	}
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}

// Purchase returns the pay-as-you-go purchase of a project that runs, nil for none: of the
// column's purchases, one an account, the first that has an id and a quota. A hub keeps there what
// was asked for, too; that has no id.
func Purchase(column json.RawMessage) json.RawMessage {
	var accounts map[string]json.RawMessage
	if json.Unmarshal(column, &accounts) != nil {
		return nil
	}
	first, account := json.RawMessage(nil), ""
	for id, purchase := range accounts {
		var p struct {
			ID    json.RawMessage            `json:"purchase_id"`
			Quota map[string]json.RawMessage `json:"quota"`
		}
		runs := json.Unmarshal(purchase, &p) == nil && len(p.ID) > 0 && string(p.ID) != "null" && p.Quota != nil
		if runs && (first == nil || id < account) {
			first, account = purchase, id
		}
	}
	return first
}
