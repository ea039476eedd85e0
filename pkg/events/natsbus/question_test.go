package natsbus_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/events/natsbus"
)

func TestAsk(t *testing.T) {
	t.Parallel()
	server := eventstest.NewServerWithUsers(t, eventstest.Cluster)
	api, licenser := eventstest.NewBus(t, server, "api"), eventstest.NewBus(t, server, "licenser")
	subject := events.LicenseSubject(eventstest.Cluster)
	var result map[string]int
	fault := func(method string, params any) events.Reason {
		t.Helper()
		f := (*natsbus.Fault)(nil)
		if err := api.Ask(t.Context(), subject, method, params, &result); !errors.As(err, &f) {
			t.Fatalf("%s: error %v, want a fault", method, err)
		}
		return f.Reason
	}
	if got := fault("add", nil); got != events.Unavailable {
		t.Errorf("nobody answers: %s", got)
	}
	stop, err := licenser.Answer(t.Context(), subject, 2, func(_ context.Context, q natsbus.Question) (any, error) {
		switch q.Method {
		case "add":
			var numbers []int
			if err := json.Unmarshal(q.Params, &numbers); err != nil {
				return nil, &natsbus.Fault{Reason: events.RequestInvalid, Message: "no numbers"}
			}
			return map[string]int{"sum": numbers[0] + numbers[1]}, nil
		case "panic":
			panic("at the disco")
		case "large":
			return strings.Repeat("x", events.MaxCommand), nil
		default:
			return nil, errors.New("the database's password is hunter2")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	// On a machine that is busy the server may hear late of who answers.
	eventstest.Eventually(t, "an answer", func() bool { return api.Ask(t.Context(), subject, "add", []int{2, 3}, &result) == nil })
	if result["sum"] != 5 {
		t.Errorf("the sum is %v", result)
	}
	for method, want := range map[string]events.Reason{
		"add": events.RequestInvalid, "panic": events.Unavailable, "large": events.RequestInvalid, "other": events.Unavailable,
	} {
		if got := fault(method, "none"); got != want {
			t.Errorf("%s: %s, want %s", method, got, want)
		}
	}
	err = api.Ask(t.Context(), subject, "other", nil, nil)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("what went wrong inside is told: %v", err)
	}
	if got := fault("add", strings.Repeat("x", events.MaxCommand)); got != events.RequestInvalid {
		t.Errorf("too large a question: %s", got)
	}
	stop()
	if got := fault("add", nil); got != events.Unavailable {
		t.Errorf("nobody answers any more: %s", got)
	}
}
