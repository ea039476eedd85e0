package patchset_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/internal/tree"
	"berth/pkg/license/patchset"
)

// vector is one case, and what the hub's library makes of it.
type vector struct {
	ID, Name   string
	Doc        json.RawMessage
	Patches    []json.RawMessage
	Want       json.RawMessage
	Error      bool
	Recommend  string
	ReasonOp   *int            `json:"reason_op"`
	AcceptWant json.RawMessage `json:"accept_want"`
	RFCError   string          `json:"rfc_error"`
}

func vectors(tb testing.TB) []vector {
	tb.Helper()
	file, err := os.Open("testdata/patch.jsonl.gz")
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		tb.Fatal(err)
	}
	lines := bufio.NewScanner(plain)
	lines.Buffer(nil, 1<<24)
	var all []vector
	for lines.Scan() {
		var v vector
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			tb.Fatal(err)
		}
		all = append(all, v)
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return all
}

// apply runs a vector as the offline tool does.
func apply(v vector) (patchset.Result, []patchset.Operation, error) {
	var ops []patchset.Operation
	for i, patch := range v.Patches {
		more, err := patchset.List(strconv.Itoa(i), i, patch)
		if err != nil {
			if _, applied := patchset.Apply(v.Doc, ops, patchset.Protection{}); applied != nil {
				err = applied
			}
			return patchset.Result{}, ops, err
		}
		ops = append(ops, more...)
	}
	result, err := patchset.Apply(v.Doc, ops, patchset.Protection{})
	return result, ops, err
}

// TestVectors holds the outcome of every vector against its recommendation, and
// the operations that come back against another applier.
func TestVectors(t *testing.T) {
	t.Parallel()
	all := vectors(t)
	if len(all) != 958 {
		t.Fatalf("%d vectors, want 958", len(all))
	}
	codes := map[string]int{}
	for _, v := range all {
		result, ops, err := apply(v)
		switch fails := v.Recommend == "refuse" || v.Error; {
		case v.Recommend == "accept":
			if err == nil {
				compare(t, v, v.AcceptWant, result)
			}
		case fails && err == nil:
			t.Errorf("%s %s: succeeded", v.ID, v.Name)
		case fails:
			checkError(t, v, ops, err, codes)
		case err != nil:
			t.Errorf("%s %s: %v", v.ID, v.Name, err)
		default:
			compare(t, v, v.Want, result)
		}
	}
	// A strict applier gives the same reason, but for cases in which it fails at an
	// earlier operation, or not at all.
	if diff := cmp.Diff(map[string]int{"same": 303, "other": 19}, codes); diff != "" {
		t.Errorf("codes like a strict applier's: -want +got:\n%s", diff)
	}
}

func checkError(t *testing.T, v vector, ops []patchset.Operation, err error, codes map[string]int) {
	t.Helper()
	var failed *patchset.Error
	if !errors.As(err, &failed) {
		t.Errorf("%s %s: error %T, want a *patchset.Error", v.ID, v.Name, err)
		return
	}
	if v.RFCError == string(failed.Code) {
		codes["same"]++
	} else {
		codes["other"]++
		t.Logf("%s %s: code %s, strictly %s", v.ID, v.Name, failed.Code, v.RFCError)
	}
	if v.ReasonOp != nil {
		want := ops[*v.ReasonOp]
		if failed.List != want.List || failed.Operation != want.Index {
			t.Errorf("%s %s: failed at %d/%d (%v), want %d/%d", v.ID, v.Name, failed.List, failed.Operation, err, want.List, want.Index)
		}
	}
}

// compare holds a result against the wanted document, and checks that its
// operations, applied by another library, give the same.
func compare(t *testing.T, v vector, want json.RawMessage, result patchset.Result) {
	t.Helper()
	if diff := cmp.Diff(string(canonical(t, want)), string(result.Doc)); diff != "" {
		t.Errorf("%s %s: -want +got:\n%s", v.ID, v.Name, diff)
	}
	if other, ok := elsewhere(t, canonical(t, v.Doc), result.Effective); ok && string(other) != string(result.Doc) {
		t.Errorf("%s %s: the operations, applied elsewhere: -want +got:\n%s", v.ID, v.Name, cmp.Diff(string(result.Doc), string(other)))
	}
}

// failer is a test, or a run of a property.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
}

func canonical(tb failer, text json.RawMessage) json.RawMessage {
	tb.Helper()
	value, err := tree.Decode(text)
	if err != nil {
		tb.Fatal(err)
	}
	return tree.Encode(value)
}

// elsewhere applies operations with evanphx/json-patch, strictly; false where a
// member without a name is on the way, which that library cannot follow.
func elsewhere(tb failer, doc json.RawMessage, ops []patchset.Effective) (json.RawMessage, bool) {
	tb.Helper()
	type wire struct {
		Op    string          `json:"op"`
		Path  string          `json:"path"`
		From  *string         `json:"from,omitempty"`
		Value json.RawMessage `json:"value,omitempty"`
	}
	list := []wire{}
	for _, op := range ops {
		w := wire{Op: op.Op, Path: op.Path, Value: op.Value}
		if op.Op == "copy" || op.Op == "move" {
			w.From = &op.From
		}
		for _, pointer := range []string{op.Path, op.From} {
			if strings.HasSuffix(pointer, "/") || strings.Contains(pointer, "//") {
				return nil, false
			}
		}
		list = append(list, w)
	}
	patch, err := jsonpatch.DecodePatch(tree.Encode(list))
	if err != nil {
		tb.Fatal(err)
	}
	options := jsonpatch.NewApplyOptions()
	options.SupportNegativeIndices, options.EscapeHTML = false, false
	out, err := patch.ApplyWithOptions(doc, options)
	if err != nil {
		tb.Errorf("apply %s elsewhere: %v", tree.Encode(list), err)
		return nil, false
	}
	return canonical(tb, out), true
}
