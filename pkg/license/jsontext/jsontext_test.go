package jsontext_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"berth/pkg/license/jsontext"
)

func TestCharacters(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text, broken string
		nul          bool
	}{
		"nothing":              {text: ``},
		"plain":                {text: `{"a":"é😀\n\"\\\u0041"}`},
		"a pair":               {text: `"\ud83d\ude00\uD83D\uDE00"`},
		"the first half":       {text: `"\ud83d"`, broken: "half a character"},
		"the second half":      {text: `"\ude00"`, broken: "half a character"},
		"halves apart":         {text: `"\ud83dx\ude00"`, broken: "half a character"},
		"the wrong way around": {text: `"\ude00\ud83d"`, broken: "half a character"},
		"two first halves":     {text: `"\ud83d\ud83d\ude00"`, broken: "half a character"},
		"in a name":            {text: `{"\ud800":1}`, broken: "half a character"},
		"half and a backslash": {text: `"\ud83d\\ude00"`, broken: "half a character"},
		"only as text":         {text: `"\\ud83d\\u0000"`},
		"a byte":               {text: "\"\xff\"", broken: "not UTF-8"},
		"NUL":                  {text: `"a\u0000"`, nul: true},
		"NUL after a pair":     {text: `"\ud83d\ude00\u0000"`, nul: true},
		"cut off":              {text: `"\`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, text := jsontext.Broken([]byte(tt.text)), []byte(tt.text)
			if (got == "") != (tt.broken == "") || !strings.Contains(got, tt.broken) || jsontext.HasNUL(text) != tt.nul {
				t.Errorf("broken %q, want %q; NUL %v, want %v", got, tt.broken, jsontext.HasNUL(text), tt.nul)
			}
		})
	}
}

// FuzzBroken: a JSON string is broken where encoding/json puts a U+FFFD into it that was not written.
func FuzzBroken(f *testing.F) {
	for _, seed := range []string{`"\ud83d\ude00"`, `"\ud83d"`, `"\\ud83d"`, "\"\xff\"", `"\u0000"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var value string
		if json.Unmarshal([]byte(text), &value) != nil || strings.ContainsRune(text, utf8.RuneError) && utf8.ValidString(text) ||
			strings.Contains(strings.ToLower(text), `\ufffd`) {
			return
		}
		if broken := jsontext.Broken([]byte(text)) != ""; broken != strings.ContainsRune(value, utf8.RuneError) {
			t.Errorf("%q is read as %q, broken %v", text, value, broken)
		}
		if jsontext.HasNUL([]byte(text)) != strings.ContainsRune(value, 0) {
			t.Errorf("%q is read as %q", text, value)
		}
	})
}
