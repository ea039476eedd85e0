// Command deleter is Berth's deleter service; its --help and docs/ARCHITECTURE.md say what
// it does.
package main

import (
	"os"

	"berth/pkg/service"
	"berth/services/deleter/app"
)

func main() { os.Exit(service.Main("deleter", app.Run)) }
