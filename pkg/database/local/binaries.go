package local

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// ErrNoBinaries is returned where PostgreSQL is not installed.
var ErrNoBinaries = errors.New("find PostgreSQL: it is not installed here; install the Debian package postgresql or your system's like")

// debian is where Debian keeps the programs of each version.
const debian = "/usr/lib/postgresql/*/bin"

// binaries returns the folder of initdb and postgres: that of the PATH, else the newest one of Debian's.
func binaries(pattern string) (string, error) {
	var folders []string
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			folders = append(folders, filepath.Dir(path))
		}
	}
	found, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	newest, version := "", 0
	for _, folder := range found {
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(folder))); err == nil && n > version && complete(folder) {
			newest, version = folder, n
		}
	}
	for _, folder := range append(folders, newest) {
		if folder != "" && complete(folder) {
			return folder, nil
		}
	}
	return "", ErrNoBinaries
}

func complete(folder string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(folder, program)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}
