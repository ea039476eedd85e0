package v1

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReservations: what is written of a key in the log is read as it was, and nothing else is.
func TestReservations(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("0", 64)
	for name, want := range map[string]Reservation{
		"of a command":            {Body: sum, Command: "c"},
		"of a license and its id": {Body: sum, Command: exampleID, Request: "r"},
	} {
		if got, ok := ParseReservation(want.String()); !ok || !cmp.Equal(want, got) {
			t.Errorf("%s: %q is read as %+v, %t", name, want, got, ok)
		}
	}
	for _, text := range []string{"", sum, sum + " ", sum + "  r", "0 c", sum + " c r ", sum + " c r s"} {
		if got, ok := ParseReservation(text); ok {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}
