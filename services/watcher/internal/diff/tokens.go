package diff

import "berth/pkg/events"

// Pending says whether the tokens of a pod are still to be copied: it is ready but
// for them.
func Pending(r events.Record) bool { return r.Observed.Ready && r.NeedsTokens() && alive(r) }

// Copied says whether the tokens of a pod must be in their bucket.
func Copied(r events.Record) bool {
	return r.Observed.Ready && len(r.TokenKeys) > 0 && !r.TokensAt.IsZero() && alive(r)
}

func alive(r events.Record) bool { return !r.Event.Over() && r.Event != events.Ended }
