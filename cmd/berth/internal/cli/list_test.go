package cli

import "testing"

func TestAge(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"0:0:0": "", "0:0:11": "11s", "0:3:4": "3m04s", "2:3:4": "2h03m", "100:0:0": "4d4h",
		"": "", "yesterday": "yesterday", "1:2": "1:2", "0:-1:0": "0:-1:0", "a:b:c": "a:b:c",
	}
	for text, want := range tests {
		if got := age(text); got != want {
			t.Errorf("age(%q) = %q, want %q", text, got, want)
		}
	}
}
