package v1

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"berth/pkg/license/jsontext"
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
	if wrong := badText(text); wrong != "" {
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

// badText says which character of a JSON text cannot be kept, empty for none.
func badText(text []byte) string {
	switch wrong := jsontext.Broken(text); {
	case wrong != "":
		return wrong
	case jsontext.HasNUL(text):
		return "a NUL character"
	}
	return ""
}

// checkTexts refuses a body with a text that cannot be kept, and names the member that has it. The body is a JSON object.
func checkTexts(body []byte) error {
	if badText(body) == "" {
		return nil
	}
	var members map[string]json.RawMessage
	_ = json.Unmarshal(body, &members) // It has been read before.
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if wrong := badText(members[name]); wrong != "" {
			return invalid(name + " has " + wrong + ", which cannot be kept: leave it out")
		}
	}
	return invalid("the body has a character that cannot be kept: leave it out")
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
