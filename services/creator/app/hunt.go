package app

import (
	"errors"
	"sync"
	"time"

	"berth/services/creator/internal/cluster"
)

// hunt is what is known about the tokens of a life of a pod.
type hunt struct {
	mu      sync.Mutex
	found   map[string]string
	faults  map[string]error // Why a token was not found the last time.
	hangs   map[string]int   // How many looks came to no end.
	unknown error            // Nothing can be found out at present.
	gone    bool             // There is no pod any more.
}

func newHunt() *hunt {
	return &hunt{found: map[string]string{}, faults: map[string]error{}, hangs: map[string]int{}}
}

// settled says that there is no use in looking for a token again.
func (h *hunt) settled(key string) bool {
	_, found := h.found[key]
	return found || errors.Is(h.faults[key], cluster.ErrForbidden) || h.hangs[key] >= hangsBorne
}

// size is how much memory a hunt takes, about, in bytes. It is 0 where the next look
// loses nothing without it.
func (h *hunt) size() int {
	size, learned := 0, len(h.found) > 0
	for key, content := range h.found {
		size += len(key) + len(content)
	}
	for key, err := range h.faults {
		learned = learned || h.hangs[key] > 0 || h.settled(key)
		size += len(key) + len(err.Error())
	}
	if !learned {
		return 0
	}
	return size
}

// Bounds of what is remembered between two looks.
const (
	huntsKept  = 30 * time.Second
	huntsBytes = 16 << 20
	huntsSwept = time.Second // How often the old ones are looked for.
)

// hunts remembers what was found of the tokens of pods until the next look at them, so
// that what is there is read once. It is a help, no store: another replica, or this
// one where memory runs short, reads again. It is safe for concurrent use.
type hunts struct {
	mu    sync.Mutex
	lives map[string]keptHunt
	bytes int
	swept time.Time
}

type keptHunt struct {
	hunt *hunt
	size int
	at   time.Time
}

// take returns the hunt of a life, which is forgotten, or a new one. Nobody else gets it
// until it is kept again.
func (s *hunts) take(life string) *hunt {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, ok := s.lives[life]
	if !ok {
		return newHunt()
	}
	s.forget(life)
	return kept.hunt
}

// keep remembers a hunt of a life, whose owner must not use it any more, and forgets
// those whose commands have not come back.
func (s *hunts) keep(life string, h *hunt, now time.Time) {
	size := h.size()
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) > huntsSwept {
		s.swept = now
		for other, kept := range s.lives {
			if now.Sub(kept.at) > huntsKept {
				s.forget(other)
			}
		}
	}
	s.forget(life) // A second attempt of the same command may be under way.
	if size == 0 || s.bytes+size > huntsBytes {
		return
	}
	if s.lives == nil {
		s.lives = map[string]keptHunt{}
	}
	s.lives[life] = keptHunt{h, size, now}
	s.bytes += size
}

// forget is called under the lock.
func (s *hunts) forget(life string) {
	s.bytes -= s.lives[life].size
	delete(s.lives, life)
}
