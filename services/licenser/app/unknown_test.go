package app

import (
	"encoding/json"
	"strings"
	"testing"

	"berth/pkg/license"
	"berth/pkg/license/wire"
)

// TestPreviewOfAnUnknownField: the explanation says of what a patch writes in vain that nobody knows it, and of nothing else.
func TestPreviewOfAnUnknownField(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		operations, warning string
		noted               []string // Paths.
	}{
		"a member":        {`[{"op":"add","path":"/spec/nosuch","value":1},{"op":"add","path":"/metadata/labels/a","value":"b"}]`, `unknown field "spec.nosuch"`, []string{"/spec/nosuch"}},
		"in a list":       {`[{"op":"add","path":"/spec/containers/0/image2","value":"x"}]`, `unknown field "spec.containers[0].image2"`, []string{"/spec/containers/0/image2"}},
		"in a value":      {`[{"op":"add","path":"/spec/affinity","value":{"node":{"x":1}}}]`, `unknown field "spec.affinity.node"`, []string{"/spec/affinity"}},
		"another one":     {`[{"op":"add","path":"/spec/nosuch2","value":1}]`, `unknown field "spec.nosuch"`, nil},
		"no such warning": {`[{"op":"add","path":"/spec/nosuch","value":1}]`, "it is old", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			newCreator(t, p).set(func(c *creator) { c.verdict.Warnings = []string{tt.warning} })
			p.save(t, patching(course, tt.operations), alpha)
			got, err := ask[wire.Preview](t, p, wire.MethodPreview, wire.PreviewRequest{Project: alpha})
			if err != nil {
				t.Fatal(err)
			}
			var explanation license.Explanation
			if err := json.Unmarshal(got.Explanation, &explanation); err != nil {
				t.Fatal(err)
			}
			var noted []string
			for _, step := range explanation.Steps {
				if strings.Contains(step.Note, "does not know the field") {
					noted = append(noted, step.Path)
				}
			}
			if strings.Join(noted, " ") != strings.Join(tt.noted, " ") {
				t.Errorf("noted %q, want %q", noted, tt.noted)
			}
		})
	}
}
