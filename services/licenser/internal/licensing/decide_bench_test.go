package licensing_test

import (
	"testing"

	"berth/services/licenser/internal/licensing"
)

// BenchmarkDecide is what a start computes while it holds the rows of its licenses.
func BenchmarkDecide(b *testing.B) {
	in := input(
		patching(first, `[{"op":"add","path":"/metadata/labels/mylabel","value":"test123"}]`),
		row(second, `{"cpu":1,"ram":3,"ext_rw":true,"always_running":true}`))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := licensing.Decide(in); err != nil {
			b.Fatal(err)
		}
	}
}
