package proc

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestClaim(t *testing.T) {
	t.Parallel()
	inUse := errors.New("in use")
	dir := filepath.Join(t.TempDir(), "new")
	first, err := Claim(dir, 0o700, inUse)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := Claim(dir, 0o700, inUse); !errors.Is(err, inUse) || second != nil {
		t.Errorf("a folder in use: %v, %v", second, err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Claim(dir, 0o700, inUse)
	if err != nil {
		t.Fatalf("a folder that is free again: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Claim(file, 0o700, inUse); err == nil || errors.Is(err, inUse) {
		t.Errorf("a file in place of a folder: %v", err)
	}
}
