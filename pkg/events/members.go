package events

import (
	"reflect"
	"strings"
	"sync"
)

// The JSON names that this version knows.
var (
	recordMembers   = sync.OnceValue(func() map[string]bool { return members(reflect.TypeFor[Record]()) })
	observedMembers = sync.OnceValue(func() map[string]bool { return members(reflect.TypeFor[Observed]()) })
)

func members(t reflect.Type) map[string]bool {
	names := map[string]bool{}
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name != "-" {
			names[name] = true
		}
	}
	return names
}
