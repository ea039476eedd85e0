package license

import (
	"encoding/json"
	"fmt"

	"berth/pkg/license/internal/tree"
	"berth/pkg/license/quota"
)

// Kinds of a [Step].
const (
	KindPlaceholder = "placeholder" // a placeholder of the template was filled
	KindRule        = "rule"        // what every project's pod has
	KindQuota       = "quota"       // the quota; Fields says which
	KindLicense     = "license"     // a license's patch
)

// Step is one operation of RFC 6902, and what it is from.
type Step struct {
	Op    string          `json:"op,omitempty"`
	Path  string          `json:"path"`
	From  string          `json:"from,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
	Kind  string          `json:"kind"`
	// License and Operation (from 0, within its patch) say where a patch is from.
	License   string `json:"license,omitempty"`
	Operation *int   `json:"operation,omitempty"`
	// Fields are the fields of the quota that made it so.
	Fields []string `json:"fields,omitempty"`
	// Rule says in words what asks for it, Note what else there is to know.
	Rule string `json:"rule,omitempty"`
	Note string `json:"note,omitempty"`
	// Copied says that the value is a part of the document, not of the license's patch.
	Copied bool `json:"-"`
	// Withheld says that the value, or a part of it, is not shown.
	Withheld bool `json:"withheld,omitempty"`
}

// Explanation is how a pod came to be what it is.
type Explanation struct {
	// Steps lead, in order, from the document before to the document after.
	Steps []Step `json:"steps"`
	// Quota explains the fields of the quota, Ignored what of the licenses was not used.
	Quota   []quota.Finding `json:"quota,omitempty"`
	Ignored []quota.Ignored `json:"ignored,omitempty"`
}

// Canonical gives a JSON document its one form: members in order of their names,
// of those with one name the last; no white space; 60.0 as 60, 1e3 as 1000. The
// error says what is wrong with the text; it quotes no value.
func Canonical(text json.RawMessage) (json.RawMessage, error) {
	root, err := tree.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	return tree.Encode(root), nil
}
