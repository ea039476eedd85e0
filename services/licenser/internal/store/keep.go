package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// Upkeep is what the keeper has to know of a project.
type Upkeep struct {
	// Now is the clock of the database.
	Now time.Time
	// Wanted means that somebody has started it and nobody has stopped it since.
	Wanted bool
	// AlwaysRunning and IdleTimeout are of the quota that it runs with; a timeout of 0 is none.
	AlwaysRunning bool
	IdleTimeout   time.Duration
	// LastActivity is when anybody last used it, zero for unknown.
	LastActivity time.Time
	// StartedAt is what [Store.Lives] was told last, zero for nothing.
	StartedAt time.Time
	// Failures is how often in a row it has died or could not be started; RetryAt is when it is
	// tried again, zero where it is not.
	Failures int
	RetryAt  time.Time
	// Error says why it does not run where it should.
	Error string
}

// mostIdle is longer than any timeout that matters, and fits a time.Duration. In seconds.
const mostIdle = 1_000_000_000

// Upkeep reads it. It fails with [ErrNoProject].
func (s *Store) Upkeep(ctx context.Context, project string) (Upkeep, error) {
	tables, err := s.tables(ctx)
	if err != nil {
		return Upkeep{}, err
	}
	var (
		u                 Upkeep
		last, start, next *time.Time
		timeout           float64
	)
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = s.keeping.QueryRow(ctx, `SELECT clock_timestamp(), coalesce(b.wanted, false), coalesce(public.projects.run_quota -> 'always_running' = 'true', false),
			CASE jsonb_typeof(public.projects.run_quota -> 'idle_timeout') WHEN 'number'
				THEN least(greatest((public.projects.run_quota ->> 'idle_timeout')::numeric, 0), $2)::float8 ELSE 0 END,
			greatest(b.last_activity, `+tables.column("projects", "last_edited", "timestamptz")+`),
			b.started_at, coalesce(b.failures, 0), b.retry_at, coalesce(b.error, '')
		FROM public.projects LEFT JOIN berth.projects b USING (project_id) WHERE project_id = $1`, project, mostIdle).
		Scan(&u.Now, &u.Wanted, &u.AlwaysRunning, &timeout, &last, &start, &u.Failures, &next, &u.Error)
	if errors.Is(err, pgx.ErrNoRows) {
		return Upkeep{}, fmt.Errorf("read project %s: %w", project, ErrNoProject)
	}
	u.IdleTimeout = time.Duration(timeout * float64(time.Second))
	for field, value := range map[*time.Time]*time.Time{&u.LastActivity: last, &u.StartedAt: start, &u.RetryAt: next} {
		if value != nil {
			*field = *value
		}
	}
	return u, away(ctx, err)
}

// Lives notes that a project has a pod, and since when that has been starting or, later, ready. From then on it is wanted.
// Who starts a project that was not wanted begins to count its failures anew. What the project had before its last start
// is forgotten once its pod is ready.
func (s *Store) Lives(ctx context.Context, project string, since time.Time, ready bool) error {
	return s.exec(ctx, `INSERT INTO berth.projects AS b (project_id, wanted, started_at) VALUES ($1, true, $2)
		ON CONFLICT (project_id) DO UPDATE SET wanted = true, started_at = $2, retry_at = NULL,
			before = CASE WHEN NOT $3 THEN b.before END,
			failures = CASE WHEN b.wanted THEN b.failures ELSE 0 END,
			error = CASE WHEN b.wanted AND b.started_at IS NOT DISTINCT FROM $2 THEN b.error END
		WHERE NOT b.wanted OR b.retry_at IS NOT NULL OR b.started_at IS DISTINCT FROM $2 OR $3 AND b.before IS NOT NULL`, project, since, ready)
}

// Over notes that a pod which somebody had stopped is gone: its project is not started again by itself. since is what
// [Store.Lives] was told of it; where the project has another life by now, nothing is noted.
func (s *Store) Over(ctx context.Context, project string, since time.Time) error {
	return s.exec(ctx, `UPDATE berth.projects SET wanted = false, retry_at = NULL, failures = 0, error = NULL
		WHERE project_id = $1 AND wanted AND (started_at IS NULL OR started_at <= $2)`, project, since)
}

// Ask notes the command of a start that a project's hub has asked for, until the project lives or the start has failed; an
// empty one says so.
func (s *Store) Ask(ctx context.Context, project, command string) error {
	return s.exec(ctx, `INSERT INTO berth.projects AS b (project_id, asked) VALUES ($1, nullif($2, ''))
		ON CONFLICT (project_id) DO UPDATE SET asked = excluded.asked WHERE b.asked IS DISTINCT FROM excluded.asked`, project, command)
}

// Asked returns what [Store.Ask] has noted, by project.
func (s *Store) Asked(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.keeping.Query(ctx, `SELECT project_id::text, asked FROM berth.projects WHERE asked IS NOT NULL`)
	if err != nil {
		return nil, away(ctx, err)
	}
	asked := map[string]string{}
	var project, command string
	_, err = pgx.ForEachRow(rows, []any{&project, &command}, func() error {
		asked[project] = command
		return nil
	})
	return asked, away(ctx, err)
}

// Unwanted notes that a project was stopped: it is not started again by itself.
func (s *Store) Unwanted(ctx context.Context, project string) error {
	return s.exec(ctx, `UPDATE berth.projects SET wanted = false, retry_at = NULL, failures = 0, error = NULL WHERE project_id = $1 AND wanted`, project)
}

// Failed notes how often in a row a project has failed, and when it is tried again; a zero retry means that it is given
// up. It does nothing where the project is not wanted any more.
func (s *Store) Failed(ctx context.Context, project string, failures int, retry time.Time, fault string) error {
	return s.exec(ctx, `UPDATE berth.projects SET failures = $2, retry_at = $3::timestamptz, wanted = $3::timestamptz IS NOT NULL, error = $4
		WHERE project_id = $1 AND wanted`, project, failures, moment(retry), text(bounded(fault)))
}

// Recovered sets the failures of projects to none.
func (s *Store) Recovered(ctx context.Context, projects []string) error {
	return s.exec(ctx, `UPDATE berth.projects SET failures = 0 WHERE project_id = ANY($1::uuid[]) AND failures > 0`, projects)
}

// Wanted returns the projects that are to run always and are wanted, ascending, those behind an id, at most limit.
func (s *Store) Wanted(ctx context.Context, after string, limit int) ([]string, error) {
	return s.texts(ctx, `SELECT b.project_id::text FROM berth.projects b JOIN public.projects p USING (project_id)
		WHERE b.wanted AND p.run_quota -> 'always_running' = 'true' AND b.project_id > $1
		ORDER BY b.project_id LIMIT $2`, behind(after), limit)
}

// GivenUp counts the projects whose error begins with a reason, and that are not wanted for it.
func (s *Store) GivenUp(ctx context.Context, reason string) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = s.keeping.QueryRow(ctx, `SELECT count(*) FROM berth.projects b JOIN public.projects p USING (project_id)
		WHERE NOT b.wanted AND starts_with(b.error, $1 || ':')`, reason).Scan(&n)
	return n, away(ctx, err)
}

// maxFault bounds a fault that is stored, in bytes.
const maxFault = 512

// bounded is a fault as the database takes it.
func bounded(fault string) string {
	fault = strings.ReplaceAll(strings.ToValidUTF8(fault, "\uFFFD"), "\x00", "\uFFFD")
	if len(fault) <= maxFault {
		return fault
	}
	cut := maxFault - len("…")
	for !utf8.RuneStart(fault[cut]) {
		cut--
	}
	return fault[:cut] + "…"
}

// SetState writes the state of a project and why it has it, where that is not what the hub's row says.
func (s *Store) SetState(ctx context.Context, project, state, fault string) error {
	tables, err := s.tables(ctx)
	if err != nil || !tables.writes["projects.state"] {
		return err
	}
	fault = bounded(fault)
	return s.exec(ctx, `UPDATE public.projects SET state = jsonb_strip_nulls(jsonb_build_object('state', $2::text,
			'time', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'error', nullif($3::text, '')))
		WHERE project_id = $1 AND (state ->> 'state' IS DISTINCT FROM $2 OR coalesce(state ->> 'error', '') <> $3)`, project, state, fault)
}

// Standing is the state that a project is in by the log.
type Standing struct {
	Project, State string
	// Since is from when on it has been in it without a fault; zero where it has one, or that is not known.
	Since time.Time
}

// stale says of a row of public.projects that its error is from before a time, which may be NULL: who has written it since then, such as
// that a request was refused, has written it of the state that the project is in.
func stale(since string) string {
	return `coalesce(state ->> 'error', '') <> ''
		AND coalesce(state ->> 'time', '') COLLATE "C" < to_char(` + since + ` AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
}

// Enter writes the state of a project with which nothing is wrong, where that is not what the hub's row says. What the row has said is wrong
// since the project came into this state stays: a look at it once more, as a new keeper has, is no news.
func (s *Store) Enter(ctx context.Context, p Standing) error {
	tables, err := s.tables(ctx)
	if err != nil || !tables.writes["projects.state"] {
		return err
	}
	return s.exec(ctx, `UPDATE public.projects SET state = jsonb_build_object('state', $2::text,
			'time', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
		WHERE project_id = $1 AND (state ->> 'state' IS DISTINCT FROM $2 OR `+stale(`$3::timestamptz`)+`)`, p.Project, p.State, moment(p.Since))
}

// Busy returns the projects whose state says that they have a pod, ascending, those behind an id, at most limit.
func (s *Store) Busy(ctx context.Context, after string, limit int) ([]string, error) {
	return s.texts(ctx, `SELECT p.project_id::text FROM public.projects p WHERE state ->> 'state' IN ('starting', 'running', 'stopping')
		AND p.project_id > $1 ORDER BY p.project_id LIMIT $2`, behind(after), limit)
}

// Astray returns those of the projects whose row has another state than the one that belongs to each, or an error from before that,
// ascending. Where the state cannot be written there are none.
func (s *Store) Astray(ctx context.Context, standings []Standing) ([]string, error) {
	tables, err := s.tables(ctx)
	if err != nil || !tables.writes["projects.state"] {
		return nil, err
	}
	projects, states, since := make([]string, len(standings)), make([]string, len(standings)), make([]*time.Time, len(standings))
	for i, p := range standings {
		projects[i], states[i], since[i] = p.Project, p.State, moment(p.Since)
	}
	return s.texts(ctx, `SELECT p.project_id::text FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS e (id, due, since)
		JOIN public.projects p ON p.project_id = e.id WHERE state ->> 'state' IS DISTINCT FROM due OR `+stale(`since`)+` ORDER BY p.project_id`,
		projects, states, since)
}

// behind is the id of a page's last row for a comparison with keys; before the first page it is the least of all ids.
func behind(after string) string { return cmp.Or(after, "00000000-0000-0000-0000-000000000000") }

// ProjectsWith returns the projects that are wanted and have a license attached, in lower or in upper case, or have a seat of it still, ascending,
// those behind an id, at most limit. An empty license stands for any.
func (s *Store) ProjectsWith(ctx context.Context, cluster, license, after string, limit int) ([]string, error) {
	return s.texts(ctx, `SELECT found.id::text FROM (
			(SELECT b.project_id AS id FROM berth.projects b JOIN public.projects p USING (project_id)
				WHERE b.wanted AND ($2 = '' OR jsonb_typeof(p.site_license) = 'object' AND p.site_license ?| ARRAY[$2, upper($2)]) AND b.project_id > $3
				ORDER BY b.project_id LIMIT $4)
			UNION (SELECT DISTINCT s.project_id FROM berth.seats s WHERE s.cluster = $1 AND s.license_id = nullif($2, '')::uuid AND s.project_id > $3
				ORDER BY s.project_id LIMIT $4)) found
		ORDER BY found.id LIMIT $4`, cluster, license, behind(after), limit)
}

// InheritSeats gives the seats that a user's pod has, and their use, to another generation: the one that it has in a log
// that was made anew.
func (s *Store) InheritSeats(ctx context.Context, cluster, pod, user, generation string) error {
	return s.keep(ctx, func(ctx context.Context, tx pgx.Tx) error {
		const theirs = ` SET generation = $3 WHERE cluster = $1 AND pod = $2 AND generation <> $3 AND user_id = $4 AND `
		for _, statement := range []string{
			`UPDATE berth.seats` + theirs + `kept_until IS NULL`, `UPDATE berth.usage_log` + theirs + `stop IS NULL`,
		} {
			if _, err := tx.Exec(ctx, statement, cluster, pod, generation, user); err != nil {
				return err
			}
		}
		return nil
	})
}

// ActionRequest is what a hub has written into a project's row for Berth to do.
type ActionRequest struct {
	Project string
	// Request is the column's value.
	Request json.RawMessage
}

// ActionRequests returns those that are not finished: of some projects, or, where they are nil, of all, behind an id,
// ascending, at most limit. Where they could not be cleared there are none.
func (s *Store) ActionRequests(ctx context.Context, projects []string, after string, limit int) ([]ActionRequest, error) {
	tables, err := s.tables(ctx)
	if err != nil || !tables.writes["projects.action_request"] {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.keeping.Query(ctx, `SELECT p.project_id::text, action_request FROM public.projects p
		WHERE jsonb_typeof(action_request) <> 'null' AND ($1::uuid[] IS NULL OR p.project_id = ANY($1)) AND p.project_id > $2
			AND (jsonb_typeof(action_request) <> 'object' OR coalesce(action_request -> 'finished', 'null') IN ('null', 'false'))
		ORDER BY p.project_id LIMIT $3`, projects, behind(after), limit)
	if err != nil {
		return nil, away(ctx, err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r ActionRequest, err error) {
		err = row.Scan(&r.Project, (*[]byte)(&r.Request))
		return r, err
	})
	return found, away(ctx, err)
}

// requestNote is the name of the setting that says which command an action request has become.
func requestNote(project string) string { return "action_request " + project }

// Command keeps the id of the command that an action request becomes, and returns the one that it has: the same for as
// long as the request is not cleared, and an empty one where the row does not have that request any more. done says
// that [Store.Done] was called for it: all that is left is to clear the request.
func (s *Store) Command(ctx context.Context, r ActionRequest, id string) (command string, done bool, err error) {
	note := ""
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = s.keeping.QueryRow(ctx, `INSERT INTO berth.settings AS s (name, value) SELECT $1, md5($2::jsonb::text) || ' ' || $3
		FROM public.projects WHERE project_id = $4 AND action_request = $2::jsonb
		ON CONFLICT (name) DO UPDATE SET value = CASE WHEN starts_with(s.value, md5($2::jsonb::text)) THEN s.value ELSE excluded.value END
		RETURNING value`, requestNote(r.Project), string(r.Request), id, r.Project).Scan(&note)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", false, nil
	}
	_, command, _ = strings.Cut(note, " ")
	command, done = strings.CutSuffix(command, doneNote)
	return command, done, away(ctx, err)
}

// doneNote is at the end of the note of a request that is done and not cleared.
const doneNote = " done"

// Done keeps that an action request, which has become a command, is done, so that it is not done again where it cannot be
// cleared.
func (s *Store) Done(ctx context.Context, r ActionRequest, command string) error {
	return s.exec(ctx, `UPDATE berth.settings SET value = value || $3 WHERE name = $1 AND split_part(value, ' ', 2) = $2 AND NOT value LIKE '%' || $3`,
		requestNote(r.Project), command, doneNote)
}

// ClearRequest takes an action request away that has become a command, unless another one is there by now, also one that
// reads the same. An empty command is for any that reads so. What the row says is wrong goes with a command: it was before that.
func (s *Store) ClearRequest(ctx context.Context, r ActionRequest, command string) error {
	tables, err := s.tables(ctx)
	if err != nil {
		return err
	}
	clears := `action_request = NULL`
	if command != "" && tables.writes["projects.state"] {
		clears += `, state = CASE jsonb_typeof(state) WHEN 'object' THEN state - 'error' ELSE state END`
	}
	return s.keep(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE public.projects SET `+clears+` WHERE project_id = $1 AND action_request = $2::jsonb
			AND ($4 = '' OR EXISTS (SELECT FROM berth.settings WHERE name = $3 AND split_part(value, ' ', 2) = $4))`,
			r.Project, string(r.Request), requestNote(r.Project), command); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM berth.settings WHERE name = $1
			AND CASE WHEN $2 = '' THEN starts_with(value, md5($3::jsonb::text)) ELSE split_part(value, ' ', 2) = $2 END`,
			requestNote(r.Project), command, string(r.Request))
		return err
	})
}

// LicenseChange is a license whose content is another one than that for which projects were computed.
type LicenseChange struct {
	ID string
	// Digest is that of its content, empty for a license that is no more.
	Digest             string
	Activates, Expires *time.Time
}

// ChangedLicenses returns them, ascending, those behind an id, at most limit: of all, or just of some where ids is not
// nil.
func (s *Store) ChangedLicenses(ctx context.Context, ids []string, after string, limit int) ([]LicenseChange, error) {
	return s.licenseChanges(ctx, `SELECT coalesce(l.id, k.license_id)::text, coalesce(CASE WHEN l.id IS NOT NULL THEN `+licenseContent+` END, ''),
			`+activates("l.activates")+`, `+expires("l.expires")+`
		FROM (SELECT id, quota, upgrades, run_limit, activates, expires FROM public.site_licenses s
			WHERE s.id > $2 AND ($1::uuid[] IS NULL OR s.id = ANY($1))) l
		FULL JOIN (SELECT license_id, digest FROM berth.known_licenses s
			WHERE s.license_id > $2 AND ($1::uuid[] IS NULL OR s.license_id = ANY($1))) k ON l.id = k.license_id
		WHERE CASE WHEN l.id IS NOT NULL THEN `+licenseContent+` END IS DISTINCT FROM k.digest
		ORDER BY coalesce(l.id, k.license_id) LIMIT $3`, ids, behind(after), limit)
}

// TimedLicenses returns the licenses that begin or end to be valid in the future, ascending, those behind an id, at most
// limit. They have no digest.
func (s *Store) TimedLicenses(ctx context.Context, after string, limit int) ([]LicenseChange, error) {
	return s.licenseChanges(ctx, `SELECT l.id::text, '', `+activates("activates")+`, `+expires("expires")+` FROM public.site_licenses l
		WHERE (activates::timestamptz > now() OR expires::timestamptz > now()) AND l.id > $1
		ORDER BY l.id LIMIT $2`, behind(after), limit)
}

func (s *Store) licenseChanges(ctx context.Context, query string, values ...any) ([]LicenseChange, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.keeping.Query(ctx, query, values...)
	if err != nil {
		return nil, away(ctx, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[LicenseChange])
	return found, away(ctx, err)
}

// KnowLicense notes the content of a license for which projects are being computed.
func (s *Store) KnowLicense(ctx context.Context, c LicenseChange) error {
	if c.Digest == "" {
		return s.exec(ctx, `DELETE FROM berth.known_licenses WHERE license_id = $1`, c.ID)
	}
	return s.exec(ctx, `INSERT INTO berth.known_licenses VALUES ($1, $2) ON CONFLICT (license_id) DO UPDATE SET digest = $2`, c.ID, c.Digest)
}

// knownSettings is the name of the setting that has the digest of the site's settings for which projects were computed.
const knownSettings = "settings_digest"

// ChangedSettings returns a digest of the settings of the site, and whether projects were computed for others.
func (s *Store) ChangedSettings(ctx context.Context) (digest string, changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = s.keeping.QueryRow(ctx, `SELECT now.digest, now.digest IS DISTINCT FROM (SELECT value FROM berth.settings WHERE name = $1)
		FROM (SELECT coalesce(md5(jsonb_object_agg(name, value)::text), '') AS digest
			FROM public.server_settings WHERE name IN ('default_quotas', 'max_upgrades')) now`, knownSettings).Scan(&digest, &changed)
	return digest, changed, away(ctx, err)
}

// Settings returns the texts of the settings of the site that a quota depends on, by name; what is not set is empty.
func (s *Store) Settings(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := s.keeping.Query(ctx, `SELECT n, coalesce((SELECT value::text FROM public.server_settings WHERE name = n LIMIT 1), '')
		FROM unnest(ARRAY['default_quotas', 'max_upgrades']) n`)
	if err != nil {
		return nil, away(ctx, err)
	}
	settings := map[string]string{}
	var name, text string
	_, err = pgx.ForEachRow(rows, []any{&name, &text}, func() error {
		settings[name] = text
		return nil
	})
	return settings, away(ctx, err)
}

// KnowSettings notes the settings of the site for which projects are being computed.
func (s *Store) KnowSettings(ctx context.Context, digest string) error {
	return s.exec(ctx, `INSERT INTO berth.settings VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2`, knownSettings, digest)
}
