package patchset

import (
	"encoding/json"
	"errors"
	"slices"

	"berth/pkg/license/internal/rawjson"
	"berth/pkg/license/internal/tree"
	"berth/pkg/license/jsontext"
)

// Operation is one operation of a license's patch, as it was written.
type Operation struct {
	// License is the id of the license, List its position among the licenses.
	License string
	List    int
	// Index is the position within the license's patch, from 0.
	Index int
	Raw   json.RawMessage
}

// List takes a license's patch apart into its operations; of more than Apply takes
// only as many as it refuses. The error is an [*Error]: the patch is no list.
func List(license string, list int, patch json.RawMessage) ([]Operation, error) {
	text, err := rawjson.Trim(patch)
	if err != nil || rawjson.Of(text) != rawjson.Array {
		return nil, &Error{License: license, List: list, Operation: -1, Code: CodePatchNotArray, Message: "a patch must be a list of operations"}
	}
	var ops []Operation
	for op := range rawjson.Elements(text) {
		ops = append(ops, Operation{license, list, len(ops), op})
		if len(ops) > MaxOperations {
			break
		}
	}
	return ops, nil
}

// operation is one that has the right form.
type operation struct {
	op         string
	path, from []string
	value      any
	text       json.RawMessage // value, in its one text
}

// written is the path of an operation as its author wrote it, "" where that is no string.
func written(raw json.RawMessage) string {
	members, _ := membersOf(raw)
	path, _ := textOf(members["path"])
	const longest = 256
	if len(path) > longest {
		path = path[:longest] + "…"
	}
	return path
}

// parse checks the form of an operation. Members that it does not know are
// ignored; of members with one name the last counts; names are compared exactly.
func parse(raw json.RawMessage) (operation, *fault) {
	members, ok := membersOf(raw)
	if !ok {
		return operation{}, &fault{CodeOpNotObject, "an operation must be an object"}
	}
	var o operation
	o.op, _ = textOf(members["op"])
	if !slices.Contains([]string{"add", "remove", "replace", "move", "copy", "test"}, o.op) {
		return o, &fault{CodeOpUnknown, "op must be one of add, remove, replace, move, copy, test"}
	}

	path, isText := textOf(members["path"])
	if _, given := members["path"]; !given {
		return o, &fault{CodePathAbsent, "path must be given"}
	}
	if !isText {
		return o, &fault{CodePathNotString, "path must be a string"}
	}
	needsFrom := o.op == "copy" || o.op == "move"
	from, isText := textOf(members["from"])
	_, given := members["from"]
	switch isNull := string(members["from"]) == "null"; {
	case needsFrom && !given:
		return o, &fault{CodeFromAbsent, o.op + " must have a from"}
	case given && !isText && (needsFrom || !isNull):
		return o, &fault{CodeFromNotString, "from must be a string"}
	}

	if wrong := jsontext.Broken(members["path"]); wrong != "" {
		return o, &fault{CodeCharacter, "path has " + wrong}
	}
	var bad *fault
	if o.path, bad = pointer(path); bad != nil {
		return o, bad
	}
	if needsFrom {
		if wrong := jsontext.Broken(members["from"]); wrong != "" {
			return o, &fault{CodeCharacter, "from has " + wrong}
		}
		if o.from, bad = pointer(from); bad != nil {
			return o, bad.before("from")
		}
		return o, nil
	}
	if o.op == "remove" {
		return o, nil
	}
	value, valued := members["value"]
	if !valued {
		return o, &fault{CodeValueAbsent, o.op + " must have a value; null is one"}
	}
	decoded, err := tree.Decode(value)
	if err != nil {
		return o, unreadable(err, CodeValueInvalid, "value: ")
	}
	o.value, o.text = decoded, tree.Encode(decoded)
	return o, nil
}

// unreadable says why a text was not decoded; code where it is no JSON.
func unreadable(err error, code Code, what string) *fault {
	switch {
	case errors.Is(err, tree.ErrTooLarge):
		code = CodeTooLarge
	case errors.Is(err, tree.ErrTooDeep):
		code = CodeTooDeep
	case errors.Is(err, tree.ErrNumber):
		code = CodeNumber
	case errors.Is(err, tree.ErrCharacter):
		code = CodeCharacter
	}
	return &fault{code, what + err.Error()}
}

// pointer takes a path apart.
func pointer(text string) ([]string, *fault) {
	tokens, err := tree.Tokens(text)
	switch {
	case errors.Is(err, tree.ErrNoSlash):
		return nil, &fault{CodeNoSlash, err.Error()}
	case err != nil:
		return nil, &fault{CodeBadEscape, err.Error()}
	case len(tokens) > tree.MaxDepth:
		return nil, &fault{CodeTooDeep, tree.ErrTooDeep.Error()}
	case slices.Contains(tokens, "__proto__"):
		return nil, &fault{CodeForbidden, "__proto__ is no name that a hub accepts"}
	}
	return tokens, nil
}

func membersOf(raw json.RawMessage) (map[string]json.RawMessage, bool) {
	var members map[string]json.RawMessage
	err := json.Unmarshal(raw, &members)
	return members, err == nil && members != nil
}

func textOf(raw json.RawMessage) (string, bool) {
	var text *string
	err := json.Unmarshal(raw, &text)
	if err != nil || text == nil {
		return "", false
	}
	return *text, true
}
