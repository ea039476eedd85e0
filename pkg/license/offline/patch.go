package offline

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"

	"berth/pkg/license/internal/rawjson"
	"berth/pkg/license/patchset"
)

// ApplyPatches answers each case, {"id","doc","patches":[[operation,…],…]} with a
// patch for each license, with {"id","doc"}: the document, its members in order of
// their names; or with {"id","error":{"license","operation","path","code",
// "message"}}. license and operation count from 0; they are null where none is at
// fault, and operation is, where the patch as a whole is. Nothing is protected. It
// returns an error only if reading or writing fails, or ctx ends.
func ApplyPatches(ctx context.Context, in io.Reader, out io.Writer) error {
	return each(ctx, in, out, applyPatches)
}

// codeMalformed is the code of a line that is no case.
const codeMalformed = "malformed"

// patchFailure is the error of a case.
type patchFailure struct {
	License   *int   `json:"license"`
	Operation *int   `json:"operation"`
	Path      string `json:"path"`
	Code      string `json:"code"`
	Message   string `json:"message"`
}

func applyPatches(to, line []byte) []byte {
	id, doc, patches, err := readPatchCase(line)
	if err != nil {
		return appendFailure(to, id, patchFailure{Code: codeMalformed, Message: err.Error()})
	}
	result, err := applyAll(doc, patches)
	if err != nil {
		return appendFailure(to, id, failureOf(err))
	}
	to = append(appendID(to, id), `,"doc":`...)
	to = append(to, result...)
	return append(to, '}')
}

func readPatchCase(line []byte) (id, doc, patches []byte, err error) {
	object, err := caseOf(line)
	if err != nil {
		return nil, nil, nil, err
	}
	for name, value := range rawjson.Members(object) {
		switch string(name) {
		case "id":
			id = value
		case "doc":
			doc = value
		case "patches":
			patches = value
		}
	}
	switch {
	case doc == nil:
		err = errors.New("doc is missing")
	case rawjson.Of(patches) != rawjson.Array:
		err = errors.New("patches is not a list: write a patch for each license")
	}
	return id, doc, patches, err
}

// applyAll applies the patches in order. The first that fails is the error, also
// where a later one is no list.
func applyAll(doc, patches []byte) (json.RawMessage, error) {
	var ops []patchset.Operation
	var noList error
	license := 0
	for patch := range rawjson.Elements(patches) {
		more, err := patchset.List(strconv.Itoa(license), license, patch)
		if err != nil {
			noList = err
			break
		}
		ops = append(ops, more...)
		license++
		if len(ops) > patchset.MaxOperations {
			break // They are refused; the rest would only take memory.
		}
	}
	result, err := patchset.Apply(doc, ops, patchset.Protection{})
	if err == nil {
		err = noList
	}
	return result.Doc, err
}

func failureOf(err error) patchFailure {
	failed, ok := errors.AsType[*patchset.Error](err)
	if !ok {
		return patchFailure{Code: codeMalformed, Message: err.Error()}
	}
	failure := patchFailure{Path: failed.Path, Code: string(failed.Code), Message: failed.Message}
	if failed.List >= 0 {
		failure.License = &failed.List
	}
	if failed.Operation >= 0 {
		failure.Operation = &failed.Operation
	}
	return failure
}

func appendFailure(to, id []byte, failure patchFailure) []byte {
	text, err := json.Marshal(failure)
	if err != nil {
		return appendError(to, id, failure.Message) // Numbers and texts can always be encoded.
	}
	to = append(appendID(to, id), `,"error":`...)
	to = append(to, text...)
	return append(to, '}')
}
