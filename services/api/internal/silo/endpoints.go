package silo

import (
	"context"
	"errors"
	"net/http"
	"time"

	"berth/pkg/events"
	"berth/services/api/internal/audit"
)

func (h *Handler) getPods(q *query) (any, error) {
	body, foreign, err := h.read(q, nil)
	switch {
	case foreign:
		return []PodInfo{}, nil
	case err != nil:
		return nil, err
	}
	pods, err := h.Lists.Pods(q.r.Context(), body.User)
	if err != nil {
		return nil, err
	}
	if pods == nil {
		pods = []PodInfo{}
	}
	return pods, nil
}

func (h *Handler) createPod(q *query) (any, error) {
	body, _, err := h.read(q, checkCreate)
	if body.URL != "" {
		q.record.Object = audit.Manifest(body.URL)
	}
	if err != nil {
		return nil, err
	}
	q.record.Pod, err = h.Creates.Create(q.r.Context(), CreateRequest{
		ManifestURL: body.URL, User: body.User, Settings: body.Settings, Silo: q.caller.Silo,
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"pod_name": q.record.Pod}, nil
}

func (h *Handler) watchCreatePod(q *query) (any, error) {
	return h.watch(q, "ready", false, func(ctx context.Context, r podRequest) (bool, error) {
		return h.Creates.AwaitReady(ctx, r.User, r.Pod)
	})
}

func (h *Handler) watchDeletePod(q *query) (any, error) {
	return h.watch(q, "deleted", true, func(ctx context.Context, r podRequest) (bool, error) {
		return h.Deletes.AwaitGone(ctx, r.User, r.Pod)
	})
}

func (h *Handler) deleteAllUser(q *query) (any, error) {
	return h.watch(q, "deleted", true, func(ctx context.Context, r podRequest) (bool, error) {
		return h.Cleans.DeleteUser(ctx, r.User)
	})
}

// watch answers a long poll. none is its answer for what does not exist.
func (h *Handler) watch(q *query, field string, none bool, await func(context.Context, podRequest) (bool, error)) (any, error) {
	body, foreign, err := h.read(q, nil)
	switch {
	case foreign:
		return map[string]any{field: none}, nil
	case err != nil:
		return nil, err
	}
	defer h.wait(q)()
	result, err := await(q.r.Context(), body)
	if err != nil {
		return nil, err
	}
	return map[string]any{field: result}, nil
}

// wait lifts the server's limits, which are for requests that do not wait, and counts the long poll. Without
// a read deadline the server still notices when the client goes away. The function returned ends the wait.
func (h *Handler) wait(q *query) func() {
	control := http.NewResponseController(q.w)
	if err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})); err != nil {
		h.Log.Debug().Err(err).Msg("Cannot lift the time limits of a long poll")
	}
	if h.Waiting != nil {
		h.Waiting(q.path, 1)
	}
	return func() {
		if h.Waiting != nil {
			h.Waiting(q.path, -1)
		}
		if err := control.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
			h.Log.Debug().Err(err).Msg("Cannot limit the time of an answer")
		}
	}
}

// writeLimit is how long a client may take to read an answer.
const writeLimit = 30 * time.Second

func (h *Handler) deletePod(q *query) (any, error) {
	body, foreign, err := h.read(q, nil)
	switch {
	case foreign:
		return nil, ErrNoPod
	case err != nil:
		return nil, err
	}
	if err := h.Deletes.Delete(q.r.Context(), body.User, body.Pod); err != nil {
		return nil, err
	}
	return map[string]any{"requested": true}, nil
}

// cleanAllUnused is for administrators: what it finds is of all users.
func (h *Handler) cleanAllUnused(q *query) (any, error) {
	switch {
	case q.caller.Admin:
	case q.r.Header.Get("Authorization") == "":
		return nil, Fault(events.Unauthorized, "this is for administrators: Authorization: Bearer TOKEN, where the token is that of adminTokenHash")
	default:
		return nil, Fault(events.Forbidden, "this is for administrators; your token is another's")
	}
	dry, err := dryRun(q)
	if err != nil {
		return nil, err
	}
	q.record.DryRun = dry
	defer h.wait(q)()
	report, err := h.Cleans.Sweep(q.r.Context(), dry)
	if err != nil {
		return nil, err
	}
	q.record.Removed = report.Removed
	if report.Found == nil {
		report.Found = []events.Leftover{}
	}
	return report, nil
}

// getPodIPOwner answers with a plain text: the user id, or nothing.
func (h *Handler) getPodIPOwner(q *query) (any, error) {
	wanted, err := address(q.r)
	if err != nil {
		return nil, err
	}
	q.record.Object = wanted.String()
	if h.Waiting != nil {
		h.Waiting(q.path, 1)
		defer h.Waiting(q.path, -1)
	}
	// A project is nobody who could be let in.
	person := func(user string) bool {
		_, project := events.ProjectOf(user)
		return !project && q.caller.MayName(user)
	}
	user, err := h.Lists.Owner(q.r.Context(), wanted, person)
	if err != nil {
		return nil, err
	}
	q.record.User = user
	return plain(user), nil
}
