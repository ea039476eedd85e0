package licensing

import (
	"encoding/json"

	"berth/pkg/license"
	"berth/pkg/license/quota"
)

// Trace shows what patches do to a project's pod, for whoever looks for a fault in one. It has no
// value of a variable: the template was filled with something else in their place.
type Trace struct {
	// Before and After are the pod around the patches; After is nil where they cannot be applied.
	Before, After json.RawMessage
	// Patch are the operations as they are written, as [license.RedactPatch] shows them.
	Patch json.RawMessage
}

// sham stands for what a project's variables and configuration are.
const sham = "(withheld)"

// trace makes the pod once more. What fails here fails in the pod that counts, which says so.
func (in Input) trace(q quota.Result) *Trace {
	t := &Trace{Patch: license.RedactPatch(q.Quota.Patch)}
	fill := *in.Fill
	fill.ExtraEnv, fill.ProjectConfig = sham, sham
	base, _, err := license.Fill(in.Base, fill)
	if err != nil {
		return t
	}
	after, afterErr := license.Compose(base, q, in.Options)
	q.Quota.Patch, q.BadPatches = nil, nil
	if before, err := license.Compose(base, q, in.Options); err == nil {
		t.Before = license.RedactPod(before.Pod, nil)
		if afterErr == nil {
			t.After = license.RedactPod(before.Pod, after.Explanation.Steps)
		}
	}
	return t
}
