package offline_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/offline"
)

func TestApplyPatches(t *testing.T) {
	t.Parallel()
	const license, operation = `{"license":0,"operation":`, `{"license":1,"operation":0,`
	for name, tc := range map[string]struct{ line, want string }{
		"a document": {
			`{"id":"a","doc":{"l":[1.0],"<":1},"patches":[[{"op":"add","path":"/l/7","value":2}],[]]}`,
			`{"id":"a","doc":{"<":1,"l":[1,2]}}`,
		},
		"no license":      {`{"id":1,"doc":{"b":1,"a":2},"patches":[]}`, `{"id":1,"doc":{"a":2,"b":1}}`},
		"no protection":   {`{"id":1,"doc":{"kind":"Pod"},"patches":[[{"op":"remove","path":"/kind"}]]}`, `{"id":1,"doc":{}}`},
		"a failing test":  {`{"id":1,"doc":{"a":1},"patches":[[],[{"op":"test","path":"/a","value":2}]]}`, `{"id":1,"error":` + operation + `"path":"/a","code":"test-failed","message":"another value is there"}}`},
		"a patch no list": {`{"id":1,"doc":{},"patches":[{"op":"add"}]}`, `{"id":1,"error":` + license + `null,"path":"","code":"patch-not-array","message":"a patch must be a list of operations"}}`},
		"the first fault": {
			`{"id":1,"doc":{},"patches":[[],[{"op":"merge","path":"/a"}],null]}`,
			`{"id":1,"error":` + operation + `"path":"/a","code":"op-unknown","message":"op must be one of add, remove, replace, move, copy, test"}}`,
		},
		"half a character in a path": {
			`{"id":1,"doc":{"z":1},"patches":[[],[{"op":"remove","path":"/\ud801"}]]}`,
			`{"id":1,"error":` + operation + `"path":"/�","code":"character","message":"path has half a character (a lone surrogate)"}}`,
		},
		"half a character in from": {
			`{"id":1,"doc":{"z":1},"patches":[[],[{"op":"copy","path":"/a","from":"/\udc00"}]]}`,
			`{"id":1,"error":` + operation + `"path":"/a","code":"character","message":"from has half a character (a lone surrogate)"}}`,
		},
		"half a character in a value": {
			`{"id":1,"doc":{"z":1},"patches":[[],[{"op":"test","path":"/z","value":"\ud801"}]]}`,
			`{"id":1,"error":` + operation + `"path":"/z","code":"character","message":"value: a text has what is no character: half a character (a lone surrogate)"}}`,
		},
		"half a character in a document": {
			`{"id":1,"doc":{"\ud800":1,"\ud801":2},"patches":[]}`,
			`{"id":1,"error":{"license":null,"operation":null,"path":"","code":"character","message":"document: a text has what is no character: half a character (a lone surrogate)"}}`,
		},
		"half a character that is not looked at": {
			`{"id":1,"doc":{},"patches":[[{"op":"add","path":"/a","value":1,"note":"\ud800"}]]}`, `{"id":1,"doc":{"a":1}}`,
		},
		"a number too large in the document": {
			`{"id":1,"doc":{"a":1e400},"patches":[]}`,
			`{"id":1,"error":{"license":null,"operation":null,"path":"","code":"number","message":"document: a number is too large: a 64-bit floating-point number cannot hold it"}}`,
		},
		"no object":     {`{"id":1,"doc":[],"patches":[]}`, `{"id":1,"error":{"license":null,"operation":null,"path":"","code":"not-object","message":"the result must be an object"}}`},
		"no document":   {`{"id":1,"patches":[]}`, `{"id":1,"error":{"license":null,"operation":null,"path":"","code":"malformed","message":"doc is missing"}}`},
		"no patches":    {`{"doc":{}}`, `{"id":null,"error":{"license":null,"operation":null,"path":"","code":"malformed","message":"patches is not a list: write a patch for each license"}}`},
		"an empty line": {``, ``}, "no JSON": {`{"id":1,`, ``}, "a list": {`[]`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := new(bytes.Buffer)
			if err := offline.ApplyPatches(t.Context(), strings.NewReader(tc.line+"\n"), out); err != nil {
				t.Fatal(err)
			}
			got := strings.TrimSuffix(out.String(), "\n")
			if tc.want == "" { // The words are the reader's.
				if !strings.HasPrefix(got, `{"id":null,"error":{"license":null,"operation":null,"path":"","code":"malformed"`) || strings.Contains(got, "\n") {
					t.Errorf("got %s", got)
				}
				return
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Each vector has one answer, in its place: a document, or an error that says where.
func TestApplyPatchesVectors(t *testing.T) {
	t.Parallel()
	text := recorded(t, "../patchset/testdata/patch.jsonl.gz")
	out := new(bytes.Buffer)
	if err := offline.ApplyPatches(t.Context(), bytes.NewReader(text), out); err != nil {
		t.Fatal(err)
	}
	type object = map[string]any
	answers := json.NewDecoder(out)
	for line := range bytes.Lines(text) {
		var want struct {
			ID         string
			Want       object
			AcceptWant object `json:"accept_want"`
			Error      bool
			Recommend  string
		}
		if err := json.Unmarshal(line, &want); err != nil {
			t.Fatal(err)
		}
		var got struct {
			ID    string
			Doc   object
			Error *struct {
				License       *int
				Code, Message string
			}
		}
		if err := answers.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.ID != want.ID {
			t.Fatalf("answer to %s where %s was asked", got.ID, want.ID)
		}
		switch fails := want.Error || want.Recommend == "refuse"; {
		case want.Recommend == "accept":
			if got.Error == nil && !cmp.Equal(want.AcceptWant, got.Doc) {
				t.Errorf("%s: %s", want.ID, cmp.Diff(want.AcceptWant, got.Doc))
			}
		case fails && (got.Error == nil || got.Error.License == nil || got.Error.Code == "" || got.Error.Message == "" || got.Doc != nil):
			t.Errorf("%s: %+v, want an error", want.ID, got)
		case !fails && (got.Error != nil || !cmp.Equal(want.Want, got.Doc)):
			t.Errorf("%s: error %+v, %s", want.ID, got.Error, cmp.Diff(want.Want, got.Doc))
		}
	}
	if answers.More() {
		t.Error("more answers than cases")
	}
}

func BenchmarkApplyPatches(b *testing.B) {
	benchmark(b, offline.ApplyPatches, recorded(b, "../patchset/testdata/patch.jsonl.gz"))
}
