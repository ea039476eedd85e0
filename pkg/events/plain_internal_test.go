package events

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// What is read in one pass is read as the careful way reads it.
func FuzzParsePlain(f *testing.F) {
	paths, err := filepath.Glob(filepath.Join("testdata", "events", "*.json"))
	if err != nil || len(paths) == 0 {
		f.Fatalf("no events: %v", err)
	}
	plain := 0
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		if _, ok := parsePlain(b); ok {
			plain++
		}
	}
	if plain < len(Types()) {
		f.Errorf("%d of %d events are read in one pass; want one of each type at least", plain, len(paths))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err != nil {
			return
		}
		// Written by us: without members that come twice, which are read as one or the other.
		if b, err = e.Marshal(); err != nil {
			t.Fatalf("%+v is read and cannot be written: %v", e, err)
		}
		want, err := parseAny(b)
		if err != nil {
			t.Fatalf("%s is written and cannot be read: %v", b, err)
		}
		if got, ok := parsePlain(b); ok && !reflect.DeepEqual(got, want) {
			t.Errorf("%s in one pass is %+v of %+v, else %+v of %+v", b, got, got.Record, want, want.Record)
		}
	})
}
