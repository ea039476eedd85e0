// Command berth is the command line of Berth; its --help says what it does.
package main

import (
	"context"
	"os"
	"os/signal"

	"berth/cmd/berth/internal/cli"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	// The first ctrl-C ends the command; the next one is no longer caught.
	context.AfterFunc(ctx, stop)
	return cli.Run(ctx, cli.Process{Args: os.Args[1:], Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
}
