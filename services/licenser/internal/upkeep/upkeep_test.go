package upkeep_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/services/licenser/internal/upkeep"
)

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(d time.Duration) time.Time { return begin.Add(d) }

func TestBackoff(t *testing.T) {
	t.Parallel()
	for failures, seconds := range []float64{10, 10, 20, 40, 80, 160, 320, 600, 600} {
		if got := upkeep.Backoff(failures).Seconds(); got != seconds {
			t.Errorf("after %d failures %gs, want %gs", failures, got, seconds)
		}
	}
	for _, failures := range []int{-5, 64, 1 << 40} {
		if got := upkeep.Backoff(failures); got < 10*time.Second || got > upkeep.MostDelay {
			t.Errorf("after %d failures %s", failures, got)
		}
	}
	for chance, want := range map[float64]time.Duration{0: 10 * time.Second, 0.5: 11 * time.Second, 0.999: 11998 * time.Millisecond} {
		if got := upkeep.Jitter(10*time.Second, chance); got != want {
			t.Errorf("by chance %g %s, want %s", chance, got, want)
		}
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before       int
		ready, ended time.Time
		want         int
	}{
		"the first":                        {0, time.Time{}, at(0), 1},
		"never ready":                      {3, time.Time{}, at(0), 4},
		"ready for less than its back-off": {3, at(0), at(39 * time.Second), 4},
		"ready for as long as it":          {3, at(0), at(40 * time.Second), 1},
		"ready for long":                   {30, at(0), at(time.Hour), 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := upkeep.Failures(tt.before, tt.ready, tt.ended); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	restart := &events.Restart{Command: "c"}
	tests := map[string]struct {
		record events.Record
		state  upkeep.State
		end    upkeep.End
		fault  string
	}{
		"none":                     {events.Record{}, upkeep.Opened, upkeep.NoEnd, ""},
		"claimed":                  {events.Record{Event: events.Claimed}, upkeep.Starting, upkeep.NoEnd, ""},
		"waiting":                  {events.Record{Event: events.Waiting, Reason: events.Pulling}, upkeep.Starting, upkeep.NoEnd, ""},
		"running, not ready":       {events.Record{Event: events.Running}, upkeep.Starting, upkeep.NoEnd, ""},
		"ready":                    {events.Record{Event: events.Ready}, upkeep.Running, upkeep.NoEnd, ""},
		"unready":                  {events.Record{Event: events.Unready}, upkeep.Running, upkeep.NoEnd, ""},
		"ended":                    {events.Record{Event: events.Ended, Reason: events.Crashed, Message: "exit 1"}, upkeep.Stopping, upkeep.Died, "CRASHED: exit 1"},
		"failed":                   {events.Record{Event: events.Failed, Reason: events.ImagePull}, upkeep.Stopping, upkeep.Died, "IMAGE_PULL"},
		"stopped":                  {events.Record{Event: events.Deleting}, upkeep.Stopping, upkeep.Stopped, ""},
		"stopped and gone":         {events.Record{Event: events.Gone}, upkeep.Opened, upkeep.Stopped, ""},
		"idle":                     {events.Record{Event: events.Gone, Reason: events.Idle, Message: "idle"}, upkeep.Opened, upkeep.Stopped, ""},
		"deleted outside":          {events.Record{Event: events.Deleting, Reason: events.DeletedOutside}, upkeep.Stopping, upkeep.Died, "DELETED_OUTSIDE"},
		"failed and gone":          {events.Record{Event: events.Gone, Reason: events.Timeout}, upkeep.Opened, upkeep.Died, "TIMEOUT"},
		"restarted, being deleted": {events.Record{Event: events.Deleting, Restart: restart}, upkeep.Stopping, upkeep.NoEnd, ""},
		"restarted and gone":       {events.Record{Event: events.Gone, Restart: restart, Reason: events.Crashed}, upkeep.Starting, upkeep.NoEnd, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := upkeep.StateOf(tt.record); got != tt.state {
				t.Errorf("it is %s, want %s", got, tt.state)
			}
			if got := upkeep.EndOf(tt.record); got != tt.end {
				t.Errorf("its end is %d, want %d", got, tt.end)
			}
			if got := upkeep.Fault(tt.record); got != tt.fault {
				t.Errorf("its fault is %q, want %q", got, tt.fault)
			}
		})
	}
}

func TestIdle(t *testing.T) {
	t.Parallel()
	const timeout, warning = 30 * time.Minute, 5 * time.Minute
	tests := map[string]struct {
		use  upkeep.Use
		want upkeep.Idleness
	}{
		"never": {upkeep.Use{Now: at(100 * time.Hour), Since: at(0)}, upkeep.Idleness{}},
		"just ready": {
			upkeep.Use{Now: at(time.Second), Since: at(0), Timeout: timeout, Warning: warning},
			upkeep.Idleness{Look: at(25 * time.Minute)},
		},
		"its last edit is from long ago": {
			upkeep.Use{Now: at(time.Minute), Since: at(0), LastActivity: at(-100 * time.Hour), Timeout: timeout, Warning: warning},
			upkeep.Idleness{Look: at(25 * time.Minute)},
		},
		"used": {
			upkeep.Use{Now: at(26 * time.Minute), Since: at(0), LastActivity: at(10 * time.Minute), Timeout: timeout, Warning: warning},
			upkeep.Idleness{Look: at(35 * time.Minute)},
		},
		"time for the warning": {
			upkeep.Use{Now: at(25 * time.Minute), Since: at(0), Timeout: timeout, Warning: warning},
			upkeep.Idleness{StopAt: at(30 * time.Minute), Look: at(30 * time.Minute)},
		},
		"warned": {
			upkeep.Use{Now: at(29 * time.Minute), Since: at(0), Timeout: timeout, Warning: warning, StopAt: at(30 * time.Minute)},
			upkeep.Idleness{StopAt: at(30 * time.Minute), Look: at(30 * time.Minute)},
		},
		"time to stop": {
			upkeep.Use{Now: at(30 * time.Minute), Since: at(0), Timeout: timeout, Warning: warning, StopAt: at(30 * time.Minute)},
			upkeep.Idleness{Stop: true, StopAt: at(30 * time.Minute)},
		},
		"used after the warning": {
			upkeep.Use{Now: at(30 * time.Minute), Since: at(0), LastActivity: at(29 * time.Minute), Timeout: timeout, Warning: warning, StopAt: at(30 * time.Minute)},
			upkeep.Idleness{Look: at(54 * time.Minute)},
		},
		"used after the warning, and idle again": {
			upkeep.Use{Now: at(55 * time.Minute), Since: at(0), LastActivity: at(29 * time.Minute), Timeout: timeout, Warning: warning, StopAt: at(30 * time.Minute)},
			upkeep.Idleness{StopAt: at(60 * time.Minute), Look: at(60 * time.Minute)}, // A minute's grace: it was warned late.
		},
		"the timer came late": {
			upkeep.Use{Now: at(50 * time.Hour), Since: at(0), Timeout: timeout, Warning: warning},
			upkeep.Idleness{StopAt: at(50*time.Hour + warning), Look: at(50*time.Hour + warning)},
		},
		"warned late": {
			upkeep.Use{Now: at(50*time.Hour + warning), Since: at(0), Timeout: timeout, Warning: warning, StopAt: at(50*time.Hour + warning)},
			upkeep.Idleness{Stop: true, StopAt: at(50*time.Hour + warning)},
		},
		"a timeout that is shorter than the warning": {
			upkeep.Use{Now: at(30 * time.Second), Since: at(0), Timeout: time.Minute, Warning: warning},
			upkeep.Idleness{StopAt: at(time.Minute), Look: at(time.Minute)},
		},
		"no warning is wanted": {
			upkeep.Use{Now: at(timeout), Since: at(0), Timeout: timeout},
			upkeep.Idleness{StopAt: at(timeout), Look: at(timeout)},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tt.want, upkeep.Idle(tt.use)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestParseRequest(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want upkeep.Action
		done bool
		err  string
	}{
		"start":          {`{"action":"start","time":"2026-01-02T03:04:05Z"}`, upkeep.Start, false, ""},
		"stop":           {`{"action":"stop"}`, upkeep.Stop, false, ""},
		"restart":        {`{"action":"restart","finished":null}`, upkeep.Restart, false, ""},
		"finished":       {`{"action":"start","finished":"2026-01-02T03:04:05Z"}`, "", true, ""},
		"another action": {`{"action":"save"}`, "", false, `the action "save" is unknown: write start, stop or restart`},
		"a number":       {`{"action":5}`, "", false, "the action 5 is unknown"},
		"none":           {`{}`, "", false, "the action (none) is unknown"},
		"a text":         {`"start"`, "", false, `is no JSON object: write it like {"action":"start"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			action, done, err := upkeep.ParseRequest(json.RawMessage(tt.text))
			if action != tt.want || done != tt.done || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q, %t, %v; want %q, %t, %s", action, done, err, tt.want, tt.done, tt.err)
			}
		})
	}
}

func TestGaveUp(t *testing.T) {
	t.Parallel()
	got := upkeep.GaveUp(10, "CRASHED: exit 1")
	if !strings.HasPrefix(got, "GAVE_UP: ") || !strings.Contains(got, "10 times in a row") || !strings.Contains(got, "CRASHED: exit 1") {
		t.Error(got)
	}
	if got := upkeep.GaveUp(3, ""); !strings.Contains(got, "it could not be started") {
		t.Error(got)
	}
}
