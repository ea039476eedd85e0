package kube_test

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"

	"berth/pkg/kube"
)

// Patterns of what Name is given: a Kubernetes name and a silo's user id.
const (
	basePattern = `[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?){0,3}`
	userPattern = `[a-z0-9][-a-z0-9._]{0,120}[@]?[-a-z0-9._]{0,120}[a-z0-9]`
)

func ExampleName() {
	fmt.Println(kube.Name("jupyter", "alice@dtu.dk", 0))
	fmt.Println(kube.Name("jupyter", "alice@dtu.dk", 2))
	fmt.Println(kube.Name("jupyter", "a.very.long.name.of.a.user@a.department.of.a.university.example", 1))
	// Output:
	// jupyter-alice-dtu-dk
	// jupyter-alice-dtu-dk-2
	// jupyter-a-very-long-name-of-a-user-a-depar-m8sf7mtss5-1
}

func TestName(t *testing.T) {
	t.Parallel()

	tests := map[string]struct {
		base, user string
		n          int
		want       string
	}{
		"user without domain":           {base: "ssh", user: "bob", want: "ssh-bob"},
		"underscore":                    {base: "ssh", user: "b_b@x.y", want: "ssh-b-b-x-y"},
		"dot in the manifest's name":    {base: "py.3", user: "bob", want: "py-3-bob"},
		"project":                       {base: "hub", user: "project:6f", want: "hub-project-6f"},
		"longest that is not shortened": {base: "a", user: strings.Repeat("b", 51), n: 9, want: "a-" + strings.Repeat("b", 51) + "-9"},
		"no valid character at all":     {base: "", user: "@", want: kube.Name("", "@", 0)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			if got := kube.Name(tc.base, tc.user, tc.n); got != tc.want {
				t.Errorf("Name(%q, %q, %d) = %q, want %q", tc.base, tc.user, tc.n, got, tc.want)
			}
		})
	}
}

func TestNameIsAlwaysALabel(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		base := rapid.StringMatching(basePattern).Draw(t, "base")
		user := rapid.StringMatching(userPattern).Draw(t, "user")
		n := rapid.IntRange(0, kube.MaxNumber).Draw(t, "n")
		got := kube.Name(base, user, n)

		for _, suffix := range []string{"", kube.SuffixHTTP, kube.SuffixSSH, kube.SuffixIngress} {
			if faults := validation.IsDNS1123Label(got + suffix); len(faults) > 0 {
				t.Fatalf("Name(%q, %q, %d)+%q = %q: %v", base, user, n, suffix, got+suffix, faults)
			}
		}

		if len(got) > kube.MaxNameLength {
			t.Fatalf("%q is longer than %d", got, kube.MaxNameLength)
		}

		if plain := kube.Name(base, user, 0); n > 0 && got != fmt.Sprintf("%s-%d", plain, n) {
			t.Fatalf("number %d of %q is %q", n, plain, got)
		}
	})
}

func TestNameTellsUsersApart(t *testing.T) {
	t.Parallel()

	alike := strings.NewReplacer("@", "-", ".", "-", "_", "-")

	rapid.Check(t, func(t *rapid.T) {
		base := rapid.StringMatching(basePattern).Draw(t, "base")
		start := rapid.StringMatching(`[a-z0-9]{0,60}`).Draw(t, "start")
		first := start + rapid.StringMatching(userPattern).Draw(t, "first")
		second := start + rapid.StringMatching(userPattern).Draw(t, "second")

		sameName := kube.Name(base, first, 0) == kube.Name(base, second, 0)
		if sameName && alike.Replace(first) != alike.Replace(second) {
			t.Fatalf("%q and %q are both %q", first, second, kube.Name(base, first, 0))
		}
	})
}

func TestNameTaken(t *testing.T) {
	t.Parallel()

	const likeness = `[a-z0-9]([-._]?[a-z0-9]){0,30}`

	alike := strings.NewReplacer("@", "-", ".", "-", "_", "-")

	rapid.Check(t, func(t *rapid.T) {
		base := rapid.OneOf(rapid.StringMatching(basePattern), rapid.Just("a")).Draw(t, "base")
		user := rapid.OneOf(rapid.StringMatching(userPattern), rapid.StringMatching(likeness)).Draw(t, "user")
		n := rapid.IntRange(0, kube.MaxNumber).Draw(t, "n")
		got := kube.NameTaken(base, user, n)

		if faults := validation.IsDNS1123Label(got + kube.SuffixIngress); len(faults) > 0 || len(got) != kube.MaxNameLength {
			t.Fatalf("NameTaken(%q, %q, %d) = %q: %v", base, user, n, got, faults)
		}

		// A user who looks alike, one who has the result for an id, and one who ends like it.
		for _, other := range []string{user, alike.Replace(user), got, strings.TrimPrefix(got, base+"-")} {
			for m := range kube.MaxNumber + 1 {
				if kube.Name(base, other, m) == got {
					t.Fatalf("%q is plain: Name(%q, %q, %d)", got, base, other, m)
				}

				if (other != user || m != n) && kube.NameTaken(base, other, m) == got {
					t.Fatalf("%q is NameTaken(%q, %q, %d), too", got, base, other, m)
				}
			}
		}
	})
}

func FuzzName(f *testing.F) {
	f.Add("jupyter", "alice@dtu.dk", 0)
	f.Add("", "", 9)
	f.Add("\xff.", "A@\x00", 3)
	f.Fuzz(func(t *testing.T, base, user string, n int) {
		if n < 0 || n > kube.MaxNumber {
			return
		}

		got := kube.Name(base, user, n)
		if faults := validation.IsDNS1123Label(got + kube.SuffixIngress); len(faults) > 0 {
			t.Errorf("Name(%q, %q, %d) = %q: %v", base, user, n, got, faults)
		}

		got = kube.NameTaken(base, user, n)
		if faults := validation.IsDNS1123Label(got + kube.SuffixIngress); len(faults) > 0 || len(got) != kube.MaxNameLength {
			t.Errorf("NameTaken(%q, %q, %d) = %q: %v", base, user, n, got, faults)
		}
	})
}
