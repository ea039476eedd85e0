package license

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"berth/pkg/license/patchset"
	"berth/pkg/license/pod"
	"berth/pkg/license/quota"
)

// Options are a site's rules for [Compose].
type Options struct {
	Pod        pod.Options
	Protection patchset.Protection
}

// Composed is a pod and how it came to be.
type Composed struct {
	Pod         json.RawMessage
	Explanation Explanation
}

// Compose brings a quota to a pod, then the patches of its licenses. Steps of the
// explanation lead from the canonical base to the pod.
//
// The error is a [*patchset.Error] where a license's patch is at fault, also one
// whose text does not load, and a [*pod.Error] where the quota or the base is. The
// arguments are not modified; it is safe for concurrent use.
func Compose(base json.RawMessage, q quota.Result, opts Options) (Composed, error) {
	for _, bad := range q.BadPatches {
		return Composed{}, &patchset.Error{
			License: bad.License, List: -1, Operation: -1, Code: patchset.CodePatchInvalid, Message: bad.Err.Error(),
		}
	}
	mapped, err := pod.Map(base, q.Quota, opts.Pod)
	if err != nil {
		return Composed{}, fmt.Errorf("compose pod: %w", err)
	}
	patched, err := patchset.Apply(mapped.Pod, operations(q.Quota.Patch), opts.Protection)
	if err != nil {
		return Composed{}, fmt.Errorf("compose pod: %w", err)
	}

	e := Explanation{Steps: []Step{}, Quota: q.Findings}
	e.Ignored = append(e.Ignored, q.Ignored...)
	for _, ignored := range mapped.Ignored {
		e.Ignored = append(e.Ignored, named(ignored, q.Findings)...)
	}
	for _, c := range mapped.Changes {
		e.Steps = append(e.Steps, Step{Op: c.Op, Path: c.Path, Value: c.Value, Kind: KindQuota, Fields: c.Fields, Note: c.Note})
	}
	for _, done := range patched.Effective {
		e.Steps = append(e.Steps, Step{
			Op: done.Op, Path: done.Path, From: done.From, Value: done.Value, Kind: KindLicense,
			License: done.License, Operation: &done.Index, Note: done.Note, Copied: done.Copied,
		})
	}
	for _, s := range patched.Skipped {
		e.Ignored = append(e.Ignored, quota.Ignored{
			License: s.License, Field: fmt.Sprintf("patch, operation %d, path %q", s.Index, s.Path), Why: s.Why,
		})
	}
	if opts.Pod.Manifest {
		e.Ignored = append(e.Ignored, spare(e)...)
	}
	return Composed{Pod: patched.Doc, Explanation: e}, nil
}

// spare are the licenses that changed nothing in a pod though they gave something: that the
// pod had already, or that it has no place for.
func spare(e Explanation) []quota.Ignored {
	used := map[string]bool{} // by license, whether a step is due to it
	var order []string
	for _, finding := range e.Quota {
		shows := slices.ContainsFunc(e.Steps, func(s Step) bool { return slices.Contains(s.Fields, finding.Field) })
		for _, source := range finding.Sources {
			if _, known := used[source.License]; !known && source.License != "" {
				order = append(order, source.License)
			}
			used[source.License] = used[source.License] || shows
		}
	}
	for _, step := range e.Steps {
		used[step.License] = true
	}
	var all []quota.Ignored
	for _, license := range order {
		if !used[license] {
			all = append(all, quota.Ignored{License: license, Why: "it changes nothing in this pod, which has as much already, or no place for what only projects have"})
		}
	}
	return all
}

// named names the licenses that brought what the pod has no place for: those that the
// finding of its field names. Without one it stays as it is.
func named(ignored quota.Ignored, findings []quota.Finding) []quota.Ignored {
	field, _, _ := strings.Cut(ignored.Field, ".")
	var all []quota.Ignored
	for _, finding := range findings {
		for _, source := range finding.Sources {
			if finding.Field == field && source.License != "" {
				all = append(all, quota.Ignored{License: source.License, Field: ignored.Field, Why: ignored.Why})
			}
		}
	}
	if all == nil {
		return []quota.Ignored{ignored}
	}
	return all
}

// operations numbers the licenses of a quota's patch in their order.
func operations(patch []quota.Operation) []patchset.Operation {
	ops := make([]patchset.Operation, len(patch))
	list := 0
	for i, op := range patch {
		if i > 0 && op.License != patch[i-1].License {
			list++
		}
		ops[i] = patchset.Operation{License: op.License, List: list, Index: op.Index, Raw: op.Raw}
	}
	return ops
}
