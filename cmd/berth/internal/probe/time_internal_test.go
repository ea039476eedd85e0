package probe

import (
	"testing"
	"time"
)

func TestSkew(t *testing.T) {
	t.Parallel()
	asked := time.Date(2026, 1, 2, 3, 4, 5, 300_000_000, time.UTC)
	answered := asked.Add(200 * time.Millisecond)
	for name, tc := range map[string]struct {
		theirs     time.Time
		resolution time.Duration
		want       float64
	}{
		"the same second":      {asked.Truncate(time.Second), time.Second, 0},
		"the second before":    {asked.Truncate(time.Second).Add(-time.Second), time.Second, -0.3},
		"the second after":     {asked.Truncate(time.Second).Add(time.Second), time.Second, 0.5},
		"in between":           {asked.Add(time.Millisecond), 0, 0},
		"ahead":                {answered.Add(time.Minute), 0, 60},
		"behind":               {asked.Add(-time.Minute), 0, -60},
		"behind by whole ones": {asked.Truncate(time.Second).Add(-time.Hour), time.Second, -3599.3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := *skew(tc.theirs, asked, answered, tc.resolution); got != tc.want {
				t.Errorf("skew %v, want %v", got, tc.want)
			}
		})
	}
}

func TestOldest(t *testing.T) {
	t.Parallel()
	const young, old, random = "0191b3e0-0000-7000-8000-000000000001", "018fb3e0-0000-7000-8000-000000000001", "018fb3e0-0000-4000-8000-000000000001"
	for name, tc := range map[string]struct {
		ids  []string
		want time.Time
	}{
		"none":          {nil, time.Time{}},
		"two":           {[]string{young, old}, time.UnixMilli(0x018fb3e00000).UTC()},
		"not of a time": {[]string{random, "cmd-p", "", "1767323045000000000-1", "zzzzzzzz-0000-7000-8000-000000000001", young}, time.UnixMilli(0x0191b3e00000).UTC()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := oldest(tc.ids); !got.Equal(tc.want) {
				t.Errorf("oldest %v, want %v", got, tc.want)
			}
		})
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	for servers, want := range map[string]string{
		"nats://a:secret@h:1, tls://secret@h:2": "nats://h:1,tls://h:2",
		"h:1":                                   "h:1",
		"a:secret@h:1":                          "h:1",
		"nats://a:%zz@h:1":                      "h:1",
	} {
		if got := redact(servers); got != want {
			t.Errorf("redact(%q) = %q, want %q", servers, got, want)
		}
	}
}
