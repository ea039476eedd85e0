package app

import (
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
	// tokenPatience is how long a token may take to appear after its pod is ready.
	tokenPatience = 10 * time.Second
	// retryPatience is what is left of it at least for a command that is delivered again.
	retryPatience = time.Second
	// readPatience bounds one look at one file, which may be one that never ends.
	readPatience = 3 * time.Second
	// The pauses between two looks.
	firstLook, mostLook = 200 * time.Millisecond, time.Second
	// readsAtOnce is how many files of a pod are read at once.
	readsAtOnce = 4

	// finishTime is the time of one attempt: the patience, and something to spare.
	finishTime = 20 * time.Second
	// finishPlaces is how many pods wait for their tokens at once.
	finishPlaces = 64

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

// errDraining is returned for a command that is left to another replica.
var errDraining = errors.New("the service stops; another replica copies the tokens")

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

// copyTokens reads the tokens of a pod, and says of those that it has not why. It
// looks until all are there, or its time is over. It returns nil for a pod that is
// no more, which the watcher makes known; the error is one after which the command
// is to be tried again.
func (c *creator) copyTokens(ctx context.Context, d natsbus.Delivery, entry natsbus.Entry) (map[string]string, []string, error) {
	patience := c.tokenPatience
	if d.Attempt > 1 {
		patience = max(retryPatience, min(patience, patience-time.Since(d.Queued)))
	}
	over := time.NewTimer(patience)
	defer over.Stop()
	hunt := &hunt{found: map[string]string{}, faults: map[string]error{}}
	for pause := firstLook; ; pause = min(2*pause, mostLook) {
		missing := slices.DeleteFunc(slices.Clone(entry.TokenKeys), hunt.settled)
		c.lookFor(ctx, entry, missing, hunt)
		switch missing = slices.DeleteFunc(missing, hunt.settled); {
		case hunt.gone:
			return nil, nil, nil
		case hunt.unknown != nil:
			return nil, nil, hunt.unknown
		case len(missing) == 0:
			return c.collect(ctx, entry, hunt)
		}
		next := time.NewTimer(pause)
		select {
		case <-next.C:
			continue
		case <-over.C:
			next.Stop()
			return c.collect(ctx, entry, hunt)
		case <-c.draining:
			next.Stop()
			return nil, nil, natsbus.Again(0, errDraining)
		case <-ctx.Done():
			next.Stop()
			return nil, nil, fmt.Errorf("wait for tokens: %w", context.Cause(ctx))
		}
	}
}

// hunt is what is known about the tokens of a pod.
type hunt struct {
	mu      sync.Mutex
	found   map[string]string
	faults  map[string]error // Why a token was not found the last time.
	unknown error            // Nothing can be found out at present.
	gone    bool             // There is no pod any more.
}

// settled says that there is no use in looking for a token again.
func (h *hunt) settled(key string) bool {
	_, found := h.found[key]
	return found || errors.Is(h.faults[key], cluster.ErrForbidden)
}

// lookFor looks once for each of some tokens.
func (c *creator) lookFor(ctx context.Context, entry natsbus.Entry, keys []string, h *hunt) {
	var group sync.WaitGroup
	defer group.Wait()
	places := make(chan struct{}, readsAtOnce)
	for _, key := range keys {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			ctx, cancel := context.WithTimeoutCause(ctx, readPatience, errors.New("the container did not answer in time"))
			defer cancel()
			content, err := c.files.Read(ctx, entry.Pod, entry.Container, tokenFolder+key, c.config.TokenByteLimit)
			if err != nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			h.note(key, content, err)
		})
	}
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
