// Command chaos shows whether Berth keeps its promises while everything around
// it breaks; see package chaos.
//
//	go run ./test/chaos/cmd/chaos --duration 1m --seed 1
package main

import (
	"os"

	"berth/test/chaos"
)

func main() {
	if chaos.Broker(os.Stderr) {
		return
	}
	os.Exit(chaos.Command(os.Args[1:], os.Stdout, os.Stderr))
}
