package app

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"berth/pkg/events/natsbus"
	"berth/services/watcher/internal/diff"
)

// The times at which the bucket of the tokens is looked after.
const (
	bucketEvery = time.Second
	// bucketAge is after how many of these it is asked whether it is still the same.
	bucketAge = 5
)

// bucket sees to it that the tokens of ready pods are in their bucket: what was copied
// is lost with it, and has to be copied again.
type bucket struct {
	bus   *natsbus.Bus
	table *natsbus.Table
	log   zerolog.Logger
	// due is set when pods were taken in whose tokens may not be there.
	due atomic.Bool
}

// run looks after the bucket until ctx ends.
func (b *bucket) run(ctx context.Context) error {
	tick := time.NewTicker(bucketEvery)
	defer tick.Stop()
	var known time.Time
	for n := 0; ; n++ {
		// Before the log has been read, there is nobody to copy for.
		if b.table.Loaded() == nil {
			if due := b.due.Swap(false); due || n%bucketAge == 0 {
				created, err := b.look(ctx, known, due)
				switch {
				case err == nil:
					known = created
				case ctx.Err() == nil:
					b.log.Warn().Err(err).Msg("Cannot look after the tokens of the pods; trying again")
					b.due.Store(true)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look asks for the tokens that are missing, where the bucket is another than the one
// that was known or it is due, and returns when the bucket was made.
func (b *bucket) look(ctx context.Context, known time.Time, due bool) (time.Time, error) {
	created, err := b.bus.TokensCreated(ctx)
	if err != nil || !due && created.Equal(known) {
		return created, err
	}
	lives, err := b.bus.TokenLives(ctx)
	if err != nil {
		return time.Time{}, err
	}
	asked := 0
	for _, e := range b.table.Pods() {
		if !diff.Copied(e.Record) || lives[natsbus.TokenLife{Pod: e.Pod, Generation: e.Generation}] {
			continue
		}
		if err := b.bus.AskFinish(ctx, e, strconv.FormatInt(created.UnixNano(), 10)); err != nil {
			return time.Time{}, err
		}
		asked++
	}
	if asked > 0 {
		b.log.Info().Int("pods", asked).Msg("The tokens of pods are missing; having them copied again")
	}
	return created, nil
}
