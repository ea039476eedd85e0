package arch_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/test/arch"
)

func TestCheckTree(t *testing.T) {
	t.Parallel()
	goodWork := "go 1.26.0\n\nuse ./svc\n"
	goodMod := "module berth/svc\n\ngo 1.26.0\n"
	tests := map[string]struct {
		files map[string]string
		want  []string
	}{
		"all is well": {
			files: map[string]string{
				"go.work": goodWork, "svc/go.mod": goodMod,
				"tools/kube/go.mod": "module berth/tools/kube\n\ngo 1.26.0\n",
				"svc/main.go":       strings.Repeat("\n", arch.MaxMainLines),
				".berth/x/main.go":  strings.Repeat("\n", arch.MaxMainLines+1),
			},
		},
		"another go line": {
			files: map[string]string{"go.work": goodWork, "svc/go.mod": "module berth/svc\n\ngo 1.25.0\n"},
			want:  []string{"svc/go.mod says go 1.25.0, go.work 1.26.0"},
		},
		"a toolchain line": {
			files: map[string]string{"go.work": goodWork, "svc/go.mod": goodMod + "\ntoolchain go1.26.3\n"},
			want:  []string{"svc/go.mod pins toolchain go1.26.3; the go line is enough"},
		},
		"a module that go.work does not list": {
			files: map[string]string{"go.work": goodWork, "svc/go.mod": goodMod, "new/go.mod": goodMod},
			want:  []string{"new: go.work lists the modules of Berth, all of them, and no tools"},
		},
		"a tool in go.work": {
			files: map[string]string{"go.work": goodWork + "use ./tools\n", "svc/go.mod": goodMod, "tools/go.mod": goodMod},
			want:  []string{"tools: go.work lists the modules of Berth, all of them, and no tools"},
		},
		"a long main": {
			files: map[string]string{
				"go.work": goodWork, "svc/go.mod": goodMod,
				"svc/main.go": strings.Repeat("\n", arch.MaxMainLines+1),
			},
			want: []string{"svc/main.go has 41 lines, at most 40: main only glues"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, text := range tc.files {
				path := filepath.Join(dir, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := arch.CheckTree(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("CheckTree (-want +got):\n%s", diff)
			}
		})
	}
}
