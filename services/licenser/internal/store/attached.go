package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"berth/pkg/events"
	"berth/pkg/license/wire"
)

// userPlace is what the place of a user begins with in a list of what has a license; that of a project is its id.
const userPlace = "user:"

// maxStatus and maxReason bound what a hub may have written beside a license, in characters.
const maxStatus, maxReason = 64, 256

// Attached returns a page of what a license is attached to: the projects by id, then the people whose pods have it. One
// that was deleted may be attached still. It fails with [ErrNoLicense] for one that is neither there nor attached.
func (s *Store) Attached(ctx context.Context, q wire.AttachedQuery) (list wire.AttachedList, err error) {
	if !events.ProjectID(q.ID) {
		return list, fmt.Errorf("read attachments of %.60q: %w", q.ID, ErrNoLicense)
	}
	user, people := strings.CutPrefix(q.After, userPlace)
	switch {
	case people:
	case q.After != "" && !events.ProjectID(q.After):
		return list, fmt.Errorf("%w: after %.60q is not the next of a page", ErrInvalid, q.After)
	default:
		user = "" // The first one comes behind the last project.
	}
	limit := page(q.Limit)
	err = s.view(ctx, func(ctx context.Context, tx pgx.Tx, _ *hub) (err error) {
		list = wire.AttachedList{}
		if q.After == "" {
			list.Projects, list.Users = new(int), new(int)
			if err := tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM public.projects WHERE `+hasLicense+`),
					(SELECT count(*) FROM berth.user_licenses WHERE license_id = $1::text::uuid)`, q.ID).Scan(list.Projects, list.Users); err != nil {
				return err
			}
		}
		if !people {
			if list.Attached, err = rowsOf(ctx, tx, `SELECT project_id::text, '', coalesce(left(`+itsLicense+` ->> 'status', $4), ''),
					coalesce(left(`+itsLicense+` ->> 'reason', $5), '')
				FROM public.projects WHERE `+hasLicense+` AND project_id > $2 ORDER BY project_id LIMIT $3`,
				q.ID, behind(q.After), limit+1, maxStatus, maxReason); err != nil {
				return err
			}
		}
		users, err := rowsOf(ctx, tx, `SELECT '', user_id, '', '' FROM berth.user_licenses WHERE license_id = $1 AND user_id > $2
			ORDER BY user_id LIMIT $3`, q.ID, user, limit+1-len(list.Attached))
		list.Attached = append(list.Attached, users...)
		if err != nil || q.After != "" || len(list.Attached) > 0 {
			return err
		}
		there := false
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM public.site_licenses WHERE id = $1)`, q.ID).Scan(&there); err != nil || there {
			return err
		}
		return fmt.Errorf("read attachments of %s: %w", q.ID, ErrNoLicense)
	})
	if len(list.Attached) > limit {
		list.Attached = list.Attached[:limit]
		last := list.Attached[limit-1]
		if list.Next = last.Project; last.User != "" {
			list.Next = userPlace + last.User
		}
	}
	return list, err
}

// hasLicense says of a row of public.projects that it has the license $1, which a hub may have written in upper case.
const hasLicense = `jsonb_typeof(site_license) = 'object' AND site_license ?| ARRAY[$1::text, upper($1::text)]`

// itsLicense is what the row has under it.
const itsLicense = `coalesce(site_license -> $1::text, site_license -> upper($1::text))`

func rowsOf(ctx context.Context, tx pgx.Tx, query string, values ...any) ([]wire.Attached, error) {
	rows, err := tx.Query(ctx, query, values...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[wire.Attached])
}
