package patchset

import (
	"fmt"
	"strconv"
	"strings"

	"berth/pkg/license/internal/tree"
)

// slot is a place of the tree: its value, and how to put another there.
type slot struct {
	value any
	set   func(any)
}

// parent finds the object or list that the last of tokens is about, and the
// tokens before it as RFC 6902 writes them. There is at least one token.
func (d *document) parent(tokens []string) (slot, []string, *fault) {
	at := slot{d.root, func(value any) { d.root = value }}
	strict := make([]string, 0, len(tokens))
	for i, token := range tokens[:len(tokens)-1] {
		switch c := at.value.(type) {
		case map[string]any:
			child, ok := c[token]
			if !ok {
				return at, nil, &fault{CodeParentMissing, "there is no " + tree.Pointer(tokens[:i+1]...)}
			}
			at = slot{child, func(value any) { c[token] = value }}
		case []any:
			n, bad := existing(token, len(c))
			if bad != nil {
				return at, nil, bad.before("parent")
			}
			at, token = slot{c[n], func(value any) { c[n] = value }}, strconv.Itoa(n)
		default:
			return at, nil, noContainer(at.value, tokens[:i])
		}
		strict = append(strict, token)
	}
	switch at.value.(type) {
	case map[string]any, []any:
		return at, strict, nil
	default:
		return at, nil, noContainer(at.value, tokens[:len(tokens)-1])
	}
}

func noContainer(value any, tokens []string) *fault {
	if value == nil {
		return &fault{CodeParentNull, tree.Pointer(tokens...) + " is null"}
	}
	return &fault{CodeParentScalar, tree.Pointer(tokens...) + " is neither an object nor a list"}
}

// index reads a list's place: decimal digits, zeros before them allowed.
func index(token string) (int, *fault) {
	const largest = 1<<31 - 1 // Past it the hub's library counts from 0 again.
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	switch {
	case digits(token):
		n, err := strconv.ParseInt(token, 10, 64)
		if err != nil || n > largest {
			return 0, &fault{CodeOverflow, "the index of a list must be at most 2147483647"}
		}
		return int(n), nil
	case token == "":
		return 0, &fault{CodeEmpty, "the place in a list is missing: write its index"}
	case token == "-":
		return 0, &fault{CodeDash, "- is the place after the last element: nothing is there"}
	case token == "length":
		return 0, &fault{CodeLength, "length is no place in a list"}
	case token[0] == '-' && digits(token[1:]):
		return 0, &fault{CodeNegative, "an index counts from the front: it must not be negative"}
	default:
		return 0, &fault{CodeNotNumber, fmt.Sprintf("%.40q is no index of a list: write its digits", token)}
	}
}

// existing is the place of an element that a list of that length has.
func existing(token string, length int) (int, *fault) {
	n, bad := index(token)
	if bad == nil && n >= length {
		bad = pastEnd(n, length)
	}
	return n, bad
}

func pastEnd(n, length int) *fault {
	code := CodePastEnd
	if n == length {
		code = CodeAtEnd
	}
	return &fault{code, fmt.Sprintf("there is no element %d: the list has %d", n, length)}
}

// inserting is where add, copy and move put an element into a list of that length.
func inserting(token string, length int) (n int, note string, bad *fault) {
	switch token {
	case "":
		return 0, "the index is missing: inserted first", nil
	case "-":
		return length, "", nil
	}
	n, bad = index(token)
	if bad == nil && n > length {
		return length, fmt.Sprintf("index %d is past the end of %d elements: appended", n, length), nil
	}
	return n, "", bad
}

// replacing is where replace puts an element; n == length means that it is appended.
func replacing(token string, length int) (n int, note string, bad *fault) {
	if token == "-" {
		n = length
	} else {
		n, bad = index(token)
	}
	switch {
	case bad != nil:
		return 0, "", bad
	case n > length:
		return 0, "", pastEnd(n, length)
	case n == length:
		return n, fmt.Sprintf("nothing was there: appended to %d elements", length), nil
	default:
		return n, "", nil
	}
}
