package verdict

import (
	"bytes"
	"encoding/json"

	"berth/pkg/events"
)

// successor says whether some fact leads from a record to the next one. The
// record after says what the fact must have been.
func successor(before, after events.Record, pullBackOffs int) bool {
	for _, fact := range facts(before, after) {
		fact.PullBackOffLimit = pullBackOffs
		next, changed, err := events.Next(before, fact)
		if err != nil || !changed {
			continue
		}
		if next.Generation == "" {
			// The first record of a life cannot carry it; its readers add it.
			next.Generation = after.Generation
			if after.Generation == before.Generation {
				continue
			}
		}
		if equal(next, after) {
			return true
		}
	}
	return false
}

// facts are those that may have led to a record.
func facts(before, after events.Record) []events.Fact {
	first := after
	first.Generation = ""
	g := after.Generation
	all := []events.Fact{
		{Kind: events.FactClaim, Record: first, At: after.ClaimedAt},
		{Kind: events.FactAdopt, Record: first, At: after.LaunchedAt, Observed: after.Observed},
		{
			Kind: events.FactLicense, Generation: g, Licenses: after.Licenses, Licensing: after.Licensing, Container: after.Container, Image: after.Image,
		},
		{Kind: events.FactRelicense, Generation: g, Licenses: after.Licenses},
		{Kind: events.FactIdle, Generation: g, IdleStopAt: after.IdleStopAt},
		{Kind: events.FactLaunch, Generation: g, At: after.LaunchingAt, Storage: after.Storage, TokenKeys: after.TokenKeys},
		{Kind: events.FactWait, Generation: g, Reason: after.Reason, Message: after.Message},
		{
			Kind: events.FactLaunched, Generation: g, At: after.LaunchedAt, UID: after.Observed.UID, Storage: after.Storage,
			Objects: after.Objects, HTTP: after.HTTP, SSHPort: after.SSHPort, SSHUser: after.SSHUser,
		},
		{Kind: events.FactFail, Generation: g, Reason: after.Reason, Message: after.Message},
		{Kind: events.FactDelete, Generation: g, At: after.DeletingAt, Reason: after.Reason, Message: after.Message, Restart: after.Restart},
		{Kind: events.FactDelete, Generation: g, At: after.DeletingAt, Stop: true},
		{Kind: events.FactGone, Generation: g},
	}
	if after.TokensAt != before.TokensAt {
		added := after.Warnings[min(len(before.Warnings), len(after.Warnings)):]
		all = append(all, events.Fact{Kind: events.FactFinish, Generation: g, At: after.TokensAt, Warnings: added})
	}
	fact := events.Fact{Kind: events.FactObserve, Generation: g, Observed: after.Observed}
	fact.At = after.ProgressAt
	all = append(all, fact)
	if after.ReadyAt != before.ReadyAt {
		fact.At = after.ReadyAt
		all = append(all, fact)
	}
	if after.DeletingAt != before.DeletingAt {
		fact.At = after.DeletingAt
		all = append(all, fact)
	}
	return all
}

func equal(a, b events.Record) bool {
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}
