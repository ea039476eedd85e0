package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"berth/pkg/events"
	"berth/pkg/events/natsbus"
	"berth/services/creator/internal/cluster"
)

const (
	// tokenPatience is how long a token may take to appear after its pod is ready, which
	// is when its command is queued. What is not there in a look after that did not appear in
	// time, however late that look is.
	tokenPatience = 10 * time.Second
	// leastLooks is how often a pod is looked at before tokens are given up, since a look
	// may fail for a reason that passes; the pauses between them are some seconds. With
	// mostLooks, less than the attempts of the stage, they are given up in any case: the
	// clocks of this machine and of the broker do not agree.
	leastLooks, mostLooks = 5, 48
	// readPatience bounds one look at one file, which may be one that never ends, and the
	// time in which the looks at the files of a pod begin.
	readPatience = 3 * time.Second
	// hangsBorne is how many looks at a file may come to no end.
	hangsBorne = 2
	// The pauses between two looks, in which others have the place.
	firstLook, mostLook = 200 * time.Millisecond, time.Second
	// readsAtOnce is how many files of a pod are read at once.
	readsAtOnce = 4

	// finishTime is the time of one attempt: two times the patience with a file, and
	// something to spare.
	finishTime = 20 * time.Second
	// finishPlaces is how many pods are looked into at once.
	finishPlaces = 128

	// maxTokens bounds what is kept for a pod, in bytes of JSON: it is one message of the
	// broker.
	maxTokens = 512 << 10
	// maxCause bounds what a warning quotes of a fault, in bytes.
	maxCause = 200
)

// tokenFolder is where the pods put their tokens.
const tokenFolder = "/tmp/"

// files reads files out of containers; see package cluster.
type files interface {
	Read(ctx context.Context, pod, container, path string, limit int) ([]byte, error)
}

var (
	// errDraining is returned for a command that is left to another replica.
	errDraining = errors.New("the service stops; another replica copies the tokens")
	// errMissing is returned for a command that comes back to look again.
	errMissing = errors.New("some tokens have not appeared yet")
	// errHangs is why a file that hangs is not asked for any more.
	errHangs = errors.New("the container did not answer in time")
)

// givenUp says whether the time for the tokens of a pod is over.
func givenUp(d natsbus.Delivery, patience time.Duration, now time.Time) bool {
	return d.Attempt >= leastLooks && now.Sub(d.Queued) >= patience || d.Attempt >= mostLooks
}

// lookDelay is the pause after a look, counted from 1.
func lookDelay(attempt uint64) time.Duration { return growing(firstLook, mostLook, attempt) }

// finish copies the tokens out of a pod that is ready in Kubernetes, and says so, by
// which the pod becomes ready. It gives up tokens that do not appear: a pod without
// them is better than none.
//
// A pod whose tokens were copied before is asked for them again: whoever sends
// its command has found that they are not kept any more.
func (c *creator) finish(ctx context.Context, d natsbus.Delivery) error {
	entry, err := c.bus.Last(ctx, d.Pod)
	if err != nil || !wantsTokens(entry, d) {
		return err
	}
	tokens, warnings, err := c.kept(ctx, d, entry)
	if err != nil {
		return err
	}
	if tokens == nil {
		tokens, warnings, err = c.copyTokens(ctx, d, entry)
		if err != nil || tokens == nil {
			return err
		}
		// The name may have gone to another life, another user's even, while the files
		// were read: then they are that one's.
		if entry, err = c.bus.Last(ctx, d.Pod); err != nil || !wantsTokens(entry, d) {
			return err
		}
		if err := c.bus.PutTokens(ctx, d.Pod, d.Generation, tokens); err != nil {
			return err
		}
	}
	return c.finished(ctx, d, entry, warnings)
}

// wantsTokens says whether a command is about a pod that lives and has tokens.
func wantsTokens(entry natsbus.Entry, d natsbus.Delivery) bool {
	return entry.Generation == d.Generation && len(entry.TokenKeys) > 0 && !entry.LaunchedAt.IsZero() &&
		!entry.Event.Over() && entry.Event != events.Ended
}

// kept returns what an earlier attempt has copied, nil if none has; the warnings are
// about what it has not.
func (c *creator) kept(ctx context.Context, d natsbus.Delivery, entry natsbus.Entry) (tokens map[string]string, warnings []string, err error) {
	if d.Attempt == 1 && entry.NeedsTokens() {
		return nil, nil, nil // Nobody has tried.
	}
	tokens, known, err := c.bus.Tokens(ctx, d.Pod, d.Generation)
	if err != nil || !known {
		return nil, nil, err
	}
	for _, key := range entry.TokenKeys {
		if _, ok := tokens[key]; !ok {
			warnings = append(warnings, "token "+key+" did not appear")
		}
	}
	if tokens == nil {
		tokens = map[string]string{}
	}
	return tokens, warnings, nil
}

// finished says that the tokens are copied or given up.
func (c *creator) finished(ctx context.Context, d natsbus.Delivery, entry natsbus.Entry, warnings []string) error {
	if !entry.TokensAt.IsZero() {
		return nil
	}
	_, _, err := c.bus.AppendAfter(ctx, entry, d.Pod, events.Fact{
		Kind: events.FactFinish, Generation: d.Generation, At: time.Now().UTC(), Warnings: warnings,
	})
	switch {
	case errors.Is(err, events.ErrOver), errors.Is(err, events.ErrGeneration):
		// The deleter may have removed what was kept, before it was put there.
		return c.bus.PutTokens(ctx, d.Pod, d.Generation, map[string]string{})
	case errors.Is(err, events.ErrOrder):
		return nil
	}
	return err
}

// failFinish gives up all tokens of a pod.
func (c *creator) failFinish(ctx context.Context, d natsbus.Delivery, _ events.Reason, message string) error {
	entry, err := c.bus.Last(ctx, d.Pod)
	if err != nil || !wantsTokens(entry, d) {
		return err
	}
	return c.finished(ctx, d, entry, []string{"tokens could not be copied: " + clipCause(message)})
}

// copyTokens looks once for the tokens of a pod, those that it has not found before,
// and says of those that are given up why. It returns nil for a pod that is no more,
// which the watcher makes known; the error is one after which the command is to be
// tried again, [errMissing] where only time is missing. In between somebody else has its
// place: a pod whose tokens never appear holds none.
func (c *creator) copyTokens(ctx context.Context, d natsbus.Delivery, entry natsbus.Entry) (map[string]string, []string, error) {
	life := entry.Pod + "/" + entry.Generation
	h := c.hunts.take(life)
	missing := slices.DeleteFunc(slices.Clone(entry.TokenKeys), h.settled)
	// Files that hang come last: they are not to keep the others from being read.
	slices.SortStableFunc(missing, func(a, b string) int { return cmp.Compare(h.hangs[a], h.hangs[b]) })
	drained := c.lookFor(ctx, entry, missing, h)
	switch missing = slices.DeleteFunc(missing, h.settled); {
	case h.gone:
		return nil, nil, nil
	case len(missing) == 0:
		return c.collect(ctx, entry, h)
	case drained:
		return nil, nil, natsbus.Again(0, errDraining)
	}
	unknown := h.unknown
	h.unknown = nil
	switch {
	case ctx.Err() != nil:
		c.hunts.keep(life, h, time.Now())
		return nil, nil, fmt.Errorf("look for tokens: %w", context.Cause(ctx))
	case unknown != nil:
		c.hunts.keep(life, h, time.Now())
		return nil, nil, unknown
	case givenUp(d, c.tokenPatience, time.Now()):
		return c.collect(ctx, entry, h)
	}
	c.hunts.keep(life, h, time.Now())
	return nil, nil, natsbus.Again(lookDelay(d.Attempt), errMissing)
}

// lookFor looks once for each of some tokens. It returns true, soon, where the service
// stops before it is through.
func (c *creator) lookFor(ctx context.Context, entry natsbus.Entry, keys []string, h *hunt) (drained bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-c.draining:
			cancel(errDraining)
		case <-ctx.Done():
		}
	}()
	begun := time.Now()
	var group sync.WaitGroup
	places := make(chan struct{}, readsAtOnce)
	for _, key := range keys {
		places <- struct{}{}
		if ctx.Err() != nil || time.Since(begun) >= readPatience {
			break
		}
		group.Go(func() {
			defer func() { <-places }()
			ctx, cancel := context.WithTimeoutCause(ctx, readPatience, errHangs)
			defer cancel()
			content, err := c.files.Read(ctx, entry.Pod, entry.Container, tokenFolder+key, c.config.TokenByteLimit)
			if err != nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			h.note(key, content, err)
		})
	}
	group.Wait()
	drained = errors.Is(context.Cause(ctx), errDraining)
	cancel(nil)
	<-stopped
	return drained
}

func (h *hunt) note(key string, content []byte, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.found[key] = string(content)
	case errors.Is(err, cluster.ErrUnreachable):
		h.unknown = err
	case errors.Is(err, cluster.ErrNoPod):
		h.gone = true
	case errors.Is(err, errDraining):
	case errors.Is(err, errHangs):
		h.hangs[key]++
		fallthrough
	default:
		h.faults[key] = err
	}
}

// collect returns the tokens that were found, as many as are kept for a pod, and
// warnings about the others.
func (c *creator) collect(ctx context.Context, entry natsbus.Entry, h *hunt) (map[string]string, []string, error) {
	tokens, size := map[string]string{}, 0
	var warnings []string
	for _, key := range entry.TokenKeys {
		content, found := h.found[key]
		if !found {
			warnings = append(warnings, missed(ctx, entry, key, h.faults[key]))
			continue
		}
		text, err := json.Marshal(content)
		if err != nil {
			return nil, nil, fmt.Errorf("marshal token %s: %w", key, events.ErrMalformed) // Not err: it may quote.
		}
		if size += len(text); size > maxTokens {
			size -= len(text)
			warnings = append(warnings, fmt.Sprintf("token %s is left out: the tokens of a pod may have %d bytes in all", key, maxTokens))
			continue
		}
		tokens[key] = content
	}
	return tokens, warnings, nil
}

// missed says why there is no token.
func missed(ctx context.Context, entry natsbus.Entry, key string, err error) string {
	if err == nil || errors.Is(err, cluster.ErrNoFile) {
		return "token " + key + " did not appear"
	}
	zerolog.Ctx(ctx).Warn().Err(err).Str("pod_name", entry.Pod).Str("generation", entry.Generation).Str("key", key).Msg("Cannot read a token")
	return "token " + key + " could not be read: " + clipCause(err.Error())
}

// clipCause shortens a fault for a warning, to its first line at most.
func clipCause(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	if len(text) > maxCause {
		text = text[:maxCause] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}
