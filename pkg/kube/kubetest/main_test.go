package kubetest

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// parentVariable makes the test binary start a cluster in the folder that it names, say so, and wait to be killed.
const parentVariable = "KUBETEST_PARENT"

var shared Shared

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentVariable); dir != "" {
		os.Exit(parent(dir))
	}
	goleak.VerifyTestMain(shared.Wrap(m))
}

func parent(dir string) int {
	ctx := context.Background()
	c, err := Start(ctx, Options{Dir: dir, Nodes: 2, Progress: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	fmt.Fprintln(os.Stderr, c.Wait(ctx))
	return 1
}
