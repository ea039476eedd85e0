// Command devstack runs everything that Berth is on one machine: a NATS server,
// a Kubernetes control plane with simulated nodes, a server of sample manifests,
// and the five services in this process.
package main

import (
	"os"

	"berth/cmd/devstack/internal/cli"
)

func main() { os.Exit(cli.Main()) }
