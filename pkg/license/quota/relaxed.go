package quota

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"berth/pkg/license/internal/rawjson"
)

// The bounds of relaxed JSON: its size in bytes, and how deep objects and lists lie in one another.
const (
	maxRelaxed      = 1 << 20
	maxRelaxedDepth = 32
)

// RelaxedObject reads an object as a hub lets administrators write it: JSON whose names
// and simple texts need no quotes, or single ones; with commas left over or, at the ends
// of lines, left out; with comments (//, # and /* */); without the outer braces; or all of
// this as the text of a JSON string. A blank text is an empty object. The result is JSON.
// Where the text cannot be read ok is false.
func RelaxedObject(text string) (object json.RawMessage, ok bool) {
	for range 3 { // A string in a string in a string is nobody's setting.
		if len(text) > maxRelaxed || !utf8.ValidString(text) {
			return nil, false
		}
		var inner *string
		if json.Unmarshal([]byte(text), &inner) != nil || inner == nil {
			break
		}
		text = *inner
	}
	if strict, err := rawjson.Trim([]byte(text)); err == nil && rawjson.Of(strict) == rawjson.Object {
		return strict, true
	}
	r := &relaxed{text: text}
	r.skip()
	if !strings.HasPrefix(r.text, "{") {
		r.text += "\n}"
		object, ok = r.members(0)
	} else {
		object, ok = r.value(0)
	}
	r.skip()
	return object, ok && r.text == ""
}

// relaxed reads a text from its front.
type relaxed struct{ text string }

// skip passes white space and comments, and reports whether there was the end of a line.
func (r *relaxed) skip() (line bool) {
	for {
		rest := strings.TrimLeft(r.text, " \t\r\n\ufeff")
		passed := r.text[:len(r.text)-len(rest)]
		line = line || strings.Contains(passed, "\n")
		r.text = rest
		switch {
		case strings.HasPrefix(rest, "//"), strings.HasPrefix(rest, "#"):
			_, after, _ := strings.Cut(rest, "\n")
			r.text, line = after, true
		case strings.HasPrefix(rest, "/*"):
			_, after, ended := strings.Cut(rest[2:], "*/")
			if !ended {
				return line
			}
			r.text = after
		default:
			return line
		}
	}
}

// take passes a mark if it is next.
func (r *relaxed) take(mark string) bool {
	rest, found := strings.CutPrefix(r.text, mark)
	r.text = rest
	return found
}

// value reads any value, as JSON.
func (r *relaxed) value(depth int) (json.RawMessage, bool) {
	switch {
	case depth > maxRelaxedDepth:
		return nil, false
	case r.take("{"):
		return r.members(depth)
	case r.take("["):
		return r.list(depth, "]", '[', r.value)
	case strings.HasPrefix(r.text, `"`), strings.HasPrefix(r.text, "'"):
		return r.quoted()
	}
	text := r.bare(",{}[]:\n")
	if json.Valid([]byte(text)) {
		return json.RawMessage(text), true
	}
	return rawjson.AppendString(nil, text), text != ""
}

// members reads those of an object, and its end.
func (r *relaxed) members(depth int) (json.RawMessage, bool) {
	return r.list(depth, "}", '{', func(depth int) (name json.RawMessage, ok bool) {
		if strings.HasPrefix(r.text, `"`) || strings.HasPrefix(r.text, "'") {
			name, ok = r.quoted()
		} else {
			text := r.bare(",{}[]:\n")
			name, ok = rawjson.AppendString(nil, text), text != ""
		}
		r.skip()
		if !ok || !r.take(":") {
			return nil, false
		}
		r.skip()
		value, ok := r.value(depth)
		return append(append(name, ':'), value...), ok
	})
}

// list reads items up to an end; a line's end stands for a comma.
func (r *relaxed) list(depth int, end string, start byte, item func(depth int) (json.RawMessage, bool)) (json.RawMessage, bool) {
	list := []byte{start}
	for separated := true; ; {
		separated = r.skip() || separated
		for r.take(",") {
			separated = true
			r.skip()
		}
		if r.take(end) {
			return append(list, end...), true
		}
		next, ok := item(depth + 1)
		if !separated || !ok {
			return nil, false
		}
		if len(list) > 1 {
			list = append(list, ',')
		}
		list, separated = append(list, next...), false
	}
}

// bare reads a text without quotes, up to one of the marks or a comment.
func (r *relaxed) bare(marks string) string {
	end := strings.IndexAny(r.text, marks)
	if end < 0 {
		end = len(r.text)
	}
	for _, comment := range []string{"//", "/*", "#"} {
		if at := strings.Index(r.text[:end], comment); at >= 0 {
			end = at
		}
	}
	text := strings.TrimSpace(r.text[:end])
	r.text = r.text[end:]
	if strings.ContainsAny(text, "\"'") {
		return ""
	}
	return text
}

// quoted reads a text in quotes of one kind.
func (r *relaxed) quoted() (json.RawMessage, bool) {
	quote := r.text[0]
	text := []byte{'"'}
	for at := 1; at < len(r.text); at++ {
		switch c := r.text[at]; {
		case c == quote:
			r.text = r.text[at+1:]
			text = append(text, '"')
			return text, json.Valid(text)
		case c == '\\' && at+1 < len(r.text) && r.text[at+1] == '\'':
			at++ // JSON has no such escape.
			text = append(text, '\'')
		case c == '\\' && at+1 < len(r.text):
			at++
			text = append(text, c, r.text[at])
		case c == '"':
			text = append(text, '\\', c)
		default:
			text = append(text, c)
		}
	}
	return nil, false
}

// objectOrText returns an object, or the one that a string has as text; ok is false where
// it has none.
func objectOrText(value []byte) (object []byte, ok bool) {
	if rawjson.Of(value) != rawjson.String {
		return value, true
	}
	return RelaxedObject(string(bytes.TrimSpace(value)))
}
