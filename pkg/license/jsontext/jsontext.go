// Package jsontext finds the characters of a JSON text that are none, or that few programs can keep. encoding/json
// reads what is no character as U+FFFD: two names that differ would be one, and a text another one than was written.
package jsontext

import (
	"bytes"
	"iter"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// half is what an escape stands for that is half a character.
const half rune = -1

// Broken says in words what of a JSON text is no character: a byte, or an escape like \ud800 without its other half.
// It is empty for nothing. What the text means beside that does not matter.
func Broken(text []byte) string {
	if !utf8.Valid(text) {
		return "a byte that is not UTF-8"
	}
	for character := range escapes(text) {
		if character == half {
			return "half a character (a lone surrogate)"
		}
	}
	return ""
}

// HasNUL says whether a text of a JSON text has the character NUL, which PostgreSQL and C programs cannot hold.
func HasNUL(text []byte) bool {
	for character := range escapes(text) {
		if character == 0 {
			return true
		}
	}
	return false
}

// escapes yields what the escapes with digits stand for, in their order.
func escapes(text []byte) iter.Seq[rune] {
	return func(yield func(rune) bool) {
		for {
			at := bytes.IndexByte(text, '\\')
			if at < 0 {
				return
			}
			text = text[at:]
			unit, ok := escaped(text)
			if !ok { // Another one, like \n or \\.
				text = text[min(2, len(text)):]
				continue
			}
			text = text[escapeSize:]
			if utf16.IsSurrogate(unit) {
				next, _ := escaped(text)
				if unit = utf16.DecodeRune(unit, next); unit == utf8.RuneError {
					unit = half
				} else {
					text = text[escapeSize:]
				}
			}
			if !yield(unit) {
				return
			}
		}
	}
}

// escapeSize is the size of \uXXXX, in bytes.
const escapeSize = 6

// escaped is the code unit that a text begins with as \uXXXX.
func escaped(text []byte) (rune, bool) {
	if len(text) < escapeSize || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(text[2:escapeSize]), 16, 16)
	return rune(unit), err == nil
}
