package silo

import "testing"

// TestHostOfAWebPage: a page whose name points to this machine is no silo.
func TestHostOfAWebPage(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "localhost:8080": true, "127.0.0.1:8080": true, "[::1]:8080": true, "::1": true,
		"evil.example:8080": false, "evil.example": false, "": false, "localhost.evil.example": false,
	} {
		if got := localHost(host); got != want {
			t.Errorf("localHost(%q) = %t, want %t", host, got, want)
		}
	}
}
