// Command licenser is Berth's licenser service; its --help and docs/ARCHITECTURE.md say what
// it does.
package main

import (
	"os"

	"berth/pkg/service"
	"berth/services/licenser/app"
)

func main() { os.Exit(service.Main("licenser", app.Run)) }
