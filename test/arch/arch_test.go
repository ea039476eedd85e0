package arch_test

import (
	"testing"

	"berth/test/arch"
)

func root(t *testing.T) string {
	t.Helper()
	dir, err := arch.Root(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestImports holds this repository to its import rules.
func TestImports(t *testing.T) {
	t.Parallel()
	graph, err := arch.Load(t.Context(), root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range graph.Check(arch.Rules()) {
		t.Error(broken)
	}
}

// TestTree holds this repository to its rules for modules and main files.
func TestTree(t *testing.T) {
	t.Parallel()
	wrong, err := arch.CheckTree(t.Context(), root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
}

func TestRootOutsideAWorkspace(t *testing.T) {
	t.Parallel()
	if dir, err := arch.Root(t.Context(), t.TempDir()); err == nil {
		t.Errorf("Root found %s in a folder without go.work", dir)
	}
}
