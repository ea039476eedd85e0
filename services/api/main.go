// Command api is Berth's api service; its --help and docs/ARCHITECTURE.md say what
// it does.
package main

import (
	"os"

	"berth/pkg/service"
	"berth/services/api/app"
)

func main() { os.Exit(service.Main("api", app.Run)) }
