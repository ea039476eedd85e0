package v1

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
	"berth/pkg/events/eventstest"
	"berth/pkg/service/config"
	"berth/services/api/internal/access"
)

// silosOf has silos by name, each with a token like its name, for users of some domains.
func silosOf(name, token string, domains ...string) config.Config {
	c := config.Default()
	c.Silos = []config.Silo{{
		Name: name, Credentials: config.Credentials{TokenHash: config.Sum([]byte(token))}, DataAddress: netip.MustParseAddr("10.2.0.1"), UserDomains: domains,
	}}
	return c
}

// late is a guard whose news of a reload do not come.
type late struct{ *access.Guard }

func (l late) Renew(r *http.Request) (access.Caller, <-chan struct{}, error) {
	c, _, err := l.Guard.Renew(r)
	return c, nil, err
}

// TestRenew: a reload ends the streams of those who would not be let in any more, at once and at a heartbeat, and the
// others go on with what they may see now.
func TestRenew(t *testing.T) {
	t.Parallel()
	const alice, bob, carol = "alice@a.org", "bob@b.org", "carol@c.org"
	tests := map[string]struct {
		after config.Config
		// wantEnd is whether the stream ends. If not, wantReset is whether its client is to forget what it knows, and
		// want whose events it gets from then on.
		wantEnd, wantReset bool
		want               []string
	}{
		"the silo is removed":     {after: silosOf("b", "tb", "b.org"), wantEnd: true},
		"its token is revoked":    {after: silosOf("a", "new", "a.org", "c.org"), wantEnd: true},
		"the token is another's":  {after: silosOf("b", "ta", "a.org", "c.org"), wantEnd: true},
		"it is as it was":         {after: silosOf("a", "ta", "a.org", "c.org"), want: []string{alice, carol}},
		"its rate is another":     {after: limited(silosOf("a", "ta", "a.org", "c.org")), want: []string{alice, carol}},
		"it gets another domain":  {after: silosOf("a", "ta", "a.org", "b.org", "c.org"), wantReset: true, want: []string{alice, bob, carol}},
		"its domain is another's": {after: silosOf("a", "ta", "b.org", "c.org"), wantReset: true, want: []string{bob, carol}},
		"it may name all":         {after: silosOf("a", "ta", "*"), wantReset: true, want: []string{alice, bob, carol}},
	}
	for name, tt := range tests {
		for _, how := range []string{"at once", "at a heartbeat"} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				guard := access.New(silosOf("a", "ta", "a.org", "c.org"), time.Now)
				s := newStreams(t, func(h *Handler) {
					h.Guard, h.Heartbeat = guard, time.Hour
					if how == "at a heartbeat" {
						h.Guard, h.Heartbeat = late{guard}, 10*time.Millisecond
					}
				})
				_, lines := s.open("Authorization: Bearer ta\r\n")
				guard.Reload(tt.after)
				if tt.wantEnd {
					eventstest.Receive(t, "the end", s.ended)
					return
				}
				reset := false
				for tt.wantReset && lines.Scan() && lines.Text() != "event: synced" {
					reset = reset || lines.Text() == "event: reset"
				}
				for i, user := range []string{alice, bob, carol} {
					s.h.Hub.Tell(Epoch{Created: 1, Loads: 1}, Entry{
						Record: events.Record{Event: events.Ready, Pod: "p", User: user}, Position: events.Position{Created: 1, Sequence: uint64(i) + 1},
					})
				}
				var got []string
				for !slices.Contains(got, carol) && lines.Scan() {
					for _, user := range []string{alice, bob, carol} {
						if strings.Contains(lines.Text(), `"`+user+`"`) {
							got = append(got, user)
						}
					}
				}
				if d := cmp.Diff(tt.want, got); d != "" || reset != tt.wantReset {
					t.Errorf("reset %t, want %t; events of (-want +got):\n%s", reset, tt.wantReset, d)
				}
			})
		}
	}
}

func limited(c config.Config) config.Config {
	c.RateLimits.PerSilo = config.RateLimit{PerSecond: 1, Burst: 1}
	return c
}
