package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"berth/pkg/events"
)

// started is what the start of an api costs.
type started struct {
	Pods int `json:"pods"`
	// Empty is with no pod in the log, Full with all.
	Empty starting `json:"empty"`
	Full  starting `json:"full"`
}

// starting has the medians of several starts.
type starting struct {
	// Ready is from the start of the process until it says that it is ready.
	Ready float64 `json:"ready_ms"`
	// RSS is what the process has in memory then, Peak the most that it had, in MB.
	RSS  float64 `json:"rss_mb"`
	Peak float64 `json:"peak_rss_mb"`
	CPU  float64 `json:"cpu_ms"`
}

// starts is how often each is measured.
const starts = 5

// measureStart starts an api on a log without pods, and on one with many.
func measureStart(ctx context.Context, l lab, r *report) error {
	path, err := buildAPI(ctx, l.plan.Dir)
	if err != nil {
		return err
	}
	got := &started{Pods: l.plan.Logged}
	for _, one := range []struct {
		pods int
		to   *starting
	}{{0, &got.Empty}, {l.plan.Logged, &got.Full}} {
		own := l
		if own.plan.Dir, err = os.MkdirTemp(l.plan.Dir, "log-"); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		err := own.withLog(ctx, one.pods, events.Ready, func(ctx context.Context, s *logServer) (err error) {
			*one.to, err = startSeveral(ctx, path, s)
			return err
		})
		if err != nil {
			return err
		}
		l.say("start: %d pods: ready after %.0f ms, %.0f MB", one.pods, one.to.Ready, one.to.RSS)
	}
	r.Start = got
	return nil
}

func startSeveral(ctx context.Context, path string, s *logServer) (starting, error) {
	var all []starting
	for range starts {
		a, err := startAPI(ctx, path, s.server.ClientURL(), 1)
		if err != nil {
			return starting{}, err
		}
		u, err := a.used()
		all = append(all, starting{Ready: milliseconds(a.tookReady), RSS: u.rss, Peak: u.peak, CPU: milliseconds(u.cpu)})
		if errStop := a.stop(); errStop != nil || err != nil {
			return starting{}, errors.Join(err, errStop)
		}
	}
	of := func(figure func(starting) float64) float64 {
		var values []float64
		for _, one := range all {
			values = append(values, figure(one))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return starting{
		Ready: of(func(s starting) float64 { return s.Ready }), RSS: of(func(s starting) float64 { return s.RSS }),
		Peak: of(func(s starting) float64 { return s.Peak }), CPU: of(func(s starting) float64 { return s.CPU }),
	}, nil
}
