// Command perf measures what Berth makes of the Kubernetes below it. It starts
// everything that it needs (package stack), and drives pods through their lives
// in turn through Berth's API and straight through client-go, which is the floor
// under whatever Berth can do. Other scenarios measure long polls, lists and the
// start of an api.
//
//	go run ./test/perf --users 200 --concurrency 50 --rounds 3
//	go run ./test/perf --scenario all --durable --svg latency.svg
//	go run ./test/perf --processes bin
//
// Its figures hold for one machine at one time; what can be compared is the
// ratio of the two, which come from the same run. The number of requests and
// messages is the same anywhere; a broken promise about it is a failure.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }
