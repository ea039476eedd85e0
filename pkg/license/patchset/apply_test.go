package patchset_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/internal/tree"
	"berth/pkg/license/patchset"
)

// ops are the operations of one license, "a".
func ops(tb testing.TB, patch string) []patchset.Operation {
	tb.Helper()
	list, err := patchset.List("a", 0, json.RawMessage(patch))
	if err != nil {
		tb.Fatal(err)
	}
	return list
}

// What comes back is what a strict applier understands, with what was done about
// operations that it had refused.
func TestEffective(t *testing.T) {
	t.Parallel()
	const doc = `{"l":["a","b","c"],"o":{"x":1},"n":null}`
	for name, tc := range map[string]struct {
		patch, want, note, skipped string
	}{
		"past the end": {`[{"op":"add","path":"/l/7","value":"d"}]`, `add /l/3`, "index 7 is past the end of 3 elements: appended", ""},
		"dash":         {`[{"op":"add","path":"/l/-","value":"d"}]`, `add /l/3`, "", ""},
		"at the end":   {`[{"op":"add","path":"/l/3","value":"d"}]`, `add /l/3`, "", ""},
		"zeros before": {`[{"op":"add","path":"/l/001","value":"d"}]`, `add /l/1`, "", ""},
		"no index":     {`[{"op":"add","path":"/l/","value":"d"}]`, `add /l/0`, "the index is missing: inserted first", ""},
		"replace what is missing": {
			`[{"op":"replace","path":"/o/y","value":2}]`, `add /o/y`, "nothing was there: added", "",
		},
		"replace at the end": {
			`[{"op":"replace","path":"/l/3","value":2}]`, `add /l/3`, "nothing was there: appended to 3 elements", "",
		},
		"replace":        {`[{"op":"replace","path":"/o/x","value":2}]`, `replace /o/x`, "", ""},
		"remove":         {`[{"op":"remove","path":"/l/01"}]`, `remove /l/1`, "", ""},
		"remove nothing": {`[{"op":"remove","path":"/o/y"}]`, ``, "", "nothing is there to remove"},
		"remove past the end": {
			`[{"op":"remove","path":"/l/9"}]`, ``, "", "nothing is there to remove: the list has 3 elements",
		},
		"move past the end":   {`[{"op":"move","from":"/o/x","path":"/l/7"}]`, `move /o/x /l/3`, "index 7 is past the end of 3 elements: appended", ""},
		"move within a list":  {`[{"op":"move","from":"/l/00","path":"/l/9"}]`, `move /l/0 /l/2`, "index 9 is past the end of 2 elements: appended", ""},
		"move nowhere":        {`[{"op":"move","from":"/l/2","path":"/l/5"}]`, ``, "", "it is there already"},
		"move the whole":      {`[{"op":"move","from":"","path":""}]`, ``, "", "it is there already"},
		"copy":                {`[{"op":"copy","from":"/o","path":"/o/x"}]`, `copy /o /o/x`, "", ""},
		"copy the whole":      {`[{"op":"copy","from":"","path":"/o/x"}]`, `add /o/x`, "", ""},
		"copy over the whole": {`[{"op":"copy","from":"/o","path":""}]`, `replace `, "", ""},
		"move over the whole": {`[{"op":"move","from":"/o","path":""}]`, `replace `, "", ""},
		"tests are left out":  {`[{"op":"test","path":"/o/x","value":1.0},{"op":"test","path":"/n","value":null}]`, ``, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := patchset.Apply(json.RawMessage(doc), ops(t, tc.patch), patchset.Protection{})
			if err != nil {
				t.Fatal(err)
			}
			got, note, skipped := "", "", ""
			if len(result.Effective) > 0 {
				op := result.Effective[0]
				got, note = op.Op+" "+strings.TrimPrefix(op.From+" "+op.Path, " "), op.Note
			}
			if len(result.Skipped) > 0 {
				skipped = result.Skipped[0].Why
			}
			if diff := cmp.Diff([]string{tc.want, tc.note, tc.skipped}, []string{got, note, skipped}); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if other, _ := elsewhere(t, canonical(t, json.RawMessage(doc)), result.Effective); string(other) != string(result.Doc) {
				t.Errorf("applied elsewhere: %s, here %s", other, result.Doc)
			}
		})
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ doc, patch, want string }{
		"fractions":         {`{"a":60.0}`, `[{"op":"add","path":"/b","value":1e3}]`, `{"a":60,"b":1000}`},
		"negative zero":     {`{"a":-0}`, `[{"op":"add","path":"/b","value":-0.0}]`, `{"a":0,"b":0}`},
		"large integers":    {`{"a":9007199254740993}`, `[{"op":"test","path":"/a","value":9007199254740993}]`, `{"a":9007199254740993}`},
		"large and written": {`{"a":1e21}`, `[{"op":"test","path":"/a","value":1000000000000000000000}]`, `{"a":1e+21}`},
		"small":             {`{"a":1E-7}`, `[{"op":"test","path":"/a","value":0.0000001}]`, `{"a":1e-7}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := patchset.Apply(json.RawMessage(tc.doc), ops(t, tc.patch), patchset.Protection{})
			if err != nil || string(result.Doc) != tc.want {
				t.Errorf("got %s, %v, want %s", result.Doc, err, tc.want)
			}
		})
	}
}

// What a stranger may choose has an end, and costs nothing before it is refused.
func TestRefused(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", tree.MaxDepth) + strings.Repeat("]", tree.MaxDepth)
	long := `"` + strings.Repeat("x", 200<<10) + `"`
	list := `[{"op":"add","path":"/l","value":[` + long + `]}`
	for name, tc := range map[string]struct {
		doc, patch string
		want       patchset.Code
		operation  int
	}{
		"a large index to replace":  {`{"l":[]}`, `[{"op":"replace","path":"/l/100000000","value":1}]`, patchset.CodePastEnd, 0},
		"an index that wraps":       {`{"l":[]}`, `[{"op":"add","path":"/l/4294967296","value":1}]`, patchset.CodeOverflow, 0},
		"a very long index":         {`{"l":[]}`, `[{"op":"add","path":"/l/` + strings.Repeat("9", 99999) + `","value":1}]`, patchset.CodeOverflow, 0},
		"copies that double":        {`{"l":{}}`, `[{"op":"add","path":"/l/a","value":` + long + `}` + strings.Repeat(`,{"op":"copy","from":"/l","path":"/l/b"}`, 20) + `]`, patchset.CodeTooLarge, 3},
		"a result that is too long": {`{}`, list + strings.Repeat(`,{"op":"copy","from":"/l/0","path":"/l/-"}`, 2) + `]`, patchset.CodeTooLarge, 2},
		"too many operations": {
			`{}`, `[{"op":"remove","path":"/a"}` + strings.Repeat(`,{"op":"remove","path":"/a"}`, patchset.MaxOperations) + `]`,
			patchset.CodeTooMany, patchset.MaxOperations,
		},
		"far too many":            {`{}`, `[` + strings.Repeat(`0,`, 1<<20) + `0]`, patchset.CodeOpNotObject, 0},
		"too long a patch":        {`{}`, `[` + strings.Repeat(`{"op":"remove","path":"/a","x":`+long+`},`, 6) + `{}]`, patchset.CodeTooLarge, 5},
		"a value too deep":        {`{"a":{}}`, `[{"op":"add","path":"/a/b","value":` + deep + `}]`, patchset.CodeTooDeep, 0},
		"too deep by copying":     {`{}`, `[{"op":"add","path":"/a","value":{}}` + strings.Repeat(`,{"op":"copy","from":"/a","path":"/a/a"}`, 200) + `]`, patchset.CodeTooDeep, tree.MaxDepth - 1},
		"too deep a path":         {`{}`, `[{"op":"add","path":"` + strings.Repeat("/a", tree.MaxDepth+1) + `","value":1}]`, patchset.CodeTooDeep, 0},
		"a number too large":      {`{}`, `[{"op":"add","path":"/a","value":1e400}]`, patchset.CodeNumber, 0},
		"one in the document":     {`{"a":1e400}`, `[]`, patchset.CodeNumber, -1},
		"no document":             {``, `[]`, patchset.CodeDocument, -1},
		"a list for a document":   {`[]`, `[]`, patchset.CodeNotObject, -1},
		"two documents":           {`{}{}`, `[]`, patchset.CodeDocument, -1},
		"a document too large":    {strings.Repeat(" ", tree.MaxBytes) + `{}`, `[]`, patchset.CodeTooLarge, -1},
		"a result that is a list": {`{"a":[]}`, `[{"op":"copy","from":"/a","path":""},{"op":"test","path":"","value":[]}]`, patchset.CodeNotObject, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := patchset.Apply(json.RawMessage(tc.doc), ops(t, tc.patch), patchset.Protection{})
			var failed *patchset.Error
			if !errors.As(err, &failed) {
				t.Fatalf("error %v, want a *patchset.Error", err)
			}
			if failed.Code != tc.want || failed.Operation != tc.operation {
				t.Errorf("%v, want code %s of operation %d", err, tc.want, tc.operation)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("a message of %d bytes", len(err.Error()))
			}
		})
	}
}

// No error quotes a value: it may be secret.
func TestErrorsQuoteNoValue(t *testing.T) {
	t.Parallel()
	for _, patch := range []string{
		`[{"op":"test","path":"/a","value":"s3cret"}]`,
		`[{"op":"add","path":"/a/b","value":"s3cret"}]`,
		`[{"op":"add","path":"/l/x","value":"s3cret"}]`,
		`[{"op":"s3cret","path":"/a"}]`,
		`[{"op":"add","path":["s3cret"],"value":1}]`,
		`["s3cret"]`,
	} {
		_, err := patchset.Apply(json.RawMessage(`{"a":"other s3cret","l":[]}`), ops(t, patch), patchset.Protection{})
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", patch, err)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	all := vectors(b)
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = apply(all[0])
	}
}
