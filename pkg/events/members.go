package events

import (
	"reflect"
	"strings"
	"sync"
)

// The JSON names that this version knows.
var (
	recordMembers   = sync.OnceValue(func() []string { return members(reflect.TypeFor[Record]()) })   //nolint:gochecknoglobals // A constant.
	observedMembers = sync.OnceValue(func() []string { return members(reflect.TypeFor[Observed]()) }) //nolint:gochecknoglobals // A constant.
)

func members(t reflect.Type) []string {
	var names []string
	for field := range t.Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}
