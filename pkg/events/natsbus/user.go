package natsbus

import (
	"context"

	"berth/pkg/events"
)

// UserPods reads from the leader the newest record of every pod name that the log
// knows as a user's, those that are gone too. A name that is another user's by now is
// left out. It makes one request a name: it is for the removal of a whole user.
func (b *Bus) UserPods(ctx context.Context, user string) ([]Entry, error) {
	subjects, err := b.subjects(ctx, events.LogStream, events.UserFilter(b.cluster, user))
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(subjects))
	var entries []Entry
	for _, subject := range subjects {
		key, err := events.ParsePodSubject(subject)
		if err != nil || seen[key.Pod] {
			continue // A subject of a later version's; the pod has others.
		}
		seen[key.Pod] = true
		e, err := b.Last(ctx, key.Pod)
		if err != nil {
			return nil, err
		}
		if e.User == user {
			entries = append(entries, e)
		}
	}
	return entries, nil
}
