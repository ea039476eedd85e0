package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSettings(t *testing.T) {
	t.Parallel()
	got, err := parseSettings([]string{"notebook.LANG=da_DK", "notebook.EMPTY=", "side-car.A.B=x=y, z", "n.odd~name=1"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]string{
		"notebook": {"LANG": "da_DK", "EMPTY": ""}, "side-car": {"A.B": "x=y, z"}, "n": {"odd~name": "1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	for _, text := range []string{"", "secret", "=secret", "notebook=secret", "notebook.=secret", ".A=secret", "Notebook.A=secret", "n.a b=secret", "n.æ=secret"} {
		_, err := parseSettings([]string{text})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: error %v, want one without the value", text, err)
		}
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add("notebook.LANG=da_DK")
	f.Add("=")
	f.Fuzz(func(t *testing.T, text string) {
		settings, err := parseSettings([]string{text})
		if err != nil {
			return
		}
		for container, variables := range settings {
			for name, value := range variables {
				if back := container + "." + name + "=" + value; back != text {
					t.Errorf("%q was read as %q", text, back)
				}
			}
		}
	})
}
