package natsbus

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StreamNames are the names of the streams of Berth.
func StreamNames() []string {
	var names []string
	for _, c := range new(Bus).streams() {
		names = append(names, c.Name)
	}
	return names
}

// StreamFaults says in what a stream of Berth is not as [Bus.Provision] makes it,
// a short text for each member of its configuration that matters; none where it
// is right, or no stream of Berth.
func StreamFaults(have jetstream.StreamConfig) []string {
	// How many replicas there are and how long audit records stay is the site's choice.
	wanted := (&Bus{replicas: have.Replicas, audited: have.MaxAge}).streams()
	at := slices.IndexFunc(wanted, func(c jetstream.StreamConfig) bool { return c.Name == have.Name })
	if at < 0 {
		return nil
	}
	want := wanted[at]
	var faults []string
	member := func(name string, have, want any) {
		if have != want {
			faults = append(faults, fmt.Sprintf("%s is %v, not %v", name, have, want))
		}
	}
	subjects := func(c jetstream.StreamConfig) string {
		return strings.Join(slices.Sorted(slices.Values(c.Subjects)), " ")
	}
	member("subjects", subjects(have), subjects(want))
	member("storage", have.Storage.String(), want.Storage.String())
	member("retention", have.Retention.String(), want.Retention.String())
	member("max_msgs", limit(have.MaxMsgs), limit(want.MaxMsgs))
	member("max_bytes", limit(have.MaxBytes), limit(want.MaxBytes))
	member("max_msg_size", limit(int64(have.MaxMsgSize)), limit(int64(want.MaxMsgSize)))
	member("max_msgs_per_subject", limit(have.MaxMsgsPerSubject), limit(want.MaxMsgsPerSubject))
	member("max_age", age(have.MaxAge), age(want.MaxAge))
	member("allow_direct", have.AllowDirect, want.AllowDirect)
	member("allow_msg_ttl", have.AllowMsgTTL, want.AllowMsgTTL)
	member("allow_msg_schedules", have.AllowMsgSchedules, want.AllowMsgSchedules)
	member("allow_rollup_hdrs", have.AllowRollup, want.AllowRollup)
	member("no_ack", have.NoAck, want.NoAck)
	member("sealed", have.Sealed, want.Sealed)
	member("deny_delete", have.DenyDelete, want.DenyDelete)
	member("deny_purge", have.DenyPurge, want.DenyPurge)
	member("mirror", have.Mirror != nil, want.Mirror != nil)
	member("sources", len(have.Sources), len(want.Sources))
	// Where none is asked for the server has two minutes.
	if want.Duplicates != 0 {
		member("duplicate_window", have.Duplicates, want.Duplicates)
	}
	return faults
}

// limit is how a limit of a stream reads; servers write -1 for none.
func limit(n int64) string {
	if n <= 0 {
		return "unlimited"
	}
	return strconv.FormatInt(n, 10)
}

func age(d time.Duration) string {
	if d <= 0 {
		return "unlimited"
	}
	return d.String()
}
