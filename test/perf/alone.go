package main

import (
	"context"
	"fmt"
)

// alone is what a user costs who has the cluster to himself.
type alone struct {
	Lives int        `json:"lives"`
	Floor aloneTimes `json:"floor"`
	Berth aloneTimes `json:"berth"`
	// ReadyOver and GoneOver are Berth's medians less the floor's.
	ReadyOver float64 `json:"ready_over_floor_ms"`
	GoneOver  float64 `json:"gone_over_floor_ms"`
}

// aloneTimes are as in a round.
type aloneTimes struct {
	Ready quantiles `json:"ready_ms"`
	Gone  quantiles `json:"gone_ms"`

	samples samples
}

// measureAlone takes pods through their lives one after the other, each time
// first the floor's, then Berth's.
func measureAlone(ctx context.Context, l lab, r *report) error {
	return l.withSite(ctx, func(ctx context.Context, s *site) error {
		floor, berth, err := s.sides(ctx, 1)
		if err != nil {
			return err
		}
		defer berth.close()
		end, err := floor.open(ctx)
		if err != nil {
			return err
		}
		defer end()
		var ofFloor, ofBerth times
		for n := 0; n <= l.plan.Lives; n++ {
			if n == 1 {
				ofFloor, ofBerth = times{}, times{} // The first of each is not measured.
			}
			for _, one := range []struct {
				side  side
				times *times
			}{{floor, &ofFloor}, {berth, &ofBerth}} {
				if err := one.side.life(ctx, userID(n+1), one.times); err != nil {
					return fmt.Errorf("life %d: %w", n, err)
				}
			}
		}
		got := &alone{Lives: l.plan.Lives, Floor: ofFloor.alone(), Berth: ofBerth.alone()}
		got.ReadyOver, got.GoneOver = got.Berth.Ready.P50-got.Floor.Ready.P50, got.Berth.Gone.P50-got.Floor.Gone.P50
		r.Alone = got
		l.say("alone: ready %.1f ms and gone %.1f ms over the floor", got.ReadyOver, got.GoneOver)
		return nil
	})
}

func (t *times) alone() aloneTimes {
	return aloneTimes{Ready: t.ready.quantiles(), Gone: t.gone.quantiles(), samples: t.samples()}
}
