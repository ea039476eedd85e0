// Command perf measures what Berth makes of the Kubernetes below it. It starts
// everything in this process (package stack), and then, in turn, drives the same
// number of pods through the same life: once through Berth's API, once straight
// through client-go, which is the floor under whatever Berth can do.
//
//	go run ./test/perf --users 200 --concurrency 50 --rounds 3
//
// Its figures hold for one machine at one time; what can be compared is the
// ratio of the two, which come from the same run.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }
