package license

import (
	"encoding/json"
	"fmt"
	"slices"

	"berth/pkg/license/internal/tree"
	"berth/pkg/license/quota"
)

// withheld stands for what is not shown.
const withheld = "(withheld)"

// secretMembers are the members of a pod whose values are not shown: variables
// and command lines.
var secretMembers = []string{"env", "envFrom", "command", "args"} //nolint:gochecknoglobals // A constant.

// Redacted returns the explanation as it may be logged: without what fills
// placeholders, without variables and command lines, wherever in a value they are,
// and at most limit bytes of JSON (0 for any number). Where something had to be left
// out for that, the last step says how much; a limit too small for that step alone
// is exceeded. The explanation itself is not modified.
func (e Explanation) Redacted(limit int) Explanation {
	shown := Explanation{Steps: make([]Step, 0, len(e.Steps)), Quota: e.Quota, Ignored: e.Ignored}
	for _, step := range e.Steps {
		shown.Steps = append(shown.Steps, step.redacted())
	}
	return shown.clipped(limit)
}

// RedactPod returns a pod as it may be logged, in canonical form: without
// variables and command lines. What is no JSON is withheld.
func RedactPod(pod json.RawMessage) json.RawMessage {
	value, err := tree.Decode(pod)
	if err != nil {
		value = withheld
	}
	hide(value)
	return tree.Encode(value)
}

// RedactPatch returns the operations of licenses as they may be logged: a list of
// {"license","operation","op","path","from","value"}, of which from and value are
// there where the operation has them. Values are withheld as in an explanation,
// and wholly where an operation has no right form.
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
		step := Step{Path: path, Value: tree.Encode(operand)}.redacted()
		if shown["value"] = withheld; step.Value != nil {
			shown["value"] = step.Value
		}
	}
	return tree.Encode(list)
}

func (s Step) redacted() Step {
	if s.Value == nil {
		return s
	}
	value, err := tree.Decode(s.Value)
	tokens, pointerErr := tree.Tokens(s.Path)
	secret := slices.ContainsFunc(tokens, func(token string) bool { return slices.Contains(secretMembers, token) })
	if s.Kind == KindPlaceholder || secret || isPod(value) || err != nil || pointerErr != nil {
		s.Value, s.Withheld = nil, true
		return s
	}
	if hide(value) {
		s.Value, s.Withheld = tree.Encode(value), true
	}
	return s
}

// isPod says whether a value is a whole pod, in which placeholders may have been filled anywhere.
func isPod(value any) bool {
	object, _ := value.(map[string]any)
	return object["spec"] != nil
}

// hide replaces secrets within a value, in place, and says whether there were any.
// An object with a name and a value is a variable, wherever it is.
func hide(value any) (found bool) {
	switch c := value.(type) {
	case map[string]any:
		_, named := c["name"]
		for name, child := range c {
			if child != nil && (slices.Contains(secretMembers, name) || named && name == "value") {
				c[name], found = withheld, true
			} else if hide(child) {
				found = true
			}
		}
	case []any:
		for _, child := range c {
			if hide(child) {
				found = true
			}
		}
	}
	return found
}

// clipped leaves out what does not fit into limit bytes.
func (e Explanation) clipped(limit int) Explanation {
	if limit <= 0 || size(e) <= limit {
		return e
	}
	// What the last step and the members around the lists take.
	const around = 256
	left := limit - around
	cut := Explanation{Steps: []Step{}}
	fits := func(item any) bool {
		left -= size(item) + len(",")
		return left >= 0
	}
	// Half is for the steps.
	half := left / 2
	left -= half
	for _, finding := range e.Quota {
		if !fits(finding) {
			break
		}
		cut.Quota = append(cut.Quota, finding)
	}
	for _, ignored := range e.Ignored {
		if !fits(ignored) {
			break
		}
		cut.Ignored = append(cut.Ignored, ignored)
	}
	left = max(left, 0) + half
	for _, step := range e.Steps {
		if !fits(step) {
			break
		}
		cut.Steps = append(cut.Steps, step)
	}
	cut.Steps = append(cut.Steps, Step{Kind: KindRule, Note: fmt.Sprintf(
		"left out, for size: %d steps, %d findings, %d things ignored",
		len(e.Steps)-len(cut.Steps), len(e.Quota)-len(cut.Quota), len(e.Ignored)-len(cut.Ignored))})
	return cut
}

// size is how many bytes of JSON something is.
func size(value any) int {
	text, err := json.Marshal(value)
	if err != nil {
		return 0 // Steps and findings have nothing that cannot be encoded.
	}
	return len(text)
}
