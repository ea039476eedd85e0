package v1

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"berth/pkg/service/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func defaultConfig() config.Config { return config.Default() }

// localRequest is a request from this machine.
func localRequest() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://localhost/", nil)
	r.RemoteAddr = "127.0.0.1:1"
	return r
}
