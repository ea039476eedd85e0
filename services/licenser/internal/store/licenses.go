package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"berth/pkg/events"
	"berth/pkg/license/wire"
)

const (
	// NoRevision is the revision of a license that must not exist yet.
	NoRevision = "none"
	// AnyRevision is the revision of a license that must exist.
	AnyRevision = "any"
	// pageSize is how many a page has where nothing is said, maxPage how many at most.
	pageSize, maxPage = 100, 500
	// maxYear is the last one in which a license may begin or end.
	maxYear = 9998
	// maxSeats bounds a list of seats.
	maxSeats = 1000
)

// licenseColumns are what [scanLicense] reads.
func (h *hub) licenseColumns() string {
	column := func(name, kind string) string { return h.column("site_licenses", name, kind) }
	content := []string{
		column("title", "text"), column("description", "text"), activates("site_licenses.activates"), expires("site_licenses.expires"),
		column("upgrades", "text"), column("quota", "text"), limit("site_licenses.run_limit"), plain(column("managers", "text[]")),
	}
	return `site_licenses.id::text, ` + strings.Join(content, ", ") + `, ` + column("created", "timestamptz") + `, ` + column("last_used", "timestamptz") + `,
		(SELECT count(*) FROM berth.seats s WHERE s.license_id = site_licenses.id AND (s.kept_until IS NULL OR s.kept_until > now())),
		md5(ROW(` + strings.Join(content, ", ") + `)::text)`
}

func scanLicense(row pgx.CollectableRow) (wire.License, error) {
	var l wire.License
	var title, description *string
	var upgrades, quota []byte
	err := row.Scan(&l.ID, &title, &description, &l.Activates, &l.Expires, &upgrades, &quota, &l.RunLimit, &l.Managers,
		&l.Created, &l.LastUsed, &l.SeatsUsed, &l.Revision)
	if title != nil {
		l.Title = *title
	}
	if description != nil {
		l.Description = *description
	}
	l.Upgrades, l.Quota = set(upgrades), set(quota)
	return l, err
}

// Licenses returns a page of all licenses, ascending by id, and the id to go on after, empty on the last page. limit is
// at most 500, and 100 where it is 0.
func (s *Store) Licenses(ctx context.Context, after string, limit int) (licenses []wire.License, next string, err error) {
	if after != "" && !events.ProjectID(after) {
		return nil, "", fmt.Errorf("%w: after %.60q is no id of a license", ErrInvalid, after)
	}
	limit = page(limit)
	err = s.view(ctx, func(ctx context.Context, tx pgx.Tx, h *hub) error {
		rows, err := tx.Query(ctx, `SELECT `+h.licenseColumns()+` FROM public.site_licenses
			WHERE $1::uuid IS NULL OR site_licenses.id > $1 ORDER BY site_licenses.id LIMIT $2`, text(after), limit+1)
		if err != nil {
			return err
		}
		licenses, err = pgx.CollectRows(rows, scanLicense)
		return err
	})
	if len(licenses) > limit {
		licenses = licenses[:limit]
		next = licenses[limit-1].ID
	}
	return licenses, next, err
}

func page(limit int) int {
	if limit <= 0 {
		return pageSize
	}
	return min(limit, maxPage)
}

// License returns a license, or fails with [ErrNoLicense].
func (s *Store) License(ctx context.Context, id string) (l wire.License, err error) {
	if !events.ProjectID(id) {
		return l, fmt.Errorf("read license %.60q: %w", id, ErrNoLicense)
	}
	err = s.view(ctx, func(ctx context.Context, tx pgx.Tx, h *hub) error {
		l, err = one(ctx, tx, h, id)
		return err
	})
	return l, err
}

func one(ctx context.Context, tx pgx.Tx, h *hub, id string) (wire.License, error) {
	rows, err := tx.Query(ctx, `SELECT `+h.licenseColumns()+` FROM public.site_licenses WHERE id = $1`, id)
	if err != nil {
		return wire.License{}, err
	}
	l, err := pgx.CollectExactlyOneRow(rows, scanLicense)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("read license %s: %w", id, ErrNoLicense)
	}
	return l, err
}

// locked is one license that nobody else changes before the transaction ends.
func locked(ctx context.Context, tx pgx.Tx, h *hub, id string) (wire.License, error) {
	if _, err := tx.Exec(ctx, `SELECT FROM public.site_licenses WHERE id = $1 FOR UPDATE`, id); err != nil {
		return wire.License{}, err
	}
	return one(ctx, tx, h, id)
}

// PutLicense saves a license and returns it as it is then. Columns that Berth does not know stay as they are, and so do those whose value is
// the one that a read gives: what a hub has written may be more than that. revision,
// where it is not empty, is that of the license that it takes the place of, [AnyRevision] or [NoRevision]; it fails with
// [ErrConflict] where that is not so.
func (s *Store) PutLicense(ctx context.Context, license wire.License, revision string) (saved wire.License, err error) {
	if !events.ProjectID(license.ID) {
		return saved, fmt.Errorf("%w: %.60q is no UUID in lower case", ErrInvalid, license.ID)
	}
	for name, at := range map[string]*time.Time{"activates": license.Activates, "expires": license.Expires} {
		if at != nil && (at.UTC().Year() < 1 || at.UTC().Year() > maxYear) {
			return saved, fmt.Errorf("%w: %s is in the year %d: write one from 1 to %d", ErrInvalid, name, at.UTC().Year(), maxYear)
		}
	}
	tables, err := s.tables(ctx)
	if err != nil {
		return saved, err
	}
	err = s.transact(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		old, err := locked(ctx, tx, tables, license.ID)
		switch {
		case errors.Is(err, ErrNoLicense):
			if revision != "" && revision != NoRevision {
				return fmt.Errorf("save license %s: there is none of this id: %w", license.ID, ErrConflict)
			}
			err = tables.insert(ctx, tx, license, revision)
		case err != nil:
		case revision != "" && revision != AnyRevision && revision != old.Revision:
			err = fmt.Errorf("save license %s: %w", license.ID, ErrConflict)
		default:
			err = tables.update(ctx, tx, old, license)
		}
		if err != nil {
			return err
		}
		saved, err = one(ctx, tx, tables, license.ID)
		return err
	})
	return saved, err
}

// insert makes the row of a license that had none; who has made one meanwhile has come first for [NoRevision], else this one is the last.
func (h *hub) insert(ctx context.Context, tx pgx.Tx, l wire.License, revision string) error {
	columns, places, values := []string{"id"}, []string{"$1"}, []any{l.ID}
	var updates []string
	for _, c := range h.content(l) {
		values = append(values, c.value)
		columns, places = append(columns, c.name), append(places, "$"+strconv.Itoa(len(values)))
		updates = append(updates, c.name+" = excluded."+c.name)
	}
	query := fmt.Sprintf(`INSERT INTO public.site_licenses (%s) VALUES (%s) ON CONFLICT (id) DO `, strings.Join(columns, ", "), strings.Join(places, ", "))
	if revision == NoRevision {
		query += `NOTHING`
	} else {
		query += `UPDATE SET ` + strings.Join(updates, ", ")
	}
	tag, err := tx.Exec(ctx, query, values...)
	if err == nil && tag.RowsAffected() == 0 {
		err = fmt.Errorf("save license %s: there is one of this id: %w", l.ID, ErrConflict)
	}
	return err
}

// update writes what differs from a license as it was read.
func (h *hub) update(ctx context.Context, tx pgx.Tx, old, l wire.License) error {
	values := []any{l.ID}
	var updates []string
	was := h.content(old)
	for i, c := range h.content(l) {
		if reflect.DeepEqual(was[i].value, c.value) {
			continue
		}
		values = append(values, c.value)
		updates = append(updates, c.name+" = $"+strconv.Itoa(len(values)))
	}
	if len(updates) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `UPDATE public.site_licenses SET `+strings.Join(updates, ", ")+` WHERE id = $1`, values...)
	return err
}

// field is a column of a license with its value as it is written.
type field struct {
	name  string
	value any
}

// content are the columns of a license that people change, those that there are, always in the same order.
func (h *hub) content(l wire.License) []field {
	all := []field{
		{"title", l.Title},
		{"description", l.Description},
		{"activates", inUTC(l.Activates)},
		{"expires", inUTC(l.Expires)},
		{"upgrades", argument(l.Upgrades)},
		{"quota", argument(l.Quota)},
		{"run_limit", l.RunLimit},
		{"managers", append([]string(nil), l.Managers...)}, // None and an empty list are the same.
	}
	return slices.DeleteFunc(all, func(f field) bool { return !h.has["site_licenses."+f.name] })
}

// inUTC is for a column without a zone, which takes the time as it reads.
func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	utc := t.UTC().Truncate(time.Microsecond) // As it is kept.
	return &utc
}

// DeleteLicense deletes a license, also one in use: its seats stay until the projects that have it are computed anew.
// revision, where it is not empty, is that of the license; it fails with [ErrConflict] where that is not so, and with
// [ErrNoLicense].
func (s *Store) DeleteLicense(ctx context.Context, id, revision string) error {
	if !events.ProjectID(id) {
		return fmt.Errorf("delete license %.60q: %w", id, ErrNoLicense)
	}
	tables, err := s.tables(ctx)
	if err != nil {
		return err
	}
	return s.transact(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if revision != "" {
			old, err := locked(ctx, tx, tables, id)
			if err != nil {
				return err
			}
			if old.Revision != revision {
				return fmt.Errorf("delete license %s: %w", id, ErrConflict)
			}
		}
		tag, err := tx.Exec(ctx, `DELETE FROM public.site_licenses WHERE id = $1`, id)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("delete license %s: %w", id, ErrNoLicense)
		}
		return err
	})
}

// Seats returns who has a seat of a license, those longest in use first, at most 1,000 of all. It fails with [ErrNoLicense].
func (s *Store) Seats(ctx context.Context, id string) (list wire.SeatList, err error) {
	if !events.ProjectID(id) {
		return list, fmt.Errorf("read seats of %.60q: %w", id, ErrNoLicense)
	}
	err = s.view(ctx, func(ctx context.Context, tx pgx.Tx, h *hub) error {
		l, err := one(ctx, tx, h, id)
		if err != nil {
			return err
		}
		list = wire.SeatList{RunLimit: l.RunLimit, Total: l.SeatsUsed}
		rows, err := tx.Query(ctx, `SELECT license_id::text, user_id, coalesce(project_id::text, ''), pod, generation, granted_at FROM berth.seats
			WHERE license_id = $1 AND (kept_until IS NULL OR kept_until > now()) ORDER BY granted_at, cluster, pod LIMIT $2`, id, maxSeats)
		if err != nil {
			return err
		}
		list.Seats, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (seat wire.Seat, err error) {
			err = row.Scan(&seat.License, &seat.User, &seat.Project, &seat.Pod, &seat.Generation, &seat.Since)
			return seat, err
		})
		return err
	})
	return list, err
}

// Usage returns a page of who has used a license, the newest first. A license that was deleted has a past, too.
func (s *Store) Usage(ctx context.Context, q wire.UsageQuery) (list wire.UsageList, err error) {
	if !events.ProjectID(q.ID) {
		return list, fmt.Errorf("read usage of %.60q: %w", q.ID, ErrNoLicense)
	}
	var before *int64
	if q.After != "" {
		place, err := strconv.ParseInt(q.After, 10, 64)
		if err != nil {
			return list, fmt.Errorf("%w: after %.60q is not the next of a page", ErrInvalid, q.After)
		}
		before = &place
	}
	limit := page(q.Limit)
	var places []int64
	err = s.view(ctx, func(ctx context.Context, tx pgx.Tx, _ *hub) error {
		rows, err := tx.Query(ctx, `SELECT id, license_id::text, user_id, coalesce(project_id::text, ''), pod, generation, start, stop
			FROM berth.usage_log WHERE license_id = $1 AND ($2::bigint IS NULL OR id < $2) AND (stop IS NULL OR stop >= $3)
			ORDER BY id DESC LIMIT $4`, q.ID, before, q.Since, limit+1)
		if err != nil {
			return err
		}
		places = nil
		list.Usage, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (u wire.Usage, err error) {
			var place int64
			err = row.Scan(&place, &u.License, &u.User, &u.Project, &u.Pod, &u.Generation, &u.Start, &u.Stop)
			places = append(places, place)
			return u, err
		})
		return err
	})
	if len(list.Usage) > limit {
		list.Usage = list.Usage[:limit]
		list.Next = strconv.FormatInt(places[limit-1], 10)
	}
	return list, err
}

// view runs f in a transaction that only reads.
func (s *Store) view(ctx context.Context, f func(context.Context, pgx.Tx, *hub) error) error {
	tables, err := s.tables(ctx)
	if err != nil {
		return err
	}
	return s.transact(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly},
		func(ctx context.Context, tx pgx.Tx) error { return f(ctx, tx, tables) })
}
