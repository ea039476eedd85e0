package rawjson_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/license/internal/rawjson"
)

func TestMembersAndElements(t *testing.T) {
	t.Parallel()
	text, err := rawjson.Trim([]byte(" \n{ \"b\" : [ 1 , \"],\\\"}\" ] ,\"a\":{\"x\":null}, \"\\u0062\": true,\"n\":-1.5e3 } "))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for name, value := range rawjson.Members(text) {
		got = append(got, string(name)+"="+string(value))
		for element := range rawjson.Elements(value) {
			got = append(got, string(element))
		}
	}
	want := []string{`b=[ 1 , "],\"}" ]`, `1`, `"],\"}"`, `a={"x":null}`, `b=true`, `n=-1.5e3`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	for range rawjson.Members([]byte(`[1]`)) {
		t.Error("a list has members")
	}
	for range rawjson.Elements([]byte(`{"a":1}`)) {
		t.Error("an object has elements")
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		a, b string
		want bool
	}{
		"order of members": {`{"a":1,"b":[2]}`, `{"b": [2.0], "a": 1}`, true},
		"order of a list":  {`[1,2]`, `[2,1]`, false},
		"length":           {`[1]`, `[1,2]`, false},
		"a member more":    {`{"a":1}`, `{"a":1,"b":null}`, false},
		"another member":   {`{"a":1}`, `{"b":1}`, false},
		"large integers":   {`9007199254740993`, `9007199254740992`, false},
		"zeros":            {`-0`, `0`, true},
		"beyond a double":  {`1e999`, `2e999`, false},
		"kinds":            {`1`, `"1"`, false},
		"escapes":          {`"\u0061"`, `"a"`, true},
		"unset and null":   {``, `null`, true},
		"no JSON":          {`{`, `{}`, false},
	} {
		if got := rawjson.Equal([]byte(test.a), []byte(test.b)); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestAppendFloat(t *testing.T) {
	t.Parallel()
	for _, number := range []float64{
		0, 1, -1, 0.1, 5.0 / 1024, 1e14, 1e15, 1e20, 1e21, 1e290, -1e290, 1e-7, 123456.789, math.MaxInt64, math.SmallestNonzeroFloat64,
	} {
		want, err := json.Marshal(number)
		if err != nil {
			t.Fatal(err)
		}
		var value float64
		got := rawjson.AppendFloat(nil, number)
		if err := json.Unmarshal(got, &value); err != nil || value != number || number < 1e21 && number > 1e-6 && string(got) != string(want) {
			t.Errorf("%v: %s, want %s", number, got, want)
		}
	}
	if got := string(rawjson.AppendFloat(nil, math.Copysign(0, -1))); got != "0" {
		t.Errorf("negative zero: %s", got)
	}
}

func FuzzReading(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,{"b":"\"}"}],"c":"\ud800"}`, `[[],{},"",0,-0,1e999,true,null]`, `{"a`, `{"a":`, `[1,`, `"\`, `{"a" 1}`, `{,}`, `[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		walk(text, 0) // Not even on what is no JSON may it panic or go on for ever.
		value, err := rawjson.Trim(text)
		if err != nil || value == nil {
			return
		}
		if compact := rawjson.AppendCompact(nil, value); !json.Valid(compact) {
			t.Errorf("%s made compact is %s", value, compact)
		} else if !rawjson.Equal(value, compact) {
			// Two that are beyond a double are only equal if they are written alike.
			t.Errorf("%s is not equal to itself made compact, %s", value, compact)
		}
		if rawjson.Of(value) == rawjson.Object {
			var object map[string]json.RawMessage
			if err := json.Unmarshal(value, &object); err != nil {
				t.Fatal(err)
			}
			got := map[string]json.RawMessage{}
			for name, member := range rawjson.Members(value) {
				got[string(name)] = member
			}
			if diff := cmp.Diff(object, got); diff != "" {
				t.Errorf("members of %s (-encoding/json +ours):\n%s", value, diff)
			}
		}
	})
}

func walk(value []byte, depth int) {
	if depth > 5 {
		return
	}
	rawjson.Truthy(value)
	rawjson.Float(value)
	for _, member := range rawjson.Members(value) {
		walk(member, depth+1)
	}
	for element := range rawjson.Elements(value) {
		walk(element, depth+1)
	}
}
