package track_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"berth/cmd/berth/internal/progress"
	"berth/cmd/berth/internal/silo"
	"berth/cmd/berth/internal/track"
	"berth/pkg/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// step is what the service knows from a time on.
type step struct {
	from  time.Duration
	event events.Type // Empty means that the pod is not listed.
	cause events.Reason
}

// answer is what a long poll says at a time.
type answer struct {
	at  time.Duration
	yes bool
	err error
}

// service plays the api, and the log.
type service struct {
	began   time.Time
	steps   []step
	answers []answer
	// logged is what the log tells, nil for no log; logFails is how following ends.
	logged   []step
	logFails error

	// asked is how many long polls there were, one after the other.
	asked int
}

func (s *service) Pod(context.Context, string, string) (silo.Pod, bool, error) {
	var now step
	for _, st := range s.steps {
		if time.Since(s.began) >= st.from {
			now = st
		}
	}
	return silo.Pod{Name: "n", Event: now.event, Reason: now.cause}, now.event != "", nil
}

func (s *service) WatchCreate(ctx context.Context, _, _ string) (bool, error) {
	s.asked++
	if s.asked > len(s.answers) {
		<-ctx.Done()
		return false, &silo.Error{Err: context.Cause(ctx)}
	}
	a := s.answers[s.asked-1]
	select {
	case <-time.After(time.Until(s.began.Add(a.at))):
		return a.yes, a.err
	case <-ctx.Done():
		return false, &silo.Error{Err: context.Cause(ctx)}
	}
}

func (s *service) WatchDelete(ctx context.Context, user, name string) (bool, error) {
	return s.WatchCreate(ctx, user, name)
}

func (s *service) Follow(ctx context.Context, emit func([]events.Event)) error {
	if s.logFails != nil {
		return s.logFails
	}
	for _, st := range s.logged {
		select {
		case <-time.After(time.Until(s.began.Add(st.from))):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		emit([]events.Event{{Time: s.began.Add(st.from), Record: &events.Record{Event: st.event, Reason: st.cause}}})
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestWait(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	busy := &silo.Error{Status: 503}
	refused := &silo.Error{Status: 403, Reason: events.Forbidden, Message: "no"}
	created := []step{{0, events.Claimed, ""}, {600 * ms, events.Waiting, events.Pulling}, {1900 * ms, events.Ready, ""}}
	tests := map[string]struct {
		service service
		goal    track.Goal
		fresh   bool
		timeout time.Duration

		want    track.Result // Without time.
		wantErr error
		changes []events.Type
		notices int
		took    time.Duration
	}{
		"ready, as the service says before it is seen": {
			service: service{steps: created, answers: []answer{{at: 1910 * ms, yes: true}}},
			want:    track.Result{Reached: true, Last: progress.Change{Event: events.Ready}},
			changes: []events.Type{events.Claimed, events.Waiting, events.Ready}, took: 1910 * ms,
		},
		"ready, as is seen before the service says": {
			service: service{steps: created, answers: []answer{{at: time.Hour, yes: true}}},
			want:    track.Result{Reached: true, Last: progress.Change{Event: events.Ready}},
			changes: []events.Type{events.Claimed, events.Waiting, events.Ready}, took: 2000 * ms,
		},
		"ready, as the log says": {
			service: service{steps: created, logged: created, answers: []answer{{at: 1800 * ms, yes: true}}},
			want:    track.Result{Reached: true, Last: progress.Change{Event: events.Ready}},
			changes: []events.Type{events.Claimed, events.Waiting, events.Ready}, took: 1900 * ms,
		},
		"ready, as the service says while the log is behind": {
			service: service{steps: created, logged: created[:2], answers: []answer{{at: 1900 * ms, yes: true}}},
			want:    track.Result{Reached: true, Last: progress.Change{Event: events.Ready}},
			changes: []events.Type{events.Claimed, events.Waiting, events.Ready}, took: 2400 * ms,
		},
		"a log that cannot be read": {
			service: service{steps: created, logged: created, logFails: errors.New("no log"), answers: []answer{{at: time.Hour}}},
			want:    track.Result{Reached: true, Last: progress.Change{Event: events.Ready}},
			changes: []events.Type{events.Claimed, events.Waiting, events.Ready}, notices: 1, took: 2000 * ms,
		},
		"failed": {
			service: service{steps: []step{{0, events.Waiting, events.ImagePull}, {700 * ms, events.Failed, events.ImagePull}}, answers: []answer{{at: 700 * ms}}},
			want:    track.Result{Last: progress.Change{Event: events.Failed, Reason: events.ImagePull}},
			changes: []events.Type{events.Waiting, events.Failed}, took: 700 * ms,
		},
		"failed and gone before anybody looks": {
			service: service{steps: []step{{0, events.Waiting, events.ImagePull}, {700 * ms, "", ""}}, answers: []answer{{at: 700 * ms}}},
			want:    track.Result{Last: progress.Change{Event: events.Gone, Reason: events.ImagePull}},
			changes: []events.Type{events.Waiting, events.Gone}, took: 700 * ms,
		},
		"deleted by somebody": {
			service: service{steps: []step{{0, events.Waiting, ""}, {700 * ms, events.Deleting, events.DeletedOutside}}},
			want:    track.Result{Last: progress.Change{Event: events.Deleting, Reason: events.DeletedOutside}},
			changes: []events.Type{events.Waiting, events.Deleting}, took: 1000 * ms,
		},
		"not known yet": {
			service: service{steps: []step{{2 * time.Second, events.Ready, ""}}, answers: []answer{{}, {}, {}, {}, {at: 2 * time.Second, yes: true}}}, fresh: true,
			want:    track.Result{Reached: true, Last: progress.Change{Event: events.Ready}},
			changes: []events.Type{events.Ready}, took: 2000 * ms,
		},
		"never known": {
			service: service{answers: []answer{{}, {}, {}, {}, {}, {}, {}, {}}}, fresh: true,
			want:    track.Result{Last: progress.Change{Event: events.Gone}},
			changes: []events.Type{events.Gone}, took: 3000 * ms,
		},
		"unready comes back": {
			service: service{steps: []step{{0, events.Unready, events.NotReady}, {1200 * ms, events.Ready, ""}}, answers: []answer{{}, {at: 1400 * ms, yes: true}}},
			want:    track.Result{Reached: true, Last: progress.Change{Event: events.Ready}},
			changes: []events.Type{events.Unready, events.Ready}, took: 1400 * ms,
		},
		"the service is away for a while": {
			service: service{steps: created, answers: []answer{{err: busy}, {err: &silo.Error{Err: errors.New("refused")}}, {at: 1910 * ms, yes: true}}},
			want:    track.Result{Reached: true, Last: progress.Change{Event: events.Ready}},
			changes: []events.Type{events.Claimed, events.Waiting, events.Ready}, notices: 1, took: 2000 * ms,
		},
		"the service is away for good": {
			service: service{answers: repeat(answer{err: busy}, 100)},
			wantErr: busy, notices: 1, took: 31 * time.Second,
		},
		"the service refuses": {
			service: service{answers: []answer{{err: refused}}},
			wantErr: refused,
		},
		"too long": {
			service: service{steps: []step{{0, events.Waiting, events.Unschedulable}}}, timeout: 800 * ms,
			want: track.Result{Last: progress.Change{Event: events.Waiting, Reason: events.Unschedulable}}, wantErr: errTooLong,
			changes: []events.Type{events.Waiting}, took: 800 * ms,
		},
		"gone, as the service says": {
			service: service{steps: []step{{0, events.Deleting, ""}, {900 * ms, "", ""}}, answers: []answer{{at: 900 * ms, yes: true}}}, goal: track.Gone,
			want:    track.Result{Reached: true, Last: progress.Change{Event: events.Gone}},
			changes: []events.Type{events.Deleting, events.Gone}, took: 900 * ms,
		},
		"gone, as the log says": {
			service: service{logged: []step{{0, events.Deleting, ""}, {900 * ms, events.Gone, ""}}}, goal: track.Gone,
			want:    track.Result{Reached: true, Last: progress.Change{Event: events.Gone}},
			changes: []events.Type{events.Deleting, events.Gone}, took: 900 * ms,
		},
		"not gone in time": {
			service: service{steps: []step{{0, events.Deleting, ""}}, answers: []answer{{at: 700 * ms}}}, goal: track.Gone,
			want:    track.Result{Last: progress.Change{Event: events.Deleting}},
			changes: []events.Type{events.Deleting}, took: 700 * ms,
		},
		"nobody deletes it": {
			service: service{steps: []step{{0, events.Ready, ""}}, answers: []answer{{}}}, goal: track.Gone,
			want:    track.Result{Last: progress.Change{Event: events.Ready}},
			changes: []events.Type{events.Ready},
		},
		"gone while the service said no": {
			service: service{steps: []step{{0, events.Deleting, ""}, {500 * ms, "", ""}}, answers: []answer{{at: 600 * ms}, {yes: true}}}, goal: track.Gone,
			want:    track.Result{Reached: true, Last: progress.Change{Event: events.Gone}},
			changes: []events.Type{events.Deleting, events.Gone}, took: 1100 * ms,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tt.service.began = time.Now()
				ctx := t.Context()
				if tt.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeoutCause(ctx, tt.timeout, errTooLong)
					defer cancel()
				}
				var mu sync.Mutex
				var changes []events.Type
				notices := 0
				tracker := track.Tracker{
					API: &tt.service, User: "alice", Pod: "n", Goal: tt.goal, Fresh: tt.fresh,
					OnChange: func(news []progress.Change) {
						mu.Lock()
						defer mu.Unlock()
						for _, c := range news {
							changes = append(changes, c.Event)
						}
					},
					OnNotice: func(string) {
						mu.Lock()
						defer mu.Unlock()
						notices++
					},
				}
				if tt.service.logged != nil {
					tracker.Log = &tt.service
				}
				got, err := tracker.Wait(ctx)
				if !errors.Is(err, tt.wantErr) {
					t.Errorf("error %v, want %v", err, tt.wantErr)
				}
				if took := time.Since(tt.service.began); took != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
				got.Last.At = time.Time{}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("result (-want +got):\n%s", diff)
				}
				// How often the same is seen again does not matter.
				if diff := cmp.Diff(tt.changes, slices.Compact(changes)); diff != "" {
					t.Errorf("changes (-want +got):\n%s", diff)
				}
				if notices != tt.notices {
					t.Errorf("%d notices, want %d", notices, tt.notices)
				}
			})
		})
	}
}

var errTooLong = errors.New("too long")

func repeat(a answer, n int) []answer {
	all := make([]answer, n)
	for i := range all {
		all[i] = a
	}
	return all
}
