package cli

import (
	"time"

	"berth/pkg/client"
	"berth/pkg/events"
)

// licenseTime is far more than the licenses of a project take to be looked at.
const licenseTime = 5 * time.Second

// waitsForLicenser says what a project waits for that is claimed, and nothing more, for longer.
const waitsForLicenser = "it waits for its licenses to be looked at: the licenser, or its database, may be away (berth doctor looks)"

// unlicensed says of a project in a phase that it waits for its licenses, nothing while that is no wonder.
func unlicensed(now client.Phase) string {
	if events.Type(now.Event) == events.Claimed && now.Duration > licenseTime.Seconds() {
		return waitsForLicenser
	}
	return ""
}

// licensePatience tells once when a pod's licenses take long to be looked at. Its methods are for one goroutine; tell
// is called in another.
type licensePatience struct {
	tell  func(text string)
	timer *time.Timer
}

// see takes in what happened to the pod last.
func (p *licensePatience) see(event events.Type) {
	switch {
	case event != events.Claimed:
		p.end()
	case p.timer == nil:
		p.timer = time.AfterFunc(licenseTime, func() { p.tell(waitsForLicenser) })
	}
}

// end tells nothing any more.
func (p *licensePatience) end() {
	if p.timer != nil {
		p.timer.Stop()
	}
}
