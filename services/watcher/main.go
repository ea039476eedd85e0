// Command watcher is Berth's watcher service; its --help and docs/ARCHITECTURE.md say what
// it does.
package main

import (
	"os"

	"berth/pkg/service"
	"berth/services/watcher/app"
)

func main() { os.Exit(service.Main("watcher", app.Run)) }
