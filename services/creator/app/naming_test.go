package app

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"berth/pkg/kube"
)

// TestFirstName: users whose ids make the same names come and go in any order, and
// each can have ten pods at any time.
func TestFirstName(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.StringMatching(`[a-z]([-.a-z0-9]{0,60}[a-z0-9])?`).Draw(t, "base")
		parts := rapid.SliceOfN(rapid.StringMatching(`[a-z0-9]{1,20}`), 2, 5).Draw(t, "parts")
		var users []string
		for range rapid.IntRange(1, 5).Draw(t, "users") {
			var id strings.Builder
			for i, part := range parts {
				if i > 0 {
					id.WriteString(rapid.SampledFrom([]string{"-", ".", "_"}).Draw(t, "between"))
				}
				id.WriteString(part)
			}
			users = append(users, id.String())
		}
		owners, pods := map[string]string{}, map[string][]string{}
		for range rapid.IntRange(20, 80).Draw(t, "steps") {
			user := rapid.SampledFrom(users).Draw(t, "user")
			if mine := pods[user]; len(mine) > 0 && rapid.IntRange(0, 3).Draw(t, "ends") == 0 {
				i := rapid.IntRange(0, len(mine)-1).Draw(t, "which")
				delete(owners, mine[i])
				pods[user] = slices.Delete(mine, i, i+1)
				continue
			}
			name, err := firstName(base, user, func(name string) (holder, error) {
				switch owners[name] {
				case "":
					return nobody, nil
				case user:
					return same, nil
				}
				return another, nil
			})
			switch {
			case err != nil:
				t.Fatal(err)
			case name == "" && len(pods[user]) < names:
				t.Fatalf("%s gets no name and has %d: %v", user, len(pods[user]), owners)
			case name != "" && owners[name] != "":
				t.Fatalf("%s gets %s, which is %s's", user, name, owners[name])
			case name != "":
				owners[name] = user
				pods[user] = append(pods[user], name)
			case slices.Equal(users, slices.Repeat(users[:1], len(users))) && len(pods[user]) != names:
				t.Fatalf("alone, %s has %d", user, len(pods[user]))
			}
		}
	})
}

func TestFirstNameUnknown(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	plain := kube.Name("b", "a.b", 0)
	for name, knows := range map[string]func(string) (holder, error){
		"none": func(string) (holder, error) { return another, down },
		"the other one": func(name string) (holder, error) {
			if strings.HasPrefix(name, plain) && len(name) < kube.MaxNameLength {
				return another, nil
			}
			return another, down
		},
	} {
		if _, err := firstName("b", "a.b", knows); !errors.Is(err, down) {
			t.Errorf("%s: %v, want %v", name, err, down)
		}
	}
}
