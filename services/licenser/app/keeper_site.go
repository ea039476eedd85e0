package app

import (
	"context"

	"berth/pkg/events"
	"berth/pkg/license/quota"
)

// legible warns of settings of the site that cannot be read: each counts as {}, and nobody would know. Each text is told once.
func (k *keeper) legible(ctx context.Context) error {
	settings, err := k.store.Settings(ctx)
	if err != nil {
		return err
	}
	for name, text := range settings {
		bad := 0.0
		if _, ok := quota.RelaxedObject(text); !ok {
			bad = 1
			if k.illegible[name] != text {
				k.log.Warn().Str("setting", name).Msg("A setting of the site cannot be read, also not as relaxed JSON, and counts as {}: mend it in server_settings")
			}
			k.illegible[name] = text
		} else {
			delete(k.illegible, name)
		}
		k.gauges.unreadable.WithLabelValues(name).Set(bad)
	}
	return nil
}

// countGivenUp tells how many projects are not started again.
func (k *keeper) countGivenUp(ctx context.Context) error {
	if !k.drives() {
		k.gauges.givenUp.Set(0) // The cluster that does tells.
		return nil
	}
	n, err := k.store.GivenUp(ctx, string(events.GaveUp))
	if err == nil {
		k.gauges.givenUp.Set(float64(n))
	}
	return err
}
