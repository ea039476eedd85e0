package v1

import (
	"encoding/json"
	"errors"
	"sync"

	"berth/pkg/events"
)

// maxQueued is how many records may wait for a reader of a stream. One that is
// further behind is cut; it comes again with the position that it has got to.
const maxQueued = 1024

var (
	// errSlow ends a stream whose reader does not keep up.
	errSlow = errors.New("the reader is too slow")
	// errGap says that records may have been missed, which the log still has.
	errGap = errors.New("the log is read again")
)

// Epoch says which reading of the log a record is from: when the log was made, and
// how often it has been read.
type Epoch struct {
	Created int64
	Loads   uint64
}

// Hub hands the records of the log on to all streams of a replica. It is fed by
// the replica's one reader of the log, so that streams cost no consumers; what a stream
// has missed it reads from the log itself. It is safe for concurrent use, and its
// zero value is ready.
type Hub struct {
	mu sync.Mutex
	// told is the last record that was handed on, epoch the one that it was of.
	told  events.Position
	epoch Epoch
	// all are the streams of no user in particular, byUser the others.
	all    map[*subscription]struct{}
	byUser map[string]map[*subscription]struct{}
}

// news is a record on its way to many streams, which is written once for all of them.
type news struct {
	Entry
	write func(domain string) []byte
}

func newsOf(e Entry) *news {
	var once sync.Once
	var data []byte
	return &news{Entry: e, write: func(domain string) []byte {
		once.Do(func() { data = dataOf(e, domain) })
		return data
	}}
}

// dataOf is the data of the event of a record.
func dataOf(e Entry, domain string) []byte {
	data, err := json.Marshal(podOf(e, domain))
	if err != nil {
		return []byte("{}") // A pod always marshals.
	}
	return data
}

// Tell hands a record on. It is called in the order of the log, and does not
// block. While epoch is the same, no record is left out between two calls. A stream that began
// in another is told to read from the log what it may have missed, when the first
// record comes that it wants: of each pod of which something was left out, one does.
func (h *Hub) Tell(epoch Epoch, e Entry) {
	n := newsOf(e)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told, h.epoch = e.Position, epoch
	for s := range h.all {
		s.offer(epoch, n)
	}
	for s := range h.byUser[e.User] {
		s.offer(epoch, n)
	}
}

// reached is the last record that was handed on in an epoch, the zero position where
// that is over or there is none: what a stream of that epoch wants of what came before is
// in its queue.
func (h *Hub) reached(epoch Epoch) events.Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.epoch != epoch {
		return events.Position{}
	}
	return h.told
}

// subscription is what one stream gets from the hub.
type subscription struct {
	epoch Epoch
	// from is the last record that was handed on before the subscription began.
	from  events.Position
	wants func(Entry) bool
	// wake is readable when there may be something in the queue.
	wake chan struct{}

	mu    sync.Mutex
	queue []*news
	err   error
}

// subscribe begins to collect the records that a stream wants, from an epoch on that
// was true just before: of one user, or of any where user is empty. wants must not
// block. The caller calls the function returned when it is done.
func (h *Hub) subscribe(epoch Epoch, user string, wants func(Entry) bool) (*subscription, func()) {
	s := &subscription{epoch: epoch, wants: wants, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.from = h.told
	if user == "" {
		if h.all == nil {
			h.all = map[*subscription]struct{}{}
		}
		h.all[s] = struct{}{}
	} else {
		if h.byUser == nil {
			h.byUser = map[string]map[*subscription]struct{}{}
		}
		if h.byUser[user] == nil {
			h.byUser[user] = map[*subscription]struct{}{}
		}
		h.byUser[user][s] = struct{}{}
	}
	return s, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.all, s)
		if delete(h.byUser[user], s); len(h.byUser[user]) == 0 {
			delete(h.byUser, user)
		}
	}
}

// offer puts news into the queue, if they are wanted.
func (s *subscription) offer(epoch Epoch, n *news) {
	if !s.wants(n.Entry) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
	case s.epoch != epoch:
		s.err = errGap
	case len(s.queue) >= maxQueued:
		s.err, s.queue = errSlow, nil
	default:
		s.queue = append(s.queue, n)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns what has come since the last call. It returns errSlow or errGap
// when nothing more comes; what came before a gap is returned first.
func (s *subscription) take() ([]*news, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := s.queue
	s.queue = nil
	if len(queue) > 0 {
		return queue, nil
	}
	return nil, s.err
}
