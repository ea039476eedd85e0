package natsbus_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

// allowed asks a server whether a user may do something, which is "publish" or
// "subscribe" and a subject.
func allowed(t *testing.T, server *eventstest.Server, user, what string) bool {
	t.Helper()
	refused := make(chan error, 4)
	nc, err := nats.Connect(server.URL(), nats.UserInfo(user, "secret of the "+user),
		nats.CustomInboxPrefix(natsbus.InboxPrefix(user)), nats.Timeout(patience),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	verb, subject, _ := strings.Cut(what, " ")
	if verb == "subscribe" {
		_, err = nc.SubscribeSync(subject)
	} else {
		// A request that is let through is nonsense, and refused by what it is for.
		err = nc.PublishRequest(subject, natsbus.InboxPrefix(user)+".x", []byte("?"))
	}
	if err = errors.Join(err, nc.FlushTimeout(patience)); err != nil {
		t.Fatal(err)
	}
	if len(refused) == 0 {
		// The server's word about the request comes before its answer to the flush,
		// but by way of a goroutine.
		return nc.LastError() == nil
	}
	if err := <-refused; !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("%s %s: %v", user, what, err)
	}
	return false
}

// TestGrants asks a server what each service may do besides its work, which the
// tests of the whole show: they run with the same users.
func TestGrants(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServerWithUsers(t, eventstest.Cluster)
	creator := eventstest.NewBus(t, server, "creator")
	eventstest.Bring(t, eventstest.NewBus(t, server, "creator"), "p", "u", events.Claimed)

	services := []string{"api", "creator", "licenser", "deleter", "watcher", natsbus.Operator}
	const nobody = ""
	tests := map[string]string{ // To who may, with blanks between.
		"publish cmd.main.create.x":                         "api creator deleter licenser",
		"publish cmd.main.restart.x":                        "api creator licenser",
		"publish cmd.main.project.x":                        "creator licenser",
		"publish berth.license.main":                        "api",
		"publish berth.render.main":                         "licenser",
		"publish berth.license.other":                       nobody,
		"subscribe berth.license.main":                      "licenser",
		"subscribe berth.render.main":                       "creator",
		"publish _INBOX_licenser.x":                         "creator",
		"publish cmd.main.license.x":                        "creator",
		"publish cmd.main.launch.x":                         "licenser creator",
		"publish cmd.main.delete.x":                         "api creator licenser deleter watcher",
		"publish cmd.main.timer.x.create":                   "creator deleter licenser watcher",
		"publish cmd.main.finish.x":                         "creator watcher",
		"publish cmd.main.delete_user.x":                    "api creator",
		"publish cmd.main.sweep.x":                          "api creator deleter",
		"publish storage.main.u":                            "creator deleter watcher",
		"publish storage.other.u":                           nobody,
		"publish audit.main.silo1.u.create":                 "api",
		"publish $KV.BERTH_TOKENS.main.p.1-1":               "creator",
		"publish $KV.BERTH_TOKENS.other.p.1":                nobody,
		"publish berth.bound.main":                          "watcher",
		"publish berth.confirm.main":                        "api",
		"publish $JS.API.STREAM.MSG.GET.KV_BERTH_TOKENS":    "api creator",
		"publish $JS.API.CONSUMER.CREATE.KV_BERTH_TOKENS.x": nobody,
		"publish $JS.API.DIRECT.GET.KV_BERTH_TOKENS":        nobody,
		"publish $JS.API.STREAM.PURGE.KV_BERTH_TOKENS":      "deleter",
		"publish $JS.API.CONSUMER.CREATE.AUDIT.x":           natsbus.Operator,
		"publish $JS.API.STREAM.PURGE.AUDIT":                nobody,
		"subscribe berth.bound.main":                        "creator",
		"subscribe berth.confirm.main":                      "watcher",
		"subscribe $KV.BERTH_TOKENS.>":                      nobody,
		"subscribe audit.>":                                 nobody,
		"publish _INBOX_api.x":                              "licenser watcher",
		"publish cmd.other.create.x":                        nobody,
		"publish pods.main.p.u.claimed":                     "creator",
		"publish pods.main.p.u.licensed":                    "licenser",
		"publish pods.main.p.u.launched":                    "creator licenser watcher",
		"publish pods.main.p.u.ready":                       "creator licenser watcher",
		"publish pods.main.p.u.deleting":                    "creator deleter watcher",
		"publish pods.main.p.u.gone":                        "creator deleter",
		"publish pods.other.p.u.claimed":                    nobody,
		"publish outcomes.main.x":                           "api creator deleter licenser",
		"publish marks.main.complete":                       "watcher",
		"publish berth.heartbeat.main":                      "watcher",
		"publish dead.main.create.x":                        "creator",
		"publish dead.main.delete.x":                        "deleter",
		"publish $JS.API.STREAM.PURGE.LOG":                  "deleter",
		"publish $JS.API.STREAM.DELETE.LOG":                 nobody,
		"publish $JS.API.STREAM.UPDATE.LOG":                 "watcher",
		"publish $JS.API.STREAM.CREATE.LOG":                 "api creator licenser deleter watcher",
		"publish $JS.API.STREAM.CREATE.ELSE":                nobody,
		"publish $JS.API.STREAM.RESTORE.LOG":                nobody, "publish $JS.API.STREAM.SNAPSHOT.LOG": nobody,
		"publish $JS.API.STREAM.MSG.DELETE.LOG":                                  nobody,
		"publish $JS.API.STREAM.PURGE.COMMANDS":                                  "deleter",
		"publish $JS.API.STREAM.MSG.GET.COMMANDS":                                "creator",
		"publish $JS.API.STREAM.MSG.GET.DEAD_LETTERS":                            natsbus.Operator,
		"publish $JS.API.CONSUMER.CREATE.COMMANDS.spy":                           nobody,
		"publish $JS.API.CONSUMER.CREATE.LOG.x":                                  "api licenser watcher " + natsbus.Operator,
		"publish $JS.API.CONSUMER.CREATE.DEAD_LETTERS.x":                         nobody,
		"publish $JS.API.CONSUMER.DELETE.LOG.x":                                  nobody,
		"publish $JS.API.CONSUMER.PAUSE.COMMANDS.x":                              nobody,
		"publish $JS.API.CONSUMER.DELETE.COMMANDS.x":                             nobody,
		"publish $JS.ACK.COMMANDS.main-create.1.1.1.1.0":                         "creator",
		"publish $JS.ACK.COMMANDS.main-delete.1.1.1.1.0":                         "deleter",
		"publish $JS.ACK.COMMANDS.main-license.1.1.1.1.0":                        "licenser",
		"publish $JS.API.CONSUMER.MSG.NEXT.COMMANDS.main-create":                 "creator",
		"publish $JS.API.CONSUMER.CREATE.COMMANDS.main-create.cmd.main.create.*": "creator",
		"publish $JS.API.CONSUMER.CREATE.COMMANDS.main-delete.cmd.main.delete.*": "deleter",
		"publish $JS.API.CONSUMER.CREATE.COMMANDS.main-license.cmd.main.>":       nobody,
		"publish $JS.API.STREAM.LIST":                                            natsbus.Operator,
		"publish $JS.API.ACCOUNT.PURGE.x":                                        nobody,
		"publish $SYS.REQ.SERVER.PING":                                           nobody,
		"subscribe >":                                                            nobody,
		"subscribe cmd.>":                                                        nobody,
		"subscribe pods.main.*.*.ready":                                          natsbus.Operator,
		"subscribe dead.>":                                                       natsbus.Operator,
		"subscribe berth.heartbeat.main":                                         "api " + natsbus.Operator,
		"subscribe $JS.API.>":                                                    nobody,
		"subscribe _INBOX_api.>":                                                 "api",
		"subscribe _INBOX_creator.>":                                             "creator",
		"subscribe _INBOX_operator.>":                                            natsbus.Operator,
		"subscribe _INBOX.>":                                                     natsbus.Operator,
		"subscribe _INBOX_creator.x":                                             "creator",
	}
	for what, want := range tests {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for _, user := range services {
				if may := slices.Contains(strings.Fields(want), user); allowed(t, server, user, what) != may {
					t.Errorf("the %s may %s: %t, want %t", user, what, !may, may)
				}
			}
		})
	}
	if _, err := nats.Connect(server.URL(), nats.UserInfo("api", "wrong"), nats.Timeout(patience)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a wrong password: %v", err)
	}
	if _, err := nats.Connect(server.URL(), nats.Timeout(patience)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("no user: %v", err)
	}
	if e, err := creator.Last(t.Context(), "p"); err != nil || e.Event != events.Claimed {
		t.Errorf("the pod is %q, error %v", e.Event, err)
	}
}
