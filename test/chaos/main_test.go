package chaos

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// suite is all tests; the program is also the broker of the runs that they start.
type suite struct{ *testing.M }

func TestMain(m *testing.M) { goleak.VerifyTestMain(suite{m}) }

// Run runs the tests and returns the exit code.
func (s suite) Run() int {
	if Broker(os.Stderr) {
		return 0
	}
	return s.M.Run()
}
