package tree_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/internal/tree"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text, want string
		err        error
	}{
		"order of members":  {text: `{"b":1, "a":{"d":[], "c":null}}`, want: `{"a":{"c":null,"d":[]},"b":1}`},
		"the last member":   {text: `{"a":1,"a":2}`, want: `{"a":2}`},
		"numbers":           {text: `[1.0,1e3,-0,-0.0,1e-400,1.50,1E21,12345678901234567890]`, want: `[1,1000,0,0,0,1.5,1e+21,12345678901234567890]`},
		"HTML":              {text: `"\u003c<&"`, want: `"<<&"`},
		"names are exact":   {text: `{"A":1,"a":2}`, want: `{"A":1,"a":2}`},
		"a number too far":  {text: `[1e309]`, err: tree.ErrNumber},
		"half a character":  {text: `{"\ud800":1,"\ud801":2}`, err: tree.ErrCharacter},
		"a pair":            {text: `"\ud83d\ude00"`, want: `"😀"`},
		"a byte":            {text: "\"\xff\"", err: tree.ErrCharacter},
		"deep":              {text: strings.Repeat("[", tree.MaxDepth+2) + strings.Repeat("]", tree.MaxDepth+2), err: tree.ErrTooDeep},
		"long":              {text: strings.Repeat(" ", tree.MaxBytes+1), err: tree.ErrTooLarge},
		"as deep as it may": {text: strings.Repeat("[", tree.MaxDepth) + strings.Repeat("]", tree.MaxDepth), want: strings.Repeat("[", tree.MaxDepth) + strings.Repeat("]", tree.MaxDepth)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			value, err := tree.Decode([]byte(tc.text))
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(tc.want, string(tree.Encode(value))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	for _, text := range []string{"", " ", "{", "{}x", "nul", "[1,]", `{"a":1}{}`, "\xff"} {
		if value, err := tree.Decode([]byte(text)); err == nil {
			t.Errorf("%q decodes as %v", text, value)
		}
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		a, b string
		want bool
	}{
		"members in any order": {`{"a":1,"b":[null]}`, `{"b":[null],"a":1.0}`, true},
		"a member more":        {`{"a":1}`, `{"a":1,"b":null}`, false},
		"null and nothing":     {`{"a":null}`, `{"b":null}`, false},
		"elements in order":    {`[1,2]`, `[2,1]`, false},
		"kinds":                {`"1"`, `1`, false},
		"null and an object":   {`null`, `{}`, false},
		"large integers":       {`9007199254740993`, `9007199254740992`, false},
		"an exponent":          {`1e21`, `1000000000000000000000`, true},
		"another exponent":     {`1e21`, `1000000000000000000001`, false},
		"a very long integer":  {`1e21`, strings.Repeat("1", 100000), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, errA := tree.Decode([]byte(tc.a))
			b, errB := tree.Decode([]byte(tc.b))
			if errA != nil || errB != nil {
				t.Fatal(errA, errB)
			}
			if tree.Equal(a, b) != tc.want || tree.Equal(b, a) != tc.want {
				t.Errorf("Equal is not %v", tc.want)
			}
		})
	}
}

func TestPointers(t *testing.T) {
	t.Parallel()
	for pointer, want := range map[string][]string{
		"": nil, "/": {""}, "/a~1b/~01": {"a/b", "~1"}, "/a//b/": {"a", "", "b", ""},
	} {
		tokens, err := tree.Tokens(pointer)
		if err != nil || !cmp.Equal(want, tokens) || tree.Pointer(tokens...) != pointer {
			t.Errorf("%q: %q, %v, want %q", pointer, tokens, err, want)
		}
	}
	for pointer, want := range map[string]error{"a": tree.ErrNoSlash, "/~": tree.ErrBadEscape, "/~2": tree.ErrBadEscape, "/~/": tree.ErrBadEscape} {
		if _, err := tree.Tokens(pointer); !errors.Is(err, want) {
			t.Errorf("%q: error %v, want %v", pointer, err, want)
		}
	}
}

// The edits of an editor are what it did.
func TestEditor(t *testing.T) {
	t.Parallel()
	root, err := tree.Decode([]byte(`{"a":{"n":null},"l":[1],"s":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	e := tree.Editor{Root: root}
	for _, err := range []error{
		e.Set("v", "a", "n", "deep", "er"), e.Set("v", "a", "n", "deep", "er"), e.Set("w", "l", "0"),
		e.Append("z", "l"), e.Append("z", "a", "list"), e.Set(map[string]any{}, "new"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	e.Remove("new")
	e.Remove("new")
	e.Remove("s", "x")
	e.Remove("l", "0")
	e.Remove("nowhere", "x")
	var got []string
	for _, edit := range e.Edits {
		got = append(got, edit.Op+" "+edit.Path+" "+string(edit.Value))
	}
	want := []string{
		`replace /a/n {"deep":{"er":"v"}}`, `replace /l/0 "w"`, `add /l/1 "z"`, `add /a/list ["z"]`, `add /new {}`, `remove /new `,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for name, err := range map[string]error{
		"below a text": e.Set(1, "s", "x"), "past a list's end": e.Set(1, "l", "9"), "onto a text": e.Append(1, "s"), "a word for an index": e.Set(1, "l", "x"),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if text := string(tree.Encode(e.Root)); text != `{"a":{"list":["z"],"n":{"deep":{"er":"v"}}},"l":["w","z"],"s":"x"}` {
		t.Errorf("the tree is %s", text)
	}
}
