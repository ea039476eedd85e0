// Package tree holds a JSON document as a tree of map[string]any, []any, string,
// bool, [json.Number] and nil, and gives it one text: members in order of their
// names, numbers in one form.
package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"berth/pkg/license/jsontext"
)

// Limits of a document.
const (
	// MaxBytes is the size of the longest text of a document. etcd takes about 1.5 MiB.
	MaxBytes = 512 << 10
	// MaxDepth is how deep objects and lists may lie in one another.
	MaxDepth = 128
)

// What is wrong with a text.
var (
	ErrTooLarge = fmt.Errorf("longer than %d bytes", MaxBytes)
	ErrTooDeep  = fmt.Errorf("nested deeper than %d levels", MaxDepth)
	ErrNumber   = errors.New("a number is too large: a 64-bit floating-point number cannot hold it")
	// ErrCharacter is for a text with a part of a character: two that differ would be read as the same.
	ErrCharacter = errors.New("a text has what is no character")
)

// Decode reads one JSON value. Of members with one name the last counts. A number
// with a fraction or an exponent, and -0, becomes what a 64-bit floating-point
// number makes of it (1e3 is 1000, 60.0 is 60); other integers keep every digit.
//
// The error is one of those above, or says where the text is no JSON; it
// quotes no value.
func Decode(text []byte) (any, error) {
	if len(text) > MaxBytes {
		return nil, ErrTooLarge
	}
	if wrong := jsontext.Broken(text); wrong != "" {
		return nil, fmt.Errorf("%w: %s", ErrCharacter, wrong)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("the JSON text ends too early")
		}
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not JSON: more text follows the value")
	}
	return normalise(value, 0)
}

// normalise brings the numbers of a tree into one form, in place.
func normalise(value any, depth int) (any, error) {
	if depth > MaxDepth {
		return nil, ErrTooDeep
	}
	var err error
	switch v := value.(type) {
	case map[string]any:
		for name, child := range v {
			if v[name], err = normalise(child, depth+1); err != nil {
				return nil, err
			}
		}
	case []any:
		for i, child := range v {
			if v[i], err = normalise(child, depth+1); err != nil {
				return nil, err
			}
		}
	case json.Number:
		return number(v)
	}
	return value, nil
}

func number(n json.Number) (any, error) {
	if n == "-0" {
		return json.Number("0"), nil
	}
	if !strings.ContainsAny(string(n), ".eE") {
		return n, nil
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil {
		return nil, ErrNumber
	}
	if f == 0 {
		return json.Number("0"), nil // JavaScript writes no negative zero.
	}
	text, err := json.Marshal(f)
	if err != nil {
		return nil, ErrNumber
	}
	return json.Number(text), nil
}

// Encode writes a tree: no white space, members in order of their names, nothing
// escaped for HTML. Equal trees have one text.
func Encode(value any) json.RawMessage {
	text := new(bytes.Buffer)
	encoder := json.NewEncoder(text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil // Only for what no tree has in it.
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n"))
}

// Clone returns a copy that shares nothing.
func Clone(value any) any {
	switch v := value.(type) {
	case map[string]any:
		object := make(map[string]any, len(v))
		for name, child := range v {
			object[name] = Clone(child)
		}
		return object
	case []any:
		list := make([]any, len(v))
		for i, child := range v {
			list[i] = Clone(child)
		}
		return list
	default:
		return value
	}
}

// Equal compares as JSON Patch's test does: members in any order, numbers by their value.
func Equal(a, b any) bool { return EqualBy(a, b, sameNumber) }

// EqualBy compares two decoded values, members in any order, and the texts of numbers by
// same.
func EqualBy(a, b any, same func(a, b string) bool) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, child := range a {
			other, ok := b[name]
			if !ok || !EqualBy(child, other, same) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, func(a, b any) bool { return EqualBy(a, b, same) })
	case json.Number:
		b, ok := b.(json.Number)
		return ok && same(string(a), string(b))
	default:
		return a == b
	}
}

// sameNumber compares numbers in the form that Decode gives them: they are equal
// where their texts are, but for a large integer written out beside one with an exponent.
func sameNumber(a, b string) bool {
	// 1.8e308 has 309 digits; what is longer has no other form.
	const longest = 310
	if a == b || strings.ContainsRune(a, 'e') == strings.ContainsRune(b, 'e') || len(a) > longest || len(b) > longest {
		return a == b
	}
	x, okA := new(big.Rat).SetString(a)
	y, okB := new(big.Rat).SetString(b)
	return okA && okB && x.Cmp(y) == 0
}

// Depth is how many objects and lists lie in one another; 0 for a scalar.
func Depth(value any) int {
	deepest := 0
	switch v := value.(type) {
	case map[string]any:
		for _, child := range v {
			deepest = max(deepest, Depth(child))
		}
	case []any:
		for _, child := range v {
			deepest = max(deepest, Depth(child))
		}
	default:
		return 0
	}
	return deepest + 1
}

// Object returns the member of an object as an object; nil, which reads as an
// empty one, where there is none.
func Object(value any, name string) map[string]any {
	object, _ := value.(map[string]any)
	child, _ := object[name].(map[string]any)
	return child
}

// List returns the member of an object as a list, nil where there is none.
func List(value any, name string) []any {
	object, _ := value.(map[string]any)
	list, _ := object[name].([]any)
	return list
}

// Text returns the member of an object as a string, "" where there is none.
func Text(value any, name string) string {
	object, _ := value.(map[string]any)
	text, _ := object[name].(string)
	return text
}

// Pointer is the JSON Pointer (RFC 6901) of tokens.
func Pointer(tokens ...string) string {
	var pointer strings.Builder
	for _, token := range tokens {
		pointer.WriteByte('/')
		pointer.WriteString(strings.ReplaceAll(strings.ReplaceAll(token, "~", "~0"), "/", "~1"))
	}
	return pointer.String()
}

// What is wrong with a pointer.
var (
	ErrNoSlash   = errors.New("a JSON pointer must be empty or start with /")
	ErrBadEscape = errors.New("a JSON pointer has ~ only as ~0 (for ~) and ~1 (for /)")
)

// Tokens takes a JSON Pointer apart. The error is one of the two above.
func Tokens(pointer string) ([]string, error) {
	if pointer == "" {
		return nil, nil
	}
	if pointer[0] != '/' {
		return nil, ErrNoSlash
	}
	for i := range len(pointer) {
		if pointer[i] == '~' && (i+1 == len(pointer) || pointer[i+1] != '0' && pointer[i+1] != '1') {
			return nil, ErrBadEscape
		}
	}
	tokens := strings.Split(pointer[1:], "/")
	for i, token := range tokens {
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	}
	return tokens, nil
}
