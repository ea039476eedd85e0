package diff

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"berth/pkg/events"
)

// Mount is a pod in the cluster that mounts a claim of a user's storage.
type Mount struct {
	Claim string
	// Record is the pod's newest in the log.
	Record events.Record
}

// Storages says what the log has to be told about the users' storage: pods that
// mount a claim and are in no record as its users. claims are the claims in the
// cluster, by name, with their owners; known are the storage records, by user, and must
// have been read before the records of the mounts. complete says that the log has been
// compared with the cluster before.
//
// In a complete log a pod that is on its way out is left out, for its delete may have
// taken it out of the record a moment ago. In one that is being rebuilt it is put in,
// for that delete to find: else nobody would remove the claim.
func Storages(claims map[string]string, mounts []Mount, known map[string]events.Storage, complete bool, at time.Time) []events.StorageFact {
	uses := map[string]map[string][]events.Use{} // By owner and claim.
	for _, m := range mounts {
		r := m.Record
		if r.Event == "" || r.Event == events.Gone || r.LaunchedAt.IsZero() || complete && r.Event.Over() {
			continue
		}
		owner := cmp.Or(claims[m.Claim], r.User) // The claim may have been deleted under its pods.
		if uses[owner] == nil {
			uses[owner] = map[string][]events.Use{}
		}
		uses[owner][m.Claim] = append(uses[owner][m.Claim], events.UseOf(r))
	}
	var facts []events.StorageFact
	for _, owner := range slices.Sorted(maps.Keys(uses)) {
		record := known[owner]
		claim := record.Claim
		if record.State != events.StorageUsed {
			claim = mostUsed(uses[owner])
		}
		fact := events.StorageFact{Kind: events.StorageAdopt, User: owner, At: at, Claim: claim, Uses: uses[owner][claim]}
		if _, changed, err := events.NextStorage(record, fact); changed && err == nil && len(fact.Uses) > 0 {
			facts = append(facts, fact)
		}
	}
	return facts
}

// mostUsed is the claim that most pods mount, by name where several are.
func mostUsed(uses map[string][]events.Use) string {
	names := slices.Sorted(maps.Keys(uses))
	return slices.MaxFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(uses[a]), len(uses[b])), cmp.Compare(b, a))
	})
}
