package arch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// MaxMainLines is the length up to which a main.go can be said to only glue.
const MaxMainLines = 40

// CheckTree returns what is wrong with the modules and main files below root,
// one line each: a module outside go.work that is no tool, one whose go line
// is not that of go.work, one that pins a toolchain, a main.go longer than
// MaxMainLines.
func CheckTree(ctx context.Context, root string) ([]string, error) {
	work, err := readMod(ctx, root, "work", filepath.Join(root, "go.work"))
	if err != nil {
		return nil, err
	}
	used := make([]string, 0, len(work.Use))
	for _, use := range work.Use {
		used = append(used, filepath.Clean(use.DiskPath))
	}

	var wrong []string
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir() && rel != "." && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir // .git, and the data of a development stack.
		case entry.Name() == "go.mod":
			problems, err := checkModule(ctx, path, filepath.Dir(rel), work.Go, used)
			wrong = append(wrong, problems...)
			return err
		case entry.Name() == "main.go":
			text, err := os.ReadFile(path)
			if lines := bytes.Count(text, []byte("\n")); lines > MaxMainLines {
				wrong = append(wrong, fmt.Sprintf("%s has %d lines, at most %d: main only glues", rel, lines, MaxMainLines))
			}
			return err
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("walk %s: %w", root, err)
	}
	return wrong, nil
}

func checkModule(ctx context.Context, file, dir, goLine string, used []string) ([]string, error) {
	mod, err := readMod(ctx, filepath.Dir(file), "mod", file)
	if err != nil {
		return nil, err
	}
	var wrong []string
	if mod.Go != goLine {
		wrong = append(wrong, fmt.Sprintf("%s/go.mod says go %s, go.work %s", dir, mod.Go, goLine))
	}
	if mod.Toolchain != "" {
		wrong = append(wrong, fmt.Sprintf("%s/go.mod pins toolchain %s; the go line is enough", dir, mod.Toolchain))
	}
	tool := dir == "tools" || strings.HasPrefix(dir, "tools"+string(filepath.Separator))
	if tool == slices.Contains(used, dir) {
		wrong = append(wrong, dir+": go.work lists the modules of Berth, all of them, and no tools")
	}
	return wrong, nil
}

// modFile is the part of a go.mod or go.work that the checks need.
type modFile struct {
	Go        string
	Toolchain string
	Use       []struct{ DiskPath string }
}

func readMod(ctx context.Context, dir, kind, file string) (modFile, error) {
	out, err := run(ctx, dir, "go", kind, "edit", "-json", file)
	if err != nil {
		return modFile{}, err
	}
	var mod modFile
	if err := json.Unmarshal([]byte(out), &mod); err != nil {
		return modFile{}, fmt.Errorf("decode %s: %w", file, err)
	}
	return mod, nil
}
