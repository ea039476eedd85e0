package cli

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"berth/pkg/events/natsbus"
)

// TestNATSUsers: a real server takes what is written, and lets in whom it should.
func TestNATSUsers(t *testing.T) { //nolint:paralleltest // It sets variables.
	grants := natsbus.Grants("main")
	for _, g := range grants {
		t.Setenv(passwordVariable(g.User), "secret-of-the-"+g.User)
	}
	path := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(path, []byte(natsUsers(grants)), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port, opts.NoLog, opts.NoSigs = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server does not start")
	}
	for _, g := range grants {
		refused := make(chan error, 1)
		nc, err := nats.Connect(s.ClientURL(), nats.UserInfo(g.User, "secret-of-the-"+g.User), nats.Timeout(time.Minute),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(nc.Publish(g.Publish[0], nil), nc.Flush())
		if err = errors.Join(err, nc.LastError()); err != nil {
			t.Errorf("%s: %v", g.User, err)
		}
		if err := errors.Join(nc.Publish("cmd.other.create.x", nil), nc.Flush()); err != nil {
			t.Fatal(err)
		}
		if err := <-refused; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", g.User, err)
		}
		nc.Close()
	}
	if _, err := nats.Connect(s.ClientURL(), nats.Timeout(time.Minute)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("without a user: %v", err)
	}
}
