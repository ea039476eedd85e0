package license

import (
	"encoding/json"
	"fmt"
	"slices"

	"berth/pkg/license/internal/tree"
	"berth/pkg/license/patchset"
	"berth/pkg/license/quota"
)

// Redacted returns the explanation as it may be logged: without what fills
// placeholders, without any value of a license's patch but those of members that hold
// no secrets (labels, resources, mounts, images and the like), and at most limit bytes
// of JSON (0 for any number). Where something had to be left out for that, the last step
// says how much; a limit too small for that step alone is exceeded. The explanation
// itself is not modified.
func (e Explanation) Redacted(limit int) Explanation {
	shown := Explanation{Steps: make([]Step, 0, len(e.Steps)), Quota: e.Quota, Ignored: e.Ignored}
	for _, step := range e.Steps {
		shown.Steps = append(shown.Steps, step.redacted())
	}
	return shown.clipped(limit)
}

// RedactPod returns, as it may be logged and in canonical form, the pod that the steps of
// licenses among these make of a pod; others are in it already. Only members that hold no
// secrets are shown (labels, resources, mounts, images and the like), and of what is
// there nothing that steps have copied or moved from anywhere else than such a member.
// What is no JSON is withheld, and so is a pod of which the steps are not.
func RedactPod(pod json.RawMessage, steps []Step) json.RawMessage {
	value, err := tree.Decode(pod)
	if err != nil {
		return tree.Encode(withheld)
	}
	// What is withheld stays so wherever the steps bring it.
	value, _ = shown.masked(value)
	var ops []patchset.Operation
	for _, step := range steps {
		if step.Kind == KindLicense {
			ops = append(ops, patchset.Operation{Index: len(ops), Raw: step.masked()})
		}
	}
	patched, err := patchset.Apply(tree.Encode(value), ops, patchset.Protection{})
	if err != nil {
		return tree.Encode(withheld)
	}
	if value, err = tree.Decode(patched.Doc); err != nil {
		value = withheld
	}
	value, _ = shown.redacted(value)
	return tree.Encode(value)
}

// RedactPatch returns the operations of licenses as they may be logged: a list of
// {"license","operation","op","path","from","value"}, of which from and value are
// there where the operation has them. Values are withheld as in an explanation,
// those of tests always, since they repeat what is there, and wholly where an operation
// has no right form.
func RedactPatch(patch []quota.Operation) json.RawMessage {
	list := make([]any, len(patch))
	for i, op := range patch {
		shown := map[string]any{"license": op.License, "operation": op.Index}
		list[i] = shown
		value, err := tree.Decode(op.Raw)
		object, _ := value.(map[string]any)
		path, isText := object["path"].(string)
		if err != nil || !isText {
			shown["value"] = withheld
			continue
		}
		for _, name := range []string{"op", "path", "from"} {
			if text, ok := object[name].(string); ok {
				shown[name] = text
			}
		}
		operand, ok := object["value"]
		if !ok {
			continue
		}
		step := Step{Path: path, Value: tree.Encode(operand), Copied: object["op"] == "test"}.redacted()
		if shown["value"] = withheld; step.Value != nil {
			shown["value"] = step.Value
		}
	}
	return tree.Encode(list)
}

// redacted withholds the value, or a part of it. What Berth's rules and the quota set is
// no secret; of a whole document, and of what was copied out of one, nothing is shown.
func (s Step) redacted() Step {
	if s.Value == nil || s.Kind == KindRule || s.Kind == KindQuota {
		return s
	}
	value, err := tree.Decode(s.Value)
	tokens, pointerErr := tree.Tokens(s.Path)
	if s.Kind == KindPlaceholder || s.Copied || err != nil || pointerErr != nil || len(tokens) == 0 {
		s.Value, s.Withheld = nil, true
		return s
	}
	switch value, hidden := shown.at(tokens...).redacted(value); {
	case hidden && value == any(withheld):
		s.Value, s.Withheld = nil, true
	case hidden:
		s.Value, s.Withheld = tree.Encode(value), true
	}
	return s
}

// masked is the step as an operation, with what is withheld of its value masked. What
// cannot be read becomes an operation that fails.
func (s Step) masked() json.RawMessage {
	operation := map[string]any{"op": s.Op, "path": s.Path}
	if s.From != "" {
		operation["from"] = s.From
	}
	tokens, err := tree.Tokens(s.Path)
	if value, valueErr := tree.Decode(s.Value); err == nil && valueErr == nil {
		at := shown.at(tokens...)
		if s.Copied {
			at = nil
		}
		operation["value"], _ = at.masked(value)
	}
	return tree.Encode(operation)
}

// manySources is how many sources of a finding are shown where there is not room for all.
const manySources = 10

// clipped leaves out what does not fit into limit bytes: sources of findings beyond the
// first, then what does not fit, of findings and what was ignored before steps.
func (e Explanation) clipped(limit int) Explanation {
	if limit <= 0 || size(e) <= limit {
		return e
	}
	sources := 0
	findings := make([]quota.Finding, len(e.Quota))
	for i, finding := range e.Quota {
		if more := len(finding.Sources) - manySources; more > 0 {
			sources += more
			finding.Sources = append(slices.Clone(finding.Sources[:manySources]), quota.Source{Kind: quota.KindRule, Rule: fmt.Sprintf("and %d more", more)})
		}
		findings[i] = finding
	}

	// What the last step and the members around the lists take.
	const around = 300
	left := max(limit-around, 0)
	// Half is for the steps, and what the others leave.
	steps := max(left/2, left-sizes(findings)-sizes(e.Ignored))
	var cut Explanation
	cut.Steps, _ = fitting(e.Steps, steps)
	left -= sizes(cut.Steps)
	cut.Quota, left = fitting(findings, left)
	cut.Ignored, _ = fitting(e.Ignored, left)
	cut.Steps = append(cut.Steps, Step{Kind: KindRule, Note: fmt.Sprintf(
		"left out, for size: %d steps, %d findings, %d sources of findings, %d things ignored",
		len(e.Steps)-len(cut.Steps), len(e.Quota)-len(cut.Quota), sources, len(e.Ignored)-len(cut.Ignored))})
	return cut
}

// fitting returns the items that fit into so many bytes of JSON, in their order, and the
// bytes that are left. One that is too large makes room for those after it.
func fitting[T any](items []T, bytes int) (fit []T, left int) {
	for _, item := range items {
		if taken := size(item) + len(","); taken <= bytes {
			fit, bytes = append(fit, item), bytes-taken
		}
	}
	return fit, bytes
}

// sizes is how many bytes of JSON items take in a list.
func sizes[T any](items []T) int {
	sum := 0
	for _, item := range items {
		sum += size(item) + len(",")
	}
	return sum
}

// size is how many bytes of JSON something is.
func size(value any) int {
	text, err := json.Marshal(value)
	if err != nil {
		return 0 // Steps and findings have nothing that cannot be encoded.
	}
	return len(text)
}
