package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"berth/pkg/events"
	"berth/pkg/license/wire"
)

// Project returns what the database knows of a project, its quota without patches. It fails with [ErrNoProject].
func (s *Store) Project(ctx context.Context, id string) (p wire.Project, err error) {
	if !events.ProjectID(id) {
		return p, fmt.Errorf("read project %.60q: %w", id, ErrNoProject)
	}
	err = s.view(ctx, func(ctx context.Context, tx pgx.Tx, h *hub) error {
		p = wire.Project{ID: id}
		var licenses, quota, state []byte
		err := tx.QueryRow(ctx, `SELECT site_license, run_quota, state, greatest(`+h.column("projects", "last_edited", "timestamptz")+`, b.last_activity),
				coalesce(b.error, ''), coalesce(b.failures, 0), b.retry_at
			FROM public.projects LEFT JOIN berth.projects b USING (project_id) WHERE project_id = $1`, id).
			Scan(&licenses, &quota, &state, &p.LastActivity, &p.Error, &p.Failures, &p.RetryAt)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("read project %s: %w", id, ErrNoProject)
		}
		if err != nil {
			return err
		}
		describe(&p, quota, state)
		switch p.State {
		case "starting", "running", "stopping": // Its pod tells.
		default:
			// Of a request that was refused nothing but the row knows.
			p.Error = cmp.Or(p.Error, bounded(member[string](state, "error")))
		}
		return attached(ctx, tx, &p, licenses)
	})
	return p, err
}

// describe reads the quota and the state of a project. What a hub has written in another form says nothing.
func describe(p *wire.Project, quota, state []byte) {
	p.State = member[string](state, "state")
	p.IdleTimeout, p.AlwaysRunning = member[float64](quota, "idle_timeout"), member[bool](quota, "always_running")
	var members map[string]json.RawMessage
	if json.Unmarshal(quota, &members) != nil || members == nil {
		return
	}
	delete(members, "patch")
	if text, err := json.Marshal(members); err == nil {
		p.RunQuota = text
	}
}

// attached reads the licenses of a project with their titles.
func attached(ctx context.Context, tx pgx.Tx, p *wire.Project, value []byte) error {
	ids := keys(value)
	titles := map[string]string{}
	rows, err := tx.Query(ctx, `SELECT id::text, coalesce(title, '') FROM public.site_licenses WHERE id = ANY($1::uuid[])`, rowIDs(ids))
	if err != nil {
		return err
	}
	var id, title string
	if _, err := pgx.ForEachRow(rows, []any{&id, &title}, func() error {
		titles[id] = title
		return nil
	}); err != nil {
		return err
	}
	var values map[string]json.RawMessage
	_ = json.Unmarshal(value, &values) // keys has read it.
	p.Licenses = make([]wire.LicenseStatus, 0, len(ids))
	for _, id := range ids {
		p.Licenses = append(p.Licenses, wire.LicenseStatus{
			ID: id, Title: titles[strings.ToLower(id)], Status: member[string](values[id], "status"), Reason: member[string](values[id], "reason"),
		})
	}
	return nil
}

// member is a member of a JSON object, by its exact name; the zero value for another kind.
func member[T any](object []byte, name string) T {
	var members map[string]json.RawMessage
	var value T
	if json.Unmarshal(object, &members) != nil || json.Unmarshal(members[name], &value) != nil {
		return *new(T)
	}
	return value
}

// Activity notes that a project is in use. It fails with [ErrNoProject].
func (s *Store) Activity(ctx context.Context, id string) error {
	if !events.ProjectID(id) {
		return fmt.Errorf("note activity of project %.60q: %w", id, ErrNoProject)
	}
	return s.transact(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO berth.projects (project_id, last_activity)
			SELECT project_id, now() FROM public.projects WHERE project_id = $1
			ON CONFLICT (project_id) DO UPDATE SET last_activity = excluded.last_activity`, id)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("note activity of project %s: %w", id, ErrNoProject)
		}
		return err
	})
}

// Attach gives a project, or the pods of a person, a license; what they have already stays as it is. It fails with [ErrNoLicense], and with
// [ErrNoProject] where a hub's database does not have the project.
func (s *Store) Attach(ctx context.Context, a wire.Attachment) error {
	return s.attach(ctx, a, func(ctx context.Context, tx pgx.Tx, h *hub) error {
		var exists bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM public.site_licenses WHERE id = $1)`, a.License).Scan(&exists); err != nil {
			return err
		}
		if !exists {
			return fmt.Errorf("attach license %s: %w", a.License, ErrNoLicense)
		}
		if a.Project == "" {
			_, err := tx.Exec(ctx, `INSERT INTO berth.user_licenses (user_id, license_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, a.User, a.License)
			return err
		}
		if h.owned {
			if _, err := tx.Exec(ctx, `INSERT INTO public.projects (project_id) VALUES ($1) ON CONFLICT DO NOTHING`, a.Project); err != nil {
				return err
			}
		}
		return changed(tx.Exec(ctx, `UPDATE public.projects SET site_license = jsonb_build_object($2::text, '{}'::jsonb)
			|| CASE jsonb_typeof(site_license) WHEN 'object' THEN site_license ELSE '{}' END WHERE project_id = $1`, a.Project, a.License))
	})
}

// Detach takes a license from a project, or from the pods of a person; the license itself need not exist any more. It fails with [ErrNoProject].
func (s *Store) Detach(ctx context.Context, a wire.Attachment) error {
	return s.attach(ctx, a, func(ctx context.Context, tx pgx.Tx, _ *hub) error {
		if a.Project == "" {
			_, err := tx.Exec(ctx, `DELETE FROM berth.user_licenses WHERE user_id = $1 AND license_id = $2`, a.User, a.License)
			return err
		}
		return changed(tx.Exec(ctx, `UPDATE public.projects
			SET site_license = CASE jsonb_typeof(site_license) WHEN 'object' THEN
				(SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(site_license) WHERE lower(key) <> $2) ELSE site_license END
			WHERE project_id = $1`, a.Project, a.License))
	})
}

// attach changes an attachment that makes sense.
func (s *Store) attach(ctx context.Context, a wire.Attachment, change func(context.Context, pgx.Tx, *hub) error) error {
	switch {
	case !events.ProjectID(a.License):
		return fmt.Errorf("change licenses: license %.60q: %w", a.License, ErrNoLicense)
	case (a.Project == "") == (a.User == ""):
		return fmt.Errorf("%w: name a project or a user, and not both", ErrInvalid)
	case a.Project != "" && !events.ProjectID(a.Project):
		return fmt.Errorf("change licenses of project %.60q: %w", a.Project, ErrNoProject)
	}
	tables, err := s.tables(ctx)
	if err != nil {
		return err
	}
	return s.transact(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		err := change(ctx, tx, tables)
		if errors.Is(err, ErrNoProject) {
			return fmt.Errorf("change licenses of project %s: %w", a.Project, err)
		}
		return err
	})
}
