// Command creator is Berth's creator service; its --help and docs/ARCHITECTURE.md say what
// it does.
package main

import (
	"os"

	"berth/pkg/service"
	"berth/services/creator/app"
)

func main() { os.Exit(service.Main("creator", app.Run)) }
