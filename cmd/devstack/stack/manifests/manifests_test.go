package manifests

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestReplace: many write the same file at once, and nobody finds none, or half of it.
func TestReplace(t *testing.T) {
	t.Parallel()
	const text = "the whole text\n"
	path := filepath.Join(t.TempDir(), "token")
	if err := replace(path, text); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				if err := replace(path, text); err != nil {
					t.Error(err)
				}
				if got, err := os.ReadFile(path); err != nil || string(got) != text {
					t.Errorf("read %q, error %v", got, err)
				}
			}
		})
	}
	all.Wait()
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left %v, error %v", left, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, error %v", info, err)
	}
	if err := replace(filepath.Join(path, "below-a-file"), text); err == nil {
		t.Error("written below a file")
	}
}
