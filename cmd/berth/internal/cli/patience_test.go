package cli

import (
	"testing"
	"testing/synctest"
	"time"

	"berth/pkg/client"
	"berth/pkg/events"
)

func TestUnlicensed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		now  client.Phase
		says bool
	}{
		"claimed just now": {client.Phase{Event: "claimed", Duration: 1}, false},
		"claimed for long": {client.Phase{Event: "claimed", Duration: 60}, true},
		"waiting for long": {client.Phase{Event: "waiting", Duration: 60}, false},
	}
	for name, tt := range tests {
		if got := unlicensed(tt.now); (got != "") != tt.says {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestLicensePatience(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		seen  []events.Type // A second is between them.
		told  int
		ended bool
	}{
		"nothing yet":           {nil, 0, false},
		"claimed for long":      {[]events.Type{events.Claimed}, 1, false},
		"claimed, said again":   {[]events.Type{events.Claimed, events.Claimed}, 1, false},
		"licensed soon":         {[]events.Type{events.Claimed, events.Licensed}, 0, false},
		"failed soon":           {[]events.Type{events.Claimed, events.Failed}, 0, false},
		"ended before":          {[]events.Type{events.Claimed}, 0, true},
		"found further already": {[]events.Type{events.Launched}, 0, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				told := make(chan string, 2)
				p := licensePatience{tell: func(text string) { told <- text }}
				for _, event := range tt.seen {
					p.see(event)
					<-time.After(time.Second)
				}
				if tt.ended {
					p.end()
				}
				<-time.After(2 * licenseTime)
				if len(told) != tt.told {
					t.Errorf("told %d times, want %d", len(told), tt.told)
				}
				p.end()
			})
		})
	}
}
