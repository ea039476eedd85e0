package events

import (
	"encoding/json"
	"fmt"
	"time"
)

// HeartbeatEvery is how often a watcher that leads says so.
const HeartbeatEvery = time.Second

// Heartbeat is what the leading watcher of a cluster says on
// [HeartbeatSubject], as JSON. It is not kept anywhere.
type Heartbeat struct {
	Cluster string `json:"cluster"`
	// Instance and Version are the watcher's.
	Instance string `json:"instance"`
	Version  string `json:"version,omitempty"`
	// Time is the watcher's clock at the moment of sending, in UTC.
	Time time.Time `json:"time,omitzero"`
	// LeadingSince is when the watcher began to lead, by the same clock.
	LeadingSince time.Time `json:"leading_since,omitzero"`
	// WatchAge is how long ago, in seconds, the watch of pods has last heard of the
	// API server, which says something at least once a minute.
	WatchAge float64 `json:"watch_age_seconds"`
}

// Marshal returns the heartbeat's wire form.
func (h Heartbeat) Marshal() ([]byte, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("marshal heartbeat: %w: %w", ErrMalformed, err)
	}
	return b, nil
}

// ParseHeartbeat reads what [Heartbeat.Marshal] wrote, and the same from other
// versions: members that are missing are zero. It returns [ErrMalformed].
func ParseHeartbeat(b []byte) (Heartbeat, error) {
	var h Heartbeat
	if err := json.Unmarshal(b, &h); err != nil {
		return Heartbeat{}, fmt.Errorf("read heartbeat: %w: %w", ErrMalformed, err)
	}
	if h.Instance == "" {
		return Heartbeat{}, fmt.Errorf("heartbeat without instance: %w", ErrMalformed)
	}
	return h, nil
}
