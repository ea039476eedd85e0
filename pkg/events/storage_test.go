package events_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth/pkg/events"
)

// The pods of these tests, and what is said of their storage.
func use(n int) events.Use {
	return events.Use{Pod: fmt.Sprintf("pod-%d", n), Generation: fmt.Sprintf("1-%d", n), Command: fmt.Sprintf("c%d", n)}
}

func storageFact(kind events.StorageKind, u events.Use) events.StorageFact {
	return events.StorageFact{Kind: kind, Cluster: cluster, User: user, At: at(1), Use: u, Claim: "claim"}
}

func storageAfter(tb testing.TB, facts ...events.StorageFact) events.Storage {
	tb.Helper()
	var s events.Storage
	for _, f := range facts {
		next, _, err := events.NextStorage(s, f)
		if err != nil {
			tb.Fatalf("%s: %v", f.Kind, err)
		}
		s = next
	}
	return s
}

func TestNextStorage(t *testing.T) {
	t.Parallel()
	one, two := storageFact(events.StorageUse, use(1)), storageFact(events.StorageUse, use(2))
	release := func(n int) events.StorageFact { return storageFact(events.StorageRelease, use(n)) }
	gone := storageFact(events.StorageGone, use(1))
	reclaim := storageFact(events.StorageReclaim, events.Use{})
	move := storageFact(events.StorageMove, events.Use{})
	move.From, move.Claim = "claim", "claim-hash"
	moveLate := move
	moveLate.From = "another"
	other := two
	other.Claim = "another"
	adopt := storageFact(events.StorageAdopt, events.Use{})
	adopt.Uses = []events.Use{use(1), use(3)}
	tests := map[string]struct {
		facts []events.StorageFact
		fact  events.StorageFact
		want  events.Storage
		same  bool
		err   error
	}{
		"first use":              {fact: one, want: events.Storage{State: events.StorageUsed, Claim: "claim", Uses: []events.Use{use(1)}}},
		"used twice by one":      {facts: []events.StorageFact{one}, fact: one, same: true},
		"second use":             {facts: []events.StorageFact{one}, fact: two, want: events.Storage{State: events.StorageUsed, Claim: "claim", Uses: []events.Use{use(1), use(2)}}},
		"a use keeps the name":   {facts: []events.StorageFact{one}, fact: other, want: events.Storage{State: events.StorageUsed, Claim: "claim", Uses: []events.Use{use(1), use(2)}}},
		"the name is another's":  {facts: []events.StorageFact{one}, fact: move, want: events.Storage{State: events.StorageUsed, Claim: "claim-hash", Uses: []events.Use{use(1)}}},
		"moved by somebody else": {facts: []events.StorageFact{one}, fact: moveLate, same: true},
		"not the last":           {facts: []events.StorageFact{one, two}, fact: release(1), want: events.Storage{State: events.StorageUsed, Claim: "claim", Uses: []events.Use{use(2)}}},
		"the last":               {facts: []events.StorageFact{one}, fact: release(1), want: events.Storage{State: events.StorageRemoving, Claim: "claim", Remover: use(1)}},
		"a stranger's release":   {facts: []events.StorageFact{one}, fact: release(2), same: true},
		"released twice":         {facts: []events.StorageFact{one, release(1)}, fact: release(1), same: true},
		"a use while removing":   {facts: []events.StorageFact{one, release(1)}, fact: two, same: true, err: events.ErrRemoving},
		"removed":                {facts: []events.StorageFact{one, release(1)}, fact: gone, want: events.Storage{State: events.StorageAbsent}},
		"removed twice":          {facts: []events.StorageFact{one, release(1), gone}, fact: gone, same: true},
		"removed, told too late": {facts: []events.StorageFact{one, release(1), gone, two, release(2)}, fact: gone, same: true},
		"removed while used":     {facts: []events.StorageFact{one}, fact: gone, same: true, err: events.ErrOrder},
		"used again":             {facts: []events.StorageFact{one, release(1), gone}, fact: other, want: events.Storage{State: events.StorageUsed, Claim: "another", Uses: []events.Use{use(2)}}},
		"reclaimed by a sweep":   {fact: reclaim, want: events.Storage{State: events.StorageRemoving, Claim: "claim"}},
		"reclaimed while used":   {facts: []events.StorageFact{one}, fact: reclaim, same: true, err: events.ErrOrder},
		"a sweep takes over":     {facts: []events.StorageFact{one, release(1)}, fact: reclaim, same: true},
		"adopted":                {fact: adopt, want: events.Storage{State: events.StorageUsed, Claim: "claim", Uses: []events.Use{use(1), use(3)}}},
		"adopted into a use":     {facts: []events.StorageFact{one}, fact: adopt, want: events.Storage{State: events.StorageUsed, Claim: "claim", Uses: []events.Use{use(1), use(3)}}},
		"adopted while removing": {facts: []events.StorageFact{one, release(1)}, fact: adopt, same: true, err: events.ErrRemoving},
		"no such fact":           {fact: events.StorageFact{Kind: "lend"}, same: true, err: events.ErrOrder},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := storageAfter(t, tc.facts...)
			kept := before
			kept.Uses = slices.Clone(before.Uses)
			got, changed, err := events.NextStorage(before, tc.fact)
			if !errors.Is(err, tc.err) || changed == tc.same {
				t.Fatalf("changed %t, error %v; want changed %t, error %v", changed, err, !tc.same, tc.err)
			}
			if diff := cmp.Diff(kept, before); diff != "" {
				t.Errorf("the record before was modified:\n%s", diff)
			}
			want := tc.want
			want.Cluster, want.User, want.At = cluster, user, at(1)
			if tc.same {
				want = before
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again, twice, err := events.NextStorage(got, tc.fact); tc.err == nil && (twice || err != nil || again.State != got.State) {
				t.Errorf("twice is not once: %v, error %v", again, err)
			}
		})
	}
}

// TestRandomStorage lets creators and deleters contend for one user's storage in
// every order, with redeliveries. The claim exists from the first use to the end
// of the removal; it must never go under a pod, and at the end be there if and
// only if a pod uses it.
func TestRandomStorage(t *testing.T) {
	t.Parallel()
	removals := 0
	for i := range uint64(2000) {
		r := rand.New(rand.NewPCG(7, i))
		var s events.Storage
		using, over := map[int]bool{}, map[int]bool{}
		apply := func(f events.StorageFact) error {
			next, changed, err := events.NextStorage(s, f)
			if changed && err == nil {
				s = next
			}
			return err
		}
		for range 60 {
			n := 1 + r.IntN(5)
			switch r.IntN(4) {
			case 0:
				if err := apply(storageFact(events.StorageUse, use(n))); err == nil && !over[n] {
					using[n] = true
				} else if err == nil {
					over[n], using[n] = false, true // The name has another life.
				}
			case 1, 2:
				if using[n] {
					if err := apply(storageFact(events.StorageRelease, use(n))); err != nil {
						t.Fatalf("play %d: release: %v", i, err)
					}
					delete(using, n)
					over[n] = true
				}
			case 3:
				if s.State == events.StorageRemoving {
					if len(using) > 0 {
						t.Fatalf("play %d: removing under %v", i, using)
					}
					removals++
					if err := apply(storageFact(events.StorageGone, s.Remover)); err != nil {
						t.Fatalf("play %d: gone: %v", i, err)
					}
				}
			}
			if (s.State == events.StorageUsed) != (len(using) > 0) || len(s.Uses) != len(using) {
				t.Fatalf("play %d: %s with %d uses, %d pods use it", i, s.State, len(s.Uses), len(using))
			}
		}
	}
	if removals < 1000 {
		t.Errorf("only %d removals: the test does not test them", removals)
	}
}

func TestStorageRemoves(t *testing.T) {
	t.Parallel()
	removing := storageAfter(t, storageFact(events.StorageUse, use(1)), storageFact(events.StorageRelease, use(1)))
	mine := events.Record{Pod: use(1).Pod, Generation: use(1).Generation}
	another := mine
	another.Generation = use(2).Generation
	if !removing.Removes(mine) || removing.Removes(another) || (events.Storage{}).Removes(mine) {
		t.Errorf("Removes: mine %t, another life %t, nothing %t", removing.Removes(mine), removing.Removes(another), (events.Storage{}).Removes(mine))
	}
}
