package tree

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// Edit is one operation of RFC 6902, in the words that every applier understands.
type Edit struct {
	Op    string // add, replace or remove
	Path  string
	Value json.RawMessage // not for remove
}

// Editor changes a tree and keeps what it did: the Edits, applied to the tree
// that Root was, give the tree that it is.
type Editor struct {
	Root  any
	Edits []Edit
}

// Get returns what is at a path; false where nothing is.
func (e *Editor) Get(path ...string) (any, bool) {
	node := e.Root
	for _, token := range path {
		var ok bool
		if node, ok = member(node, token); !ok {
			return nil, false
		}
	}
	return node, true
}

// Set puts a value at a path, with the objects that are missing (or null) on the
// way. Where it is there already nothing happens. The error names the place on
// the way that can hold nothing.
func (e *Editor) Set(value any, path ...string) error {
	node := e.Root
	for i, token := range path {
		child, ok := member(node, token)
		if i < len(path)-1 && child != nil {
			node = child
			continue
		}
		for j := len(path) - 1; j > i; j-- {
			value = map[string]any{path[j]: value}
		}
		if ok && Equal(child, value) {
			return nil
		}
		return e.put(node, value, ok, path[:i+1])
	}
	return nil
}

// Append adds a value to the list at a path; where there is none, it makes it.
func (e *Editor) Append(value any, path ...string) error {
	current, _ := e.Get(path...)
	switch list := current.(type) {
	case nil:
		return e.Set([]any{value}, path...)
	case []any:
		holder, _ := e.Get(path[:len(path)-1]...)
		e.record("add", append(slices.Clip(path), strconv.Itoa(len(list))), value)
		return assign(holder, append(slices.Clip(list), value), path)
	default:
		return fmt.Errorf("%s is no list", Pointer(path...))
	}
}

// Remove takes a member out of an object. Where it is not there nothing happens.
func (e *Editor) Remove(path ...string) {
	holder, _ := e.Get(path[:len(path)-1]...)
	name := path[len(path)-1]
	object, _ := holder.(map[string]any)
	if _, ok := object[name]; !ok {
		return
	}
	delete(object, name)
	e.Edits = append(e.Edits, Edit{Op: "remove", Path: Pointer(path...)})
}

func (e *Editor) put(node, value any, exists bool, path []string) error {
	if err := assign(node, value, path); err != nil {
		return err
	}
	op := "add"
	if exists {
		op = "replace"
	}
	e.record(op, path, value)
	return nil
}

func (e *Editor) record(op string, path []string, value any) {
	e.Edits = append(e.Edits, Edit{Op: op, Path: Pointer(path...), Value: Encode(value)})
}

// assign sets a member of an object, or an element that a list has.
func assign(node, value any, path []string) error {
	token := path[len(path)-1]
	switch c := node.(type) {
	case map[string]any:
		c[token] = value
		return nil
	case []any:
		if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(c) {
			c[i] = value
			return nil
		}
		return fmt.Errorf("%s: the list has no such element", Pointer(path...))
	default:
		return fmt.Errorf("%s is neither an object nor a list", Pointer(path[:len(path)-1]...))
	}
}

func member(node any, token string) (any, bool) {
	switch c := node.(type) {
	case map[string]any:
		child, ok := c[token]
		return child, ok
	case []any:
		if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(c) {
			return c[i], true
		}
	}
	return nil, false
}
