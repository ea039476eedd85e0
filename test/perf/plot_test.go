package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"gonum.org/v1/plot/plotter"
)

func TestShares(t *testing.T) {
	t.Parallel()
	if got := shares(nil); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
	want := plotter.XYs{{X: 1, Y: 0}, {X: 2, Y: 49.75}, {X: 3, Y: 99.5}}
	if diff := cmp.Diff(want, shares([]float64{1, 2, 3})); diff != "" {
		t.Errorf("of three (-want +got):\n%s", diff)
	}
	var many []float64
	for i := range 10 * mostPoints {
		many = append(many, float64(i))
	}
	got := shares(many)
	if n := len(got); n != mostPoints {
		t.Errorf("%d points, want %d", n, mostPoints)
	}
	for i := 1; i < len(got); i++ {
		if got[i].X < got[i-1].X || got[i].Y <= got[i-1].Y {
			t.Fatalf("the curve falls at %d: %v, %v", i, got[i-1], got[i])
		}
	}
}

func TestRoundTicks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		high float64
		want []string
	}{
		{100, []string{"0", "20", "40", "60", "80", "100"}},
		{1487, []string{"0", "500", "1000"}},
		{1250, []string{"0", "250", "500", "750", "1000", "1250"}},
		{41, []string{"0", "10", "20", "30", "40"}},
		{51, []string{"0", "20", "40"}},
		{59.9, []string{"0", "20", "40"}},
		{0.7, []string{"0", "0.2", "0.4", "0.6"}},
	} {
		var got []string
		for _, tick := range roundTicks(0, tc.high) {
			got = append(got, tick.Label)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("up to %v (-want +got):\n%s", tc.high, diff)
		}
	}
}
