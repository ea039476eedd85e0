// Package rawjson reads JSON text where it stands: members in their order, values
// as the text that they are. What a quota is computed from is decoded thousands of
// times, mostly to be passed on unchanged; encoding/json would lose the order of
// members and round large integers.
//
// All functions expect valid JSON ([encoding/json.Valid]) without white space
// around it, as [Trim] and the functions themselves give it. They do not panic on
// anything else, but what they return for it means nothing.
package rawjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"unicode/utf8"
)

// Kind is the type of a JSON value.
type Kind byte

// The kinds. Unset is null, and the absence of a value.
const (
	Unset Kind = iota
	Bool
	Number
	String
	Array
	Object
)

// Of returns the kind of a value, Unset for an empty one.
func Of(value []byte) Kind {
	if len(value) == 0 {
		return Unset
	}
	switch value[0] {
	case '{':
		return Object
	case '[':
		return Array
	case '"':
		return String
	case 't', 'f':
		return Bool
	case 'n':
		return Unset
	default:
		return Number
	}
}

// Trim checks that text is one JSON value in UTF-8, or nothing, and returns it without the
// white space around it.
func Trim(text []byte) ([]byte, error) {
	text = bytes.Trim(text, " \t\r\n")
	if len(text) == 0 {
		return nil, nil
	}
	if !utf8.Valid(text) {
		return nil, errors.New("parse JSON: the text is not UTF-8")
	}
	if !json.Valid(text) {
		// Unmarshal says where and why.
		var value json.RawMessage
		if err := json.Unmarshal(text, &value); err != nil {
			return nil, fmt.Errorf("parse JSON: %w", err)
		}
	}
	return text, nil
}

// Members yields the members of an object in their order, duplicates too: name
// and value. It yields nothing for other kinds.
func Members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		if Of(object) != Object {
			return
		}
		for at := skipSpace(object, 1); at < len(object) && object[at] == '"'; {
			nameEnd := end(object, at)
			name := Text(object[at:nameEnd])
			at = skipSpace(object, nameEnd)
			at = skipSpace(object, min(at+1, len(object))) // The colon.
			valueEnd := end(object, at)
			if !yield(name, object[at:valueEnd:valueEnd]) {
				return
			}
			at = skipSpace(object, valueEnd)
			at = skipSpace(object, min(at+1, len(object))) // The comma, or the end.
		}
	}
}

// Elements yields the elements of an array. It yields nothing for other kinds.
func Elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if Of(array) != Array {
			return
		}
		for at := skipSpace(array, 1); at < len(array) && array[at] != ']'; {
			elementEnd := end(array, at)
			if !yield(array[at:elementEnd:elementEnd]) {
				return
			}
			at = skipSpace(array, elementEnd)
			at = skipSpace(array, min(at+1, len(array)))
		}
	}
}

// Text returns the characters of a string, without a copy where it has no
// escapes, and nil for other kinds.
func Text(value []byte) []byte {
	if Of(value) != String || len(value) < 2 {
		return nil
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1]
	}
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return nil
	}
	return []byte(text)
}

// Float returns a number as a double, infinite if it is beyond one, and 0 for
// other kinds.
func Float(value []byte) float64 {
	if Of(value) != Number {
		return 0
	}
	number, _ := strconv.ParseFloat(string(value), 64) // The only fault of a valid number is its range.
	return number
}

// True reports whether the value is true itself.
func True(value []byte) bool { return len(value) > 0 && value[0] == 't' }

// False reports whether the value is false itself.
func False(value []byte) bool { return len(value) > 0 && value[0] == 'f' }

// Truthy reports whether the value counts as true: all but null, false, zero and
// the empty string.
func Truthy(value []byte) bool {
	switch Of(value) {
	case Unset:
		return false
	case Bool:
		return True(value)
	case Number:
		return Float(value) != 0
	case String:
		return len(value) > 2
	default:
		return true
	}
}

// AppendString appends text as a JSON string.
func AppendString(to []byte, text string) []byte {
	plain := true
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			plain = false
			break
		}
	}
	if plain {
		to = append(to, '"')
		to = append(to, text...)
		return append(to, '"')
	}
	quoted := new(bytes.Buffer)
	encoder := json.NewEncoder(quoted)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		return append(to, `""`...) // A string always encodes.
	}
	return append(to, bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))...)
}

// AppendFloat appends a finite number in the form of encoding/json.
func AppendFloat(to []byte, number float64) []byte {
	if number > -1e15 && number < 1e15 && number == float64(int64(number)) {
		return strconv.AppendInt(to, int64(number), 10) // Also for the negative zero.
	}
	form := byte('f')
	if size := max(number, -number); size < 1e-6 || size >= 1e21 {
		form = 'e'
	}
	return strconv.AppendFloat(to, number, form, -1, 64)
}

// AppendCompact appends a value without the white space in it.
func AppendCompact(to, value []byte) []byte {
	inString := false
	for at := 0; at < len(value); at++ {
		c := value[at]
		switch {
		case inString && c == '\\' && at+1 < len(value):
			to = append(to, c)
			at++
			c = value[at]
		case c == '"':
			inString = !inString
		case !inString && isSpace(c):
			continue
		}
		to = append(to, c)
	}
	return to
}

// end returns the end of the value that starts there.
func end(text []byte, at int) int {
	if at >= len(text) {
		return len(text)
	}
	switch text[at] {
	case '"':
		return stringEnd(text, at)
	case '{', '[':
		for depth := 0; at < len(text); at++ {
			switch text[at] {
			case '"':
				at = stringEnd(text, at) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return at + 1
				}
			}
		}
		return len(text)
	}
	for at++; at < len(text); at++ {
		if c := text[at]; c == ',' || c == ']' || c == '}' || c == ':' || isSpace(c) {
			break
		}
	}
	return at
}

// stringEnd returns the end of the string that starts there.
func stringEnd(text []byte, at int) int {
	for at++; at < len(text); at++ {
		switch text[at] {
		case '\\':
			at++
		case '"':
			return at + 1
		}
	}
	return len(text)
}

func skipSpace(text []byte, at int) int {
	for at < len(text) && isSpace(text[at]) {
		at++
	}
	return at
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }
