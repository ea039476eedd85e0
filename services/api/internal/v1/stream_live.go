package v1

import (
	"context"
	"errors"
	"fmt"
	"time"

	"berth/pkg/events"
	"berth/services/api/internal/access"
)

// renew asks the guard again who is streamed to, and returns a channel that is closed when it is to be asked
// next. It returns errGap where the caller may name other users now: the stream begins again with what those
// have, and its client forgets the others.
func (s *stream) renew() (<-chan struct{}, error) {
	caller, changed, err := s.h.Guard.Renew(s.r)
	switch {
	case err != nil:
		return nil, fmt.Errorf("renew stream: %w", err)
	case caller.Silo.Name != s.caller.Silo.Name:
		return nil, errCaller
	case !caller.SameUsers(s.caller):
		s.renewed = &caller
		return nil, errGap
	}
	return changed, nil
}

// renewIf is renew where the channel is closed, else it returns the channel.
func (s *stream) renewIf(changed <-chan struct{}) (<-chan struct{}, error) {
	select {
	case <-changed:
		return s.renew()
	default:
		return changed, nil
	}
}

// restart makes the stream begin again for a caller who may name other users.
func (s *stream) restart(caller access.Caller) {
	s.caller, s.renewed, s.foreign = caller, nil, s.scope.User != "" && !caller.MayName(s.scope.User)
	s.last, s.why = events.Position{}, "the users that you may name have changed"
}

// errCaller ends a stream whose caller is another silo by now.
var errCaller = errors.New("the caller is another silo by now")

// live sends what happens.
func (s *stream) live(ctx context.Context, sub *subscription) error {
	// There may have been a reload since the request was admitted.
	changed, err := s.renew()
	if err != nil {
		return err
	}
	tick := time.NewTicker(s.h.heartbeat())
	defer tick.Stop()
	var reached events.Position // Up to where the hub had told everything at the last tick.
	for {
		queue, err := sub.take()
		if err == nil {
			// What came after a reload is not sent to whom it is not for any more.
			changed, err = s.renewIf(changed)
		}
		if err == nil {
			err = s.send(queue)
		}
		if err != nil {
			return err
		}
		// Only with nothing in the queue, nor a gap, has everything before been sent.
		if len(queue) == 0 && reached.Created == s.last.Created && !s.known(reached) {
			if err := s.synced(reached); err != nil {
				return err
			}
		}
		reached = events.Position{}
		if err := s.flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-sub.wake:
		case <-changed:
		case <-tick.C:
			if changed, err = s.beat(); err != nil {
				return err
			}
			// A client of whose pods nothing is heard for long resumes where the log is
			// now, not where it was when something happened last.
			reached = s.h.Hub.reached(sub.epoch)
		}
	}
}

// send puts what has come into the buffer, and sends that when it is large.
func (s *stream) send(queue []*news) error {
	for _, n := range queue {
		if s.known(n.Position) {
			continue
		}
		if s.last = n.Position; s.ahead[n.Pod] >= n.Position.Sequence {
			continue
		}
		s.event("pod", n.Position, n.write(s.h.IngressDomain))
		if err := s.spill(); err != nil {
			return err
		}
	}
	return nil
}

// beat puts into the buffer that the stream is alive, if it may be. It returns what renew does.
func (s *stream) beat() (changed <-chan struct{}, err error) {
	if changed, err = s.renew(); err != nil {
		return nil, err
	}
	// A log that cannot be trusted has no news; another replica may know more.
	if err := s.h.State.Ready(); err != nil {
		return nil, err
	}
	if s.h.State.Epoch().Created != s.last.Created {
		return nil, errGap
	}
	s.out = append(s.out, ": still here\n\n"...)
	return changed, nil
}

// known says that everything up to a position has been sent.
func (s *stream) known(p events.Position) bool {
	return p.Created == s.last.Created && p.Sequence <= s.last.Sequence
}
