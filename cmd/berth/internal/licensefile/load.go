package licensefile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFiles is how many files are read at the most.
const maxFiles = 2000

// Load reads the licenses of files, in their order, or all because of which they cannot be read. A folder stands for
// the files in it that end with .yaml, .yml or .json and do not begin with a dot, "-" for stdin. read reads what has a
// name, also "-". An id that is there twice is a fault.
func Load(names []string, read func(name string) ([]byte, error)) ([]File, []Fault, error) {
	paths, err := expand(names)
	if err != nil {
		return nil, nil, err
	}
	var all []File
	var faults []Fault
	first := map[string]File{}
	for _, path := range paths {
		text, err := read(path)
		if err != nil {
			return nil, nil, fmt.Errorf("read licenses: %w", err)
		}
		if path == "-" {
			path = "stdin"
		}
		files, wrong := Read(path, text)
		faults = append(faults, wrong...)
		for _, f := range files {
			if before, twice := first[f.License.ID]; twice {
				faults = append(faults, Fault{f.Name, f.Line, fmt.Sprintf("the license %s is also at %s:%d: leave one out", f.License.ID, before.Name, before.Line)})
			}
			first[f.License.ID] = f
			all = append(all, f)
		}
	}
	if len(faults) > 0 {
		return nil, faults, nil
	}
	return all, nil, nil
}

// expand puts the files of folders in the places of the folders.
func expand(names []string) ([]string, error) {
	var paths []string
	for _, name := range names {
		if name == "-" {
			paths = append(paths, name)
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("read licenses: %w", err)
		}
		if !info.IsDir() {
			paths = append(paths, name)
			continue
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			return nil, fmt.Errorf("read licenses: %w", err)
		}
		before := len(paths)
		for _, entry := range entries {
			if isLicense(entry) {
				paths = append(paths, filepath.Join(name, entry.Name()))
			}
		}
		if len(paths) == before {
			return nil, fmt.Errorf("read licenses: the folder %s has no file that ends with .yaml, .yml or .json", name)
		}
	}
	if len(paths) > maxFiles {
		return nil, fmt.Errorf("read licenses: there are %d files, more than %d", len(paths), maxFiles)
	}
	return paths, nil
}

func isLicense(entry fs.DirEntry) bool {
	return !entry.IsDir() && !strings.HasPrefix(entry.Name(), ".") && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(entry.Name()))
}
