package license_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"berth/pkg/license"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ before, after, want string }{
		"nothing":                {`{"a":[1,{"b":2.0}]}`, `{"a":[1,{"b":2}]}`, `[]`},
		"members":                {`{"a":1,"b":2,"c":{"d":3}}`, `{"b":3,"c":{"d":4,"e~/":5}}`, `[{"op":"remove","path":"/a"},{"op":"replace","path":"/b","value":3},{"op":"replace","path":"/c/d","value":4},{"op":"add","path":"/c/e~0~1","value":5}]`},
		"appended":               {`[1,2]`, `[1,2,3,4]`, `[{"op":"add","path":"/2","value":3},{"op":"add","path":"/3","value":4}]`},
		"put in front":           {`[1,2]`, `[0,1,2]`, `[{"op":"add","path":"/0","value":0}]`},
		"taken out":              {`[1,2,3,4]`, `[1,4]`, `[{"op":"remove","path":"/2"},{"op":"remove","path":"/1"}]`},
		"changed in the middle":  {`[1,{"a":1},3]`, `[1,{"a":2},3]`, `[{"op":"replace","path":"/1/a","value":2}]`},
		"another kind":           {`{"a":[]}`, `{"a":{}}`, `[{"op":"replace","path":"/a","value":{}}]`},
		"null is a value":        {`{}`, `{"a":null}`, `[{"op":"add","path":"/a","value":null}]`},
		"equal, written in full": {`[1e21]`, `[1000000000000000000000]`, `[{"op":"replace","path":"/0","value":1000000000000000000000}]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ops, err := license.Diff(json.RawMessage(tc.before), json.RawMessage(tc.after))
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(ops)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// document draws an object with members of every kind.
func document(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		switch kind := rapid.IntRange(0, 6).Draw(t, "kind"); {
		case kind == 0:
			return nil
		case kind == 1:
			return rapid.Bool().Draw(t, "bool")
		case kind == 2:
			return rapid.IntRange(-3, 3).Draw(t, "number")
		case kind == 3 || depth == 0:
			return rapid.SampledFrom([]string{"", "a", "ä", "<"}).Draw(t, "text")
		case kind == 4:
			return rapid.SliceOfN(document(depth-1), 0, 4).Draw(t, "list")
		default:
			return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c/d", "e~f", "0"}), document(depth-1), 0, 4).Draw(t, "object")
		}
	})
}

func TestDiffGivesTheOther(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		text := func(label string) json.RawMessage {
			out, err := json.Marshal(map[string]any{"x": document(3).Draw(r, label)})
			if err != nil {
				r.Fatal(err)
			}
			canonical, err := license.Canonical(out)
			if err != nil {
				r.Fatal(err)
			}
			return canonical
		}
		before, after := text("before"), text("after")
		ops, err := license.Diff(before, after)
		if err != nil {
			r.Fatal(err)
		}
		if got := replay(r, before, ops); string(got) != string(after) {
			r.Fatalf("%s and %v give %s, want %s", before, ops, got, after)
		}
	})
}
