// Package manifests has the sample manifests that devstack serves and the chaos
// harness makes pods from. The simulated nodes play what their annotations say.
package manifests

import "embed"

// Files are the samples, by the names of their files.
//
//go:embed *.yaml
var Files embed.FS
