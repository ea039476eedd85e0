package config

import "testing"

func TestSuggest(t *testing.T) {
	t.Parallel()
	names := keyNames(keys())
	for unknown, want := range map[string]string{
		"timeout_create": "timeoutCreate",
		"nameSpaces":     "namespace",
		"hostNames":      "hostnameList",
		"REPLICA":        "replicas",
		"x":              "",
		"":               "",
	} {
		if got := suggest(unknown, names); got != want {
			t.Errorf("suggest(%q) = %q, want %q", unknown, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for pair, want := range map[[2]string]int{
		{"", ""}: 0, {"", "abc"}: 3, {"abc", ""}: 3, {"kitten", "sitting"}: 3, {"same", "same"}: 0, {"ab", "ba"}: 2,
	} {
		if got := distance(pair[0], pair[1]); got != want {
			t.Errorf("distance%q = %d, want %d", pair, got, want)
		}
	}
}
