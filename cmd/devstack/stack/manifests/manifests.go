// Package manifests has the sample manifests that devstack serves and the chaos
// harness makes pods from. The simulated nodes play what their annotations say.
package manifests

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Files are the samples, by the names of their files.
//
//go:embed *.yaml
var Files embed.FS

// token is the file that the sample full.yaml has copied out of its pod. A command
// in a simulated pod runs on this machine, so that this is where it looks.
const token = "/tmp/berth-sample.token" //nolint:gosec // A name, no credential.

// WriteToken writes that file. Without it pods of that sample wait 10 s for it. It may be called while pods read the
// file, and by several processes at once.
func WriteToken() error {
	if err := replace(token, "a-token-that-the-notebook-made\n"); err != nil {
		return fmt.Errorf("write the token of the sample full.yaml: %w", err)
	}
	return nil
}

// replace gives a file another content at once. Somebody else's link of that name leads nowhere: it is replaced, too.
func replace(path, text string) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	_, err = file.WriteString(text)
	// The commands run as nobody.
	if err = errors.Join(err, file.Chmod(0o644), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
