package quota

import (
	"encoding/json"
	"errors"
	"fmt"

	"berth/pkg/license/internal/rawjson"
)

// LoadPatch returns the operations of a license's patch, each as compact JSON,
// otherwise unchanged. The text has to be a JSON array of objects that have an
// RFC 6902 op, a path (of any type: whether it can be applied is seen then), and
// from a string or unset. One bad operation makes the whole text bad; the error
// says which one and how to mend it.
func LoadPatch(text string) ([]json.RawMessage, error) {
	list, err := rawjson.Trim([]byte(text))
	if err != nil {
		return nil, err
	}
	if rawjson.Of(list) != rawjson.Array {
		return nil, errors.New(`not a list: write operations as [{"op":"add","path":"/metadata/labels/name","value":"x"}]`)
	}
	compact := rawjson.AppendCompact(make([]byte, 0, len(list)), list)
	var operations []json.RawMessage
	for operation := range rawjson.Elements(compact) {
		if err := checkOperation(operation); err != nil {
			return nil, fmt.Errorf("operation %d: %w", len(operations), err)
		}
		operations = append(operations, operation)
	}
	return operations, nil
}

func checkOperation(operation []byte) error {
	if rawjson.Of(operation) != rawjson.Object {
		return errors.New(`not an object: write it as {"op":…,"path":…}`)
	}
	var op, path, from []byte
	for name, value := range rawjson.Members(operation) {
		switch string(name) {
		case "op":
			op = value
		case "path":
			path = value
		case "from":
			from = value
		}
	}
	switch string(rawjson.Text(op)) {
	case "add", "remove", "replace", "move", "copy", "test":
	default:
		return errors.New("op is not one of add, remove, replace, move, copy, test")
	}
	if rawjson.Of(path) == rawjson.Unset {
		return errors.New("path is missing: name the member, as /metadata/labels/name")
	}
	if kind := rawjson.Of(from); kind != rawjson.Unset && kind != rawjson.String {
		return errors.New("from is not a string: name the member, as /metadata/labels/name")
	}
	return nil
}
