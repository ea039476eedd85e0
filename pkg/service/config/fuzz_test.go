package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad feeds files and variables. Whatever they are: no panic; faults that can be read, one a
// line; and a configuration without faults passes Validate.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/faults/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "example.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "hostnameList", "[]")
	}
	f.Add([]byte("a: &a [*a, *a]"), "TIMEOUTCREATE", "1h")
	f.Add([]byte("whitelistManifestRegex: \"(\\n\""), "whitelistManifestRegex", "a\n(")
	f.Add([]byte("# a\n\n-\n  # b\n"), "silos", "- {}")
	f.Fuzz(func(t *testing.T, data []byte, name, text string) {
		config, _, err := Parse("site.yaml", data, []string{envPrefix + name + "=" + text})
		if err == nil {
			if faults := config.Validate(); len(faults) > 0 {
				t.Errorf("accepted, but: %v", faults)
			}
			return
		}
		var faults Faults
		if !errors.As(err, &faults) || len(faults) == 0 {
			t.Fatalf("error is not faults: %v", err)
		}
		if lines := strings.Split(err.Error(), "\n"); len(lines) != len(faults) {
			t.Errorf("%d faults in %d lines: %v", len(faults), len(lines), err)
		}
		for _, fault := range faults {
			if fault.Message == "" {
				t.Errorf("fault without a message: %+v", fault)
			}
		}
	})
}
