package chaos

import (
	"fmt"
	"io"
	"os"

	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
	"berth/pkg/service/config"
)

// observerUser is the broker's user that sees everything.
const observerUser = "observer"

// brokerUsers are the users of the broker: the services have the grants that a
// site gives them.
func brokerUsers() []eventstest.User {
	everything := []string{">"}
	return append(eventstest.Users(config.Default().Cluster, password), eventstest.User{
		Grant:    natsbus.Grant{User: observerUser, Publish: everything, Subscribe: everything},
		Password: password(observerUser),
	})
}

// password is a user's; the broker listens on loopback for the time of a run.
func password(user string) string { return "chaos-" + user }

// The variables that make this program a broker instead; see [Broker].
const (
	brokerListen = "BERTH_CHAOS_BROKER"
	brokerDir    = "BERTH_CHAOS_BROKER_DIR"
)

// Broker is for the beginning of a main function or TestMain: where this
// process was started by a chaos run to be its NATS server, it is that until it
// is killed, and says so. The broker is a process of its own because it is
// killed now and then.
func Broker(stderr io.Writer) (was bool) {
	listen := os.Getenv(brokerListen)
	if listen == "" {
		return false
	}
	server, err := eventstest.StartServer(eventstest.Options{Dir: os.Getenv(brokerDir), Listen: listen, Users: brokerUsers()})
	if err != nil {
		fmt.Fprintln(stderr, err)
		return true
	}
	server.WaitForShutdown()
	return true
}
