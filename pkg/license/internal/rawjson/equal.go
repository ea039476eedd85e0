package rawjson

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"

	"berth/pkg/license/internal/tree"
)

// Equal reports whether two values say the same: the order of members and the
// way in which a number is written do not matter. Integers are compared exactly
// however large they are, other numbers as doubles.
func Equal(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	left, ok := decode(a)
	if !ok {
		return false
	}
	right, ok := decode(b)
	return ok && tree.EqualBy(left, right, equalNumber)
}

func decode(text []byte) (value any, ok bool) {
	if len(text) == 0 {
		return nil, true
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	err := decoder.Decode(&value)
	return value, err == nil
}

// equalNumber compares the text of two integers, the values of other numbers.
// -0 is 0. Two numbers beyond a double are equal only if they are written alike.
func equalNumber(a, b string) bool {
	if a == b {
		return true
	}
	x, y := Float([]byte(a)), Float([]byte(b))
	integers := !strings.ContainsAny(a, ".eE") && !strings.ContainsAny(b, ".eE")
	return x == y && !math.IsInf(x, 0) && (!integers || x == 0)
}
