package v1

import (
	"bytes"
	"encoding/json"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checkNames refuses a body of which a value of a type is to be made where a member is unknown, is not written to the
// letter, or is there twice: encoding/json takes names in any case, and of two the last, so that what somebody has
// written would be lost without a word. What a [json.RawMessage] takes in is anybody's. A text that is no JSON is none of
// its concern. path is where the value is in the body, empty for all of it.
func checkNames(t reflect.Type, text json.RawMessage, path string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Time](), t == reflect.TypeFor[json.RawMessage]():
		return nil
	case t.Kind() == reflect.Slice:
		var items []json.RawMessage
		_ = json.Unmarshal(text, &items) // What is no list has no items.
		for i, item := range items {
			if err := checkNames(t.Elem(), item, path+"["+strconv.Itoa(i)+"]"); err != nil {
				return err
			}
		}
		return nil
	case t.Kind() != reflect.Struct && t.Kind() != reflect.Map:
		return nil
	}
	where, seen := "the body", map[string]bool{}
	if path != "" {
		where, path = path, path+"."
	}
	for name, value := range membersIn(text) {
		if seen[name] {
			return invalid(where + " has the member " + short(name) + " twice: write it once")
		}
		seen[name] = true
		if t.Kind() == reflect.Map {
			if err := checkNames(t.Elem(), value, path+short(name)); err != nil {
				return err
			}
			continue
		}
		member, err := memberOf(t, name, where)
		if err == nil {
			err = checkNames(member, value, path+name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// memberOf returns the type of the member of a struct that has a name, to the letter.
func memberOf(t reflect.Type, name, where string) (reflect.Type, error) {
	names := membersOf(t)
	if i := slices.Index(names, name); i >= 0 {
		return t.Field(i).Type, nil
	}
	if i := slices.IndexFunc(names, func(known string) bool { return strings.EqualFold(known, name) }); i >= 0 {
		return nil, invalid(where + " has the member " + short(name) + ": write it " + names[i])
	}
	return nil, invalid(where + " has the member " + short(name) + ", which is none of " + strings.Join(names, ", "))
}

// membersOf are the names of a struct's members, one for each field.
func membersOf(t reflect.Type) []string {
	var names []string
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// membersIn yields the members of a JSON object in their order, also those that are there twice, and as far as it is JSON.
func membersIn(text json.RawMessage) iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		decoder := json.NewDecoder(bytes.NewReader(text))
		if first, err := decoder.Token(); err != nil || first != json.Delim('{') {
			return
		}
		for decoder.More() {
			token, err := decoder.Token()
			name, ok := token.(string)
			var value json.RawMessage
			if err != nil || !ok || decoder.Decode(&value) != nil || !yield(name, value) {
				return
			}
		}
	}
}
