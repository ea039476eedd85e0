package service

import (
	"strings"
	"sync"

	"github.com/rs/zerolog"

	"berth/pkg/service/config"
)

// Reloads hands new configurations to the parts of a process that can take one over while they run. All
// methods may be called concurrently, and on a nil *Reloads, which never has any news.
type Reloads struct {
	mu      sync.Mutex
	current config.Config
	changed bool // There has been a reload.
	next    int
	takers  map[int]func(config.Config)
}

// NewReloads returns the reloads of a process that runs with a configuration.
func NewReloads(current config.Config) *Reloads {
	return &Reloads{current: current, takers: map[int]func(config.Config){}}
}

// Subscribe calls take with each configuration that is reloaded, also one that has not changed: files that it
// names may have. If there was a reload already, take is called at once. Calls come one after another; take must not
// call back, and logs what goes wrong itself. It is called until cancel has returned.
func (r *Reloads) Subscribe(take func(config.Config)) (cancel func()) {
	if r == nil {
		return func() {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.next
	r.next++
	r.takers[id] = take
	if r.changed {
		take(r.current)
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.takers, id)
	}
}

// Reload calls load, which is [config.Load] or uses it, and hands on what it returns. All faults of a
// configuration, and those that [config.CheckReload] finds, are logged and the one before stays. Keys that have changed and that no running service
// takes over are named in the log; they need a restart.
func (r *Reloads) Reload(load func() (config.Config, []config.Notice, error), log zerolog.Logger) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	settings, notices, err := load()
	if err == nil {
		if faults := config.CheckReload(r.current, settings); len(faults) > 0 {
			err = faults
		}
	}
	if err != nil {
		log.Error().Strs("faults", strings.Split(err.Error(), "\n")).Msg("Configuration not reloaded: it has faults, and the one before stays")
		return
	}
	logNotices(log, notices)
	if keys := config.RestartKeys(r.current, settings); len(keys) > 0 {
		log.Warn().Strs("keys", keys).Msg("Configuration changes that need a restart")
	}
	r.current, r.changed = settings, true
	for _, take := range r.takers {
		take(settings)
	}
	log.Info().Msg("Configuration reloaded")
}

func logNotices(log zerolog.Logger, notices []config.Notice) {
	for _, notice := range notices {
		log.Warn().Str("file", notice.File).Int("line", notice.Line).Str("key", notice.Path).Str("notice", notice.Message).
			Msg("Configuration noticed")
	}
}
