// Package manifests has the sample manifests that devstack serves and the chaos
// harness makes pods from. The simulated nodes play what their annotations say.
package manifests

import (
	"embed"
	"errors"
	"fmt"
	"os"
)

// Files are the samples, by the names of their files.
//
//go:embed *.yaml
var Files embed.FS

// token is the file that the sample full.yaml has copied out of its pod. A command
// in a simulated pod runs on this machine, so that this is where it looks.
const token = "/tmp/berth-sample.token" //nolint:gosec // A name, no credential.

// WriteToken writes that file. Without it pods of that sample wait 10 s for it.
func WriteToken() error {
	_ = os.Remove(token)
	// Exclusively: somebody else's link in this folder must not lead elsewhere.
	file, err := os.OpenFile(token, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // The commands run as nobody.
	if err == nil {
		_, err = file.WriteString("a-token-that-the-notebook-made\n")
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return fmt.Errorf("write the token of the sample full.yaml: %w", err)
	}
	return nil
}
