// Docgen writes docs/events.md, the reference of the log, from the registries
// of package events and one of its golden files. `go generate` runs it.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() { os.Exit(run()) }

func run() int {
	example := flag.String("example", "", "the event to show, a golden `file`")
	out := flag.String("out", "", "the `file` to write")
	flag.Parse()
	event, err := os.ReadFile(*example)
	if err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		return 1
	}
	text, err := Reference(event)
	if err == nil {
		err = os.WriteFile(*out, text, 0o644) //nolint:gosec // Everybody may read the documentation.
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		return 1
	}
	return 0
}
