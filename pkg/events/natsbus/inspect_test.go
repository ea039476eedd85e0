package natsbus_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

// configs are those of the streams as a server says that they are.
func configs(t *testing.T) map[string]jetstream.StreamConfig {
	t.Helper()
	server := eventstest.NewServer(t)
	eventstest.NewBus(t, server, "test")
	js := rawJetStream(t, server)
	all := map[string]jetstream.StreamConfig{}
	for _, name := range natsbus.StreamNames() {
		s, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = s.CachedInfo().Config
	}
	return all
}

func TestStreamFaults(t *testing.T) {
	t.Parallel()
	right := configs(t)
	tests := map[string]struct {
		stream string
		change func(*jetstream.StreamConfig)
		want   []string
	}{
		"the log":          {events.LogStream, func(*jetstream.StreamConfig) {}, nil},
		"the commands":     {events.CommandStream, func(*jetstream.StreamConfig) {}, nil},
		"the dead letters": {events.DeadLetterStream, func(*jetstream.StreamConfig) {}, nil},
		"the audit":        {events.AuditStream, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, nil},
		"the tokens":       {events.TokenStream, func(*jetstream.StreamConfig) {}, nil},
		"tokens from anyone": {
			events.TokenStream, func(c *jetstream.StreamConfig) { c.AllowDirect = true }, []string{"allow_direct is true, not false"},
		},
		"more replicas":    {events.LogStream, func(c *jetstream.StreamConfig) { c.Replicas = 3 }, nil},
		"not one of Berth": {events.LogStream, func(c *jetstream.StreamConfig) { c.Name, c.MaxMsgs = "MINE", 1 }, nil},
		"in memory":        {events.LogStream, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, []string{"storage is Memory, not File"}},
		"read from anyone": {events.LogStream, func(c *jetstream.StreamConfig) { c.AllowDirect = true }, []string{"allow_direct is true, not false"}},
		"limited": {
			events.LogStream, func(c *jetstream.StreamConfig) { c.MaxMsgs, c.MaxBytes, c.MaxAge = 10, 20, time.Hour },
			[]string{"max_msgs is 10, not unlimited", "max_bytes is 20, not unlimited", "max_age is 1h0m0s, not unlimited"},
		},
		"no queue": {
			events.CommandStream, func(c *jetstream.StreamConfig) { c.Retention, c.AllowMsgSchedules = jetstream.LimitsPolicy, false },
			[]string{"retention is Limits, not WorkQueue", "allow_msg_schedules is false, not true"},
		},
		"duplicates": {
			events.CommandStream, func(c *jetstream.StreamConfig) { c.Duplicates = time.Second },
			[]string{"duplicate_window is 1s, not 2m0s"},
		},
		"subjects": {
			events.DeadLetterStream, func(c *jetstream.StreamConfig) { c.Subjects = []string{"dead.main.>"} },
			[]string{"subjects is dead.main.>, not dead.>"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := right[tc.stream]
			tc.change(&cfg)
			if diff := cmp.Diff(tc.want, natsbus.StreamFaults(cfg)); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// TestConsumerName: the name is that of the consumer that a stage makes.
func TestConsumerName(t *testing.T) {
	t.Parallel()
	if got, want := natsbus.ConsumerName("eu.north", events.StageCreate), "eu%2Enorth-create"; got != want {
		t.Errorf("name %q, want %q", got, want)
	}
}
