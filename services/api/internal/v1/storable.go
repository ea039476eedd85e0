package v1

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The limits of a number in a document that is kept: PostgreSQL's jsonb takes a few more
// (https://www.postgresql.org/docs/current/datatype-json.html), and no program does.
const (
	maxDigits   = 400
	maxExponent = 400
)

// unstorable says what of a valid JSON value cannot be kept in a database, or would be another one when it is
// read again: empty for nothing.
func unstorable(text json.RawMessage) string {
	if !utf8.Valid(text) {
		return "a byte that is not UTF-8"
	}
	if wrong := badEscape(text); wrong != "" {
		return wrong
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if err != nil {
			return "" // The end.
		}
		if number, ok := token.(json.Number); ok && !storable(number.String()) {
			return "the number " + short(number.String()) + " that is too large, too small or too long"
		}
	}
}

// badEscape looks for escapes that stand for no character.
func badEscape(text []byte) string {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		unit, ok := escaped(text[i-1:])
		switch {
		case !ok: // It is one of the others, like \n.
		case unit == 0:
			return "a NUL character"
		case utf16.IsSurrogate(unit):
			next, paired := escaped(text[min(i+5, len(text)):])
			if !paired || utf16.DecodeRune(unit, next) == utf8.RuneError {
				return "half a character (a lone surrogate)"
			}
			i += 10
		}
	}
	return ""
}

// escaped is the code unit that a text begins with as \uXXXX.
func escaped(text []byte) (rune, bool) {
	const digits = 6
	if len(text) < digits || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(text[2:digits]), 16, 16)
	return rune(unit), err == nil
}

// storable says whether a JSON number is within the limits.
func storable(number string) bool {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(number), "e")
	if len(mantissa) > maxDigits {
		return false
	}
	if exponent == "" {
		return true
	}
	n, err := strconv.Atoi(exponent)
	return err == nil && -maxExponent <= n && n <= maxExponent
}
