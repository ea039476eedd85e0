package events

import (
	"reflect"
	"strings"
	"sync"
)

// The JSON names that this version knows.
var (
	recordMembers   = sync.OnceValue(func() []string { return members(reflect.TypeFor[Record]()) })
	observedMembers = sync.OnceValue(func() []string { return members(reflect.TypeFor[Observed]()) })
)

func members(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}
