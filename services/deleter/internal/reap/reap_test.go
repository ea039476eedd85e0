package reap_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/services/deleter/internal/reap"
)

func claimed() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func limits() reap.Limits { return reap.Limits{Create: 90 * time.Second, CreateMax: 15 * time.Minute} }

func record(event events.Type, change ...func(*events.Record)) events.Record {
	r := events.Record{Event: event, ClaimedAt: claimed()}
	for _, f := range change {
		f(&r)
	}
	return r
}

// progressed got further some time after the claim.
func progressed(after time.Duration) func(*events.Record) {
	return func(r *events.Record) { r.ProgressAt = claimed().Add(after) }
}

func because(reason events.Reason, message string) func(*events.Record) {
	return func(r *events.Record) { r.Reason, r.Message = reason, message }
}

func TestExpire(t *testing.T) {
	t.Parallel()
	nothing := reap.Expiry{}
	again := func(after time.Duration) reap.Expiry { return reap.Expiry{Again: claimed().Add(after)} }
	failed := func(message string) reap.Expiry { return reap.Expiry{Failed: true, Message: message} }
	tests := map[string]struct {
		record events.Record
		after  time.Duration // Since the claim.
		want   reap.Expiry
	}{
		"no record":        {events.Record{}, time.Hour, nothing},
		"failed already":   {record(events.Failed), time.Hour, nothing},
		"being deleted":    {record(events.Deleting), time.Hour, nothing},
		"gone":             {record(events.Gone), time.Hour, nothing},
		"ready":            {record(events.Ready, func(r *events.Record) { r.ReadyAt = claimed() }), time.Hour, nothing},
		"was ready once":   {record(events.Unready, func(r *events.Record) { r.ReadyAt = claimed() }), time.Hour, nothing},
		"fired too early":  {record(events.Claimed), 89 * time.Second, again(90 * time.Second)},
		"fired to the dot": {record(events.Claimed), 90 * time.Second, failed("not ready after 1m30s; it was claimed")},
		"says what it waited for": {
			record(events.Waiting, because(events.Unschedulable, "0/3 nodes are available")), 2 * time.Minute,
			failed("not ready after 2m0s; it was waiting: UNSCHEDULABLE: 0/3 nodes are available"),
		},
		"got further":             {record(events.Waiting, progressed(time.Minute)), 90 * time.Second, again(150 * time.Second)},
		"got further, then stuck": {record(events.Running, progressed(time.Minute)), 150 * time.Second, failed("not ready after 2m30s; it was running")},
		"pulls an image":          {record(events.Waiting, because(events.Pulling, "")), 5 * time.Minute, again(6*time.Minute + 30*time.Second)},
		"waits for its storage":   {record(events.Waiting, because(events.StoragePending, "")), 5 * time.Minute, again(6*time.Minute + 30*time.Second)},
		"waits for the database": {
			record(events.Claimed, func(r *events.Record) { r.User = "project:x" }), 5 * time.Minute, again(6*time.Minute + 30*time.Second),
		},
		"says that it waits for the database": {
			record(events.Waiting, because(events.Unavailable, "x"), func(r *events.Record) { r.User = "project:x" }), 5 * time.Minute,
			again(6*time.Minute + 30*time.Second),
		},
		"waits for the database for too long": {
			record(events.Claimed, func(r *events.Record) { r.User = "project:x" }), 15 * time.Minute, failed("not ready after 15m0s; it was claimed"),
		},
		"cannot pull": {record(events.Waiting, because(events.ImagePull, "x")), 5 * time.Minute, failed("not ready after 5m0s; it was waiting: IMAGE_PULL: x")},
		"crashes again and again": {
			record(events.Running, because(events.NotReady, "x"), func(r *events.Record) { r.Observed.Restarts = 4 }), 5 * time.Minute,
			failed("not ready after 5m0s; it was running: NOT_READY: x; restarts: 4"),
		},
		"pulls nearly too long": {record(events.Waiting, because(events.Pulling, "")), 14 * time.Minute, again(15 * time.Minute)},
		"pulls too long":        {record(events.Waiting, because(events.Pulling, "x")), 15 * time.Minute, failed("not ready after 15m0s; it was waiting: PULLING: x")},
		"gets further for too long": {
			record(events.Running, progressed(899*time.Second)), 15 * time.Minute, failed("not ready after 15m0s; it was running"),
		},
		"adopted, not yet due": {
			events.Record{Event: events.Launched, LaunchedAt: claimed(), ProgressAt: claimed()}, time.Minute, again(90 * time.Second),
		},
		"adopted, due": {
			events.Record{Event: events.Launched, LaunchedAt: claimed(), ProgressAt: claimed()}, 90 * time.Second, failed("not ready after 1m30s; it was launched"),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tt.want, reap.Expire(tt.record, claimed().Add(tt.after), limits())); d != "" {
				t.Errorf("Expire after %s (-want +got):\n%s", tt.after, d)
			}
		})
	}
}

// TestExpireEnds follows the timer of a pod that never gets ready, however it
// behaves: it fires a bounded number of times, and not after the most time.
func TestExpireEnds(t *testing.T) {
	t.Parallel()
	for _, reason := range []events.Reason{"", events.Pulling, events.StoragePending, events.ImagePull} {
		r := record(events.Waiting, because(reason, ""))
		now := claimed()
		for fired := range 100 {
			expiry := reap.Expire(r, now, limits())
			if expiry.Failed {
				if took := now.Sub(claimed()); took > limits().CreateMax {
					t.Errorf("%q: failed after %s, the limit is %s", reason, took, limits().CreateMax)
				}
				break
			}
			if !expiry.Again.After(now) {
				t.Fatalf("%q: fired at %s, and is to fire again at %s", reason, now, expiry.Again)
			}
			if fired == 99 {
				t.Errorf("%q: fired 100 times without an end", reason)
			}
			now = expiry.Again
			r.ProgressAt = now.Add(-time.Second)
		}
	}
}

func TestExpireNamesNoReasonTwice(t *testing.T) {
	t.Parallel()
	message := reap.Expire(record(events.Running, because(events.NotReady, "")), claimed().Add(time.Hour), limits()).Message
	if !strings.HasSuffix(message, "it was running: NOT_READY") {
		t.Errorf("message %q does not end with the reason", message)
	}
}

func TestSettled(t *testing.T) {
	t.Parallel()
	const wait = 30 * time.Second
	launching := func(r *events.Record) { r.LaunchingAt = claimed() }
	launched := func(r *events.Record) { r.LaunchingAt, r.LaunchedAt = claimed(), claimed().Add(time.Second) }
	tests := map[string]struct {
		record     events.Record
		launchOver bool
		after      time.Duration
		want       bool
	}{
		"never launched":                    {record(events.Deleting), false, 0, true},
		"launch reported":                   {record(events.Deleting, launched), false, 0, true},
		"adopted":                           {events.Record{Event: events.Deleting, LaunchedAt: claimed()}, false, 0, true},
		"launch under way":                  {record(events.Deleting, launching), false, wait, false},
		"launch under way, creator gave up": {record(events.Deleting, launching), true, 0, true},
		"launch under way, nobody heard of": {record(events.Deleting, launching), false, wait + 1, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := reap.Settled(tt.record, tt.launchOver, claimed().Add(tt.after), wait); got != tt.want {
				t.Errorf("Settled = %t, want %t", got, tt.want)
			}
		})
	}
}
