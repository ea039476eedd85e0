package patchset

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"berth/pkg/license/internal/tree"
)

// Limits of one call of [Apply], beside those of a document (512 KiB, 128 levels).
const (
	// MaxOperations is how many operations all patches together may have.
	MaxOperations = 1000
	// MaxPatchBytes is how long all operations together may be.
	MaxPatchBytes = 1 << 20
	// MaxGrowth is how many bytes all values that are added and copied may have together.
	MaxGrowth = 1 << 20
)

// Result is what a patch made.
type Result struct {
	// Doc is the document: members in order of their names, no white space,
	// numbers in one form (60.0 is 60, 1e3 is 1000).
	Doc json.RawMessage
	// Effective are the operations as RFC 6902 would have them; applied strictly
	// to the document they give Doc. Tests, and what is in Skipped, are left out.
	Effective []Effective
	// Skipped are the operations that had nothing to do.
	Skipped []Skipped
}

// Effective is one operation, and where it is from.
type Effective struct {
	License     string
	List, Index int
	Op          string // add, remove, replace, copy, move
	Path        string
	From        string          // of copy and move
	Value       json.RawMessage // of add and replace
	// Copied says that Value was in the document already: the operation as written is a
	// copy or a move of, or to, the whole.
	Copied bool
	// Note says what was done, where a strict applier had refused what was written.
	Note string
}

// Skipped is one operation that found what it asks for.
type Skipped struct {
	License     string
	List, Index int
	Path        string
	Why         string
}

// Apply applies the operations of all patches, in order, to a document, all or
// nothing. rules say what no patch may change. The error is an [*Error] of the
// first operation that fails, or says which path of rules is no JSON pointer. Its
// arguments are not modified; it is safe for concurrent use.
func Apply(doc json.RawMessage, ops []Operation, rules Protection) (Result, error) {
	if err := rules.Validate(); err != nil {
		return Result{}, err
	}
	root, err := tree.Decode(doc)
	if err != nil {
		bad := unreadable(err, CodeDocument, "document: ")
		return Result{}, &Error{List: -1, Operation: -1, Code: bad.code, Message: bad.message}
	}

	d := &document{root: root}
	held := hold(root, rules)
	last, size := Operation{List: -1, Index: -1}, 0
	for i, op := range ops {
		size += len(op.Raw)
		switch {
		case i >= MaxOperations:
			return Result{}, op.failed(&fault{CodeTooMany, fmt.Sprintf("all patches together may have %d operations", MaxOperations)}, "")
		case size > MaxPatchBytes:
			return Result{}, op.failed(&fault{CodeTooLarge, fmt.Sprintf("all patches together may have %d bytes", MaxPatchBytes)}, "")
		}
		changed, bad := d.run(op)
		if bad != nil {
			return Result{}, op.failed(bad, "")
		}
		if !changed {
			continue
		}
		if rule := held.broken(d.root); rule != "" {
			return Result{}, op.failed(&fault{CodeProtected, "no license may change this: " + rule}, rule)
		}
		last = op
	}
	if _, ok := d.root.(map[string]any); !ok {
		return Result{}, last.failed(&fault{CodeNotObject, "the result must be an object"}, "")
	}
	d.Doc = tree.Encode(d.root)
	if len(d.Doc) > tree.MaxBytes {
		return Result{}, last.failed(&fault{CodeTooLarge, "the result is " + tree.ErrTooLarge.Error()}, "")
	}
	return d.Result, nil
}

func (o Operation) failed(bad *fault, rule string) *Error {
	return &Error{
		License: o.License, List: o.List, Operation: o.Index, Path: written(o.Raw),
		Code: bad.code, Rule: rule, Message: bad.message,
	}
}

// document is one that is being patched, and what was done to it.
type document struct {
	Result

	root  any
	grown int
}

// run carries out one operation.
func (d *document) run(op Operation) (changed bool, bad *fault) {
	o, bad := parse(op.Raw)
	if bad != nil {
		return false, bad
	}
	done := Effective{License: op.License, List: op.List, Index: op.Index, Op: o.op}
	why := ""
	switch o.op {
	case "add":
		done.Value = o.text
		bad = d.insert(o.path, o.value, len(o.text), &done)
	case "replace":
		done.Value = o.text
		bad = d.replace(o.path, o.value, len(o.text), &done)
	case "remove":
		why, bad = d.remove(o.path, &done)
	case "copy":
		bad = d.copy(o.from, o.path, &done)
	case "move":
		why, bad = d.move(o.from, o.path, &done)
	case "test":
		return false, d.test(o.path, o.value)
	}
	switch {
	case bad != nil:
		return false, bad
	case why != "":
		d.Skipped = append(d.Skipped, Skipped{op.License, op.List, op.Index, written(op.Raw), why})
		return false, nil
	}
	done.Copied = done.Value != nil && (o.op == "copy" || o.op == "move")
	d.Effective = append(d.Effective, done)
	return true, nil
}

// grow accounts for a value of that many bytes that goes to a path.
func (d *document) grow(path []string, value any, bytes int) *fault {
	d.grown += bytes
	if d.grown > MaxGrowth {
		return &fault{CodeTooLarge, fmt.Sprintf("what all patches add and copy may have %d bytes together", MaxGrowth)}
	}
	if len(path)+tree.Depth(value) > tree.MaxDepth {
		return &fault{CodeTooDeep, tree.ErrTooDeep.Error()}
	}
	return nil
}

// whole replaces the document. Copies and moves of it are written as replace too:
// libraries do not agree on them.
func (d *document) whole(value any, done *Effective) {
	d.root = value
	done.Op, done.From, done.Path, done.Value = "replace", "", "", tree.Encode(value)
}

// into finds what a value of that many bytes goes into, and the strict tokens of it.
// A value for the whole document is put there; then there is nothing to go into, and
// the slot has a nil value.
func (d *document) into(path []string, value any, size int, done *Effective) (at slot, strict []string, bad *fault) {
	if bad := d.grow(path, value, size); bad != nil {
		return slot{}, nil, bad
	}
	if len(path) == 0 {
		d.whole(value, done)
		return slot{}, nil, nil
	}
	return d.parent(path)
}

// insert puts a value where add, copy and move put it.
func (d *document) insert(path []string, value any, size int, done *Effective) *fault {
	at, strict, bad := d.into(path, value, size, done)
	if bad != nil || at.value == nil {
		return bad
	}
	token := path[len(path)-1]
	switch c := at.value.(type) {
	case map[string]any:
		c[token] = value
	case []any:
		n, note, bad := inserting(token, len(c))
		if bad != nil {
			return bad
		}
		at.set(slices.Insert(c, n, value))
		token, done.Note = strconv.Itoa(n), note
	}
	done.Path = tree.Pointer(append(strict, token)...)
	return nil
}

func (d *document) replace(path []string, value any, size int, done *Effective) *fault {
	at, strict, bad := d.into(path, value, size, done)
	if bad != nil || at.value == nil {
		return bad
	}
	token := path[len(path)-1]
	switch c := at.value.(type) {
	case map[string]any:
		if _, ok := c[token]; !ok {
			done.Op, done.Note = "add", "nothing was there: added"
		}
		c[token] = value
	case []any:
		n, note, bad := replacing(token, len(c))
		switch {
		case bad != nil:
			return bad
		case n == len(c):
			at.set(append(c, value))
			done.Op, done.Note = "add", note
		default:
			c[n] = value
		}
		token = strconv.Itoa(n)
	}
	done.Path = tree.Pointer(append(strict, token)...)
	return nil
}

// remove takes out what is at a path; why says that nothing is.
func (d *document) remove(path []string, done *Effective) (why string, bad *fault) {
	if len(path) == 0 {
		return "", &fault{CodeRootRemoved, "the document cannot be removed"}
	}
	at, strict, bad := d.parent(path)
	if bad != nil {
		return "", bad
	}
	token := path[len(path)-1]
	switch c := at.value.(type) {
	case map[string]any:
		if _, ok := c[token]; !ok {
			return "nothing is there to remove", nil
		}
		delete(c, token)
	case []any:
		n, bad := index(token)
		switch {
		case bad != nil:
			return "", bad
		case n >= len(c):
			return fmt.Sprintf("nothing is there to remove: the list has %d elements", len(c)), nil
		}
		at.set(slices.Delete(c, n, n+1))
		token = strconv.Itoa(n)
	}
	done.Path = tree.Pointer(append(strict, token)...)
	return "", nil
}

// find returns the value at a path, which must be there, and its strict tokens.
func (d *document) find(path []string) (any, []string, *fault) {
	if len(path) == 0 {
		return d.root, nil, nil
	}
	at, strict, bad := d.parent(path)
	if bad != nil {
		return nil, nil, bad
	}
	token := path[len(path)-1]
	switch c := at.value.(type) {
	case map[string]any:
		value, ok := c[token]
		if !ok {
			return nil, nil, &fault{CodeMemberMissing, "nothing is there"}
		}
		return value, append(strict, token), nil
	case []any:
		n, bad := existing(token, len(c))
		if bad != nil {
			return nil, nil, bad
		}
		return c[n], append(strict, strconv.Itoa(n)), nil
	}
	return nil, nil, noContainer(at.value, path)
}

func (d *document) copy(from, path []string, done *Effective) *fault {
	value, strict, bad := d.find(from)
	if bad != nil {
		return bad.before("from")
	}
	done.From = tree.Pointer(strict...)
	text := tree.Encode(value)
	if len(from) == 0 {
		done.Op, done.From, done.Value = "add", "", text
	}
	return d.insert(path, tree.Clone(value), len(text), done)
}

// move takes a value out before it looks for the target, as RFC 6902 has it; why
// says that it is there already.
func (d *document) move(from, path []string, done *Effective) (why string, bad *fault) {
	value, strict, bad := d.find(from)
	if bad != nil {
		return "", bad.before("from")
	}
	if len(path) > len(from) && d.within(path[:len(from)], strict) {
		return "", &fault{CodeMoveIntoSelf, "a value cannot be moved into itself"}
	}
	const stays = "it is there already"
	switch {
	case len(from) == 0:
		return stays, nil
	case len(path) == 0:
		d.whole(value, done)
		return "", nil
	}
	if _, bad := d.remove(strict, done); bad != nil {
		return "", bad.before("from")
	}
	done.From = done.Path
	if bad := d.insert(path, value, 0, done); bad != nil {
		return "", bad
	}
	if done.From == done.Path {
		return stays, nil
	}
	return "", nil
}

// within says whether tokens, which may be written in another way, lead where
// strict leads.
func (d *document) within(tokens, strict []string) bool {
	node := d.root
	for i, token := range strict {
		switch c := node.(type) {
		case map[string]any:
			if tokens[i] != token {
				return false
			}
			node = c[token]
		case []any:
			n, bad := existing(tokens[i], len(c))
			if bad != nil || strconv.Itoa(n) != token {
				return false
			}
			node = c[n]
		}
	}
	return true
}

func (d *document) test(path []string, value any) *fault {
	found, _, bad := d.find(path)
	if bad != nil {
		return bad
	}
	if !tree.Equal(found, value) {
		return &fault{CodeTestFailed, "another value is there"}
	}
	return nil
}
