package license

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"berth/pkg/license/internal/tree"
)

// Operation is one operation of RFC 6902.
type Operation struct {
	Op    string          `json:"op"` // add, remove or replace
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value,omitempty"`
}

// Diff returns the operations that make, of the canonical form of one document,
// that of another. It is not always the shortest list. The error says which of the
// two is no JSON.
func Diff(before, after json.RawMessage) ([]Operation, error) {
	a, err := tree.Decode(before)
	if err != nil {
		return nil, fmt.Errorf("read document before: %w", err)
	}
	b, err := tree.Decode(after)
	if err != nil {
		return nil, fmt.Errorf("read document after: %w", err)
	}
	d := differ{ops: []Operation{}}
	d.compare(nil, a, b)
	return d.ops, nil
}

type differ struct{ ops []Operation }

func (d *differ) emit(op string, value any, path []string) {
	operation := Operation{Op: op, Path: tree.Pointer(path...)}
	if op != "remove" {
		operation.Value = tree.Encode(value)
	}
	d.ops = append(d.ops, operation)
}

func (d *differ) compare(path []string, a, b any) {
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			d.objects(path, x, y)
			return
		}
	case []any:
		if y, ok := b.([]any); ok {
			d.lists(path, x, y)
			return
		}
	case json.Number:
		// Numbers that are equal may have two texts, of which the result has b's.
		if a != b {
			d.emit("replace", b, path)
		}
		return
	}
	if !tree.Equal(a, b) {
		d.emit("replace", b, path)
	}
}

func (d *differ) objects(path []string, a, b map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if _, ok := b[name]; !ok {
			d.emit("remove", nil, below(path, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if before, ok := a[name]; ok {
			d.compare(below(path, name), before, b[name])
		} else {
			d.emit("add", b[name], below(path, name))
		}
	}
}

// lists leaves what both have at the front and at the end, and compares the rest
// element by element.
func (d *differ) lists(path []string, a, b []any) {
	front, shorter := 0, min(len(a), len(b))
	for front < shorter && tree.Equal(a[front], b[front]) {
		d.compare(below(path, strconv.Itoa(front)), a[front], b[front])
		front++
	}
	back := 0
	for back < shorter-front && string(tree.Encode(a[len(a)-1-back])) == string(tree.Encode(b[len(b)-1-back])) {
		back++
	}
	both := shorter - back
	for i := front; i < both; i++ {
		d.compare(below(path, strconv.Itoa(i)), a[i], b[i])
	}
	for i := len(a) - back - 1; i >= both; i-- {
		d.emit("remove", nil, below(path, strconv.Itoa(i)))
	}
	for i := both; i < len(b)-back; i++ {
		d.emit("add", b[i], below(path, strconv.Itoa(i)))
	}
}

func below(path []string, token string) []string {
	return append(slices.Clip(path), token)
}
