package chaos

import "math/rand/v2"

// kinds are the samples that users make pods from, and how often each is taken.
func kinds() []kind {
	return []kind{
		{"notebook", 46},
		{"full", 14}, // Storage, services, ingress, token.
		{"slow-pull", 8},
		{"fails", 6},
		{"completes", 6},
		{"evicted", 4},
		{"pull-fails", 4},
		{"bad-image", 4},
		{"too-big", 3},
		{"crash-loop", 2},
		{"missing", 2}, // There is no such file.
		{"forbidden", 1},
	}
}

type kind struct {
	name   string
	weight int
}

// pick takes a manifest at random, by weight.
func pick(random *rand.Rand) string {
	total := 0
	for _, k := range kinds() {
		total += k.weight
	}
	n := random.IntN(total)
	for _, k := range kinds() {
		if n -= k.weight; n < 0 {
			return k.name
		}
	}
	return kinds()[0].name
}
