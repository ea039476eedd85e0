package follow_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"berth/cmd/berth/internal/follow"
	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	alice = "alice@dtu.dk"
	bob   = "bob"
)

// site is a log with a server of its own.
type site struct {
	server *eventstest.Server
	bus    *natsbus.Bus
	log    *follow.Log

	mu      sync.Mutex
	notices []string
}

func setup(t *testing.T) *site {
	t.Helper()
	s := &site{server: eventstest.NewListeningServer(t)}
	s.bus = eventstest.NewBus(t, s.server, "test")
	// The connection lives until the test has cleaned up.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	log, err := follow.Open(ctx, s.server.URL(), "test", s.notice)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(log.Close)
	s.log = log
	return s
}

func (s *site) notice(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notices = append(s.notices, text)
}

func (s *site) noticed(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(strings.Join(s.notices, "\n"), text)
}

// again takes a pod that is gone through another life up to an event.
func (s *site) again(t *testing.T, pod, user string, last events.Type) natsbus.Entry {
	t.Helper()
	var entry natsbus.Entry
	for _, fact := range eventstest.Life(pod, user, "cmd-again-"+pod, "", "uid-again-"+pod) {
		fact.Generation = entry.Generation
		var err error
		if entry, _, err = s.bus.Append(t.Context(), pod, fact); err != nil {
			t.Fatalf("append %s: %v", fact.Kind, err)
		}
		if entry.Event == last {
			return entry
		}
	}
	t.Fatalf("no %s", last)
	return entry
}
