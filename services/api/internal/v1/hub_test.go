package v1

import (
	"fmt"
	"testing"

	"berth/pkg/events"
)

// TestHub hands on what each wants, in order, and says where something may be missing.
func TestHub(t *testing.T) {
	t.Parallel()
	h := &Hub{}
	tell := func(loads, sequence uint64, user string) {
		h.Tell(Epoch{Created: 1, Loads: loads}, Entry{Record: events.Record{Pod: "p", User: user}, Position: events.Position{Created: 1, Sequence: sequence}})
	}
	took := func(s *subscription) (sequences []uint64, err error) {
		queue, err := s.take()
		for _, n := range queue {
			sequences = append(sequences, n.Position.Sequence)
		}
		return sequences, err
	}
	every := func(Entry) bool { return true }
	tell(1, 1, "alice")
	all, endAll := h.subscribe(Epoch{1, 1}, "", every)
	alice, endAlice := h.subscribe(Epoch{1, 1}, "alice", every)
	picky, endPicky := h.subscribe(Epoch{1, 1}, "", func(e Entry) bool { return e.User == "bob" })
	if all.from.Sequence != 1 {
		t.Errorf("subscribed from %v", all.from)
	}
	tell(1, 2, "alice")
	tell(1, 3, "bob")
	tell(2, 7, "alice") // The log was read again.
	tell(2, 7, "bob")
	tell(2, 8, "alice")
	for name, tt := range map[string]struct {
		s    *subscription
		want string
	}{"all": {all, "[2 3]"}, "of alice": {alice, "[2]"}, "picky": {picky, "[3]"}} {
		got, err := took(tt.s)
		if fmt.Sprint(got) != tt.want || err != nil {
			t.Errorf("%s: %v, %v; want %s", name, got, err, tt.want)
		}
		if got, err := took(tt.s); len(got) > 0 || err != errGap { //nolint:errorlint // The very one.
			t.Errorf("%s: %v, %v; want a gap", name, got, err)
		}
	}
	endAll()
	endAlice()
	endPicky()
	slow, end := h.subscribe(Epoch{1, 2}, "alice", every)
	defer end()
	for i := range uint64(maxQueued + 1) {
		tell(2, 10+i, "alice")
	}
	if got, err := took(slow); len(got) > 0 || err != errSlow { //nolint:errorlint // The very one.
		t.Errorf("a queue that is full: %v, %v", got, err)
	}
	if len(h.all) != 0 || len(h.byUser) != 1 {
		t.Errorf("subscriptions are left: %v, %v", h.all, h.byUser)
	}
}
