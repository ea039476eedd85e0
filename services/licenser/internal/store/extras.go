package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"berth/pkg/events"
)

// asked are the values of a start as columns take them; nil is what is left out.
type asked struct{ image, tag, env, config *string }

// askedOf reads them. What is to be as the site gives it is empty.
func askedOf(p *events.ProjectRequest) (asked, error) {
	a := asked{image: text(p.Image), tag: text(p.Tag), config: argument(p.Config)}
	if p.Env != nil {
		env, err := json.Marshal(p.Env)
		if err != nil {
			return a, fmt.Errorf("encode variables: %w", err)
		}
		a.env = argument(env)
	}
	for _, member := range []struct {
		name, empty string
		value       **string
	}{
		{events.ResetImage, "", &a.image},
		{events.ResetTag, "", &a.tag},
		{events.ResetEnv, "{}", &a.env},
		{events.ResetConfig, "{}", &a.config},
	} {
		if *member.value == nil && p.Resets(member.name) {
			*member.value = &member.empty
		}
	}
	return a, nil
}

// extras reads what the project was started with, and what is asked for now in its place. A start keeps what there was
// before it until [Store.Lives] says that its pod is ready, see [Store.Undo].
func (c *check) extras(ctx context.Context, e *Extras) error {
	a, err := askedOf(c.req.Project)
	if err != nil {
		return err
	}
	if c.req.Mode == Recompute {
		a = asked{}
	}
	values := []any{c.req.Project.ID, a.image, a.tag, a.env, a.config}
	// The parameters are merged with what there is in either statement.
	query := `SELECT coalesce($2, image, ''), coalesce($3, tag, ''), coalesce($4, env), coalesce($5, config)
		FROM (SELECT $1::uuid AS project_id) asked LEFT JOIN berth.projects USING (project_id)`
	if c.req.Mode == Start {
		query = `INSERT INTO berth.projects AS p (project_id, image, tag, env, config, before)
				VALUES ($1, $2, $3, $4, $5, jsonb_build_object('command', $6::text))
			ON CONFLICT (project_id) DO UPDATE SET image = coalesce(excluded.image, p.image), tag = coalesce(excluded.tag, p.tag),
				env = coalesce(excluded.env, p.env), config = coalesce(excluded.config, p.config),
				before = CASE WHEN p.before ->> 'command' = $6 THEN p.before
					ELSE jsonb_build_object('command', $6::text, 'image', p.image, 'tag', p.tag, 'env', p.env, 'config', p.config) END
			RETURNING coalesce(image, ''), coalesce(tag, ''), env, config`
		values = append(values, c.req.Command)
	}
	var env, config []byte
	if err := c.tx.QueryRow(ctx, query, values...).Scan(&e.Image, &e.Tag, &env, &config); err != nil {
		return err
	}
	e.Config = set(config)
	if set(env) == nil {
		return nil
	}
	if err := json.Unmarshal(env, &e.Env); err != nil {
		return fmt.Errorf("%w: berth.projects.env of %s is no object of texts", ErrInvalid, c.req.Project.ID)
	}
	return nil
}

// blame returns the fault of a start where it is one of its values that the database does not take, else fault.
func (s *Store) blame(ctx context.Context, req CheckRequest, fault error) error {
	if req.Project == nil {
		return fault
	}
	a, err := askedOf(req.Project)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	for _, member := range []struct {
		name, kind string
		value      *string
	}{
		{events.ResetImage, "text", a.image},
		{events.ResetTag, "text", a.tag},
		{events.ResetEnv, "jsonb", a.env},
		{events.ResetConfig, "jsonb", a.config},
	} {
		_, err := s.pool.Exec(ctx, `SELECT $1::`+member.kind, member.value)
		code := (*pgconn.PgError)(nil)
		switch {
		case errors.Is(wrong(err), ErrInvalid) && errors.As(err, &code):
			return fmt.Errorf("%w: %s: %s", ErrAsked, member.name, code.Message)
		case err != nil:
			return away(ctx, err)
		}
	}
	return fault
}

// Unsettled returns the command of the last start of a project of which nobody has said yet what became of it, empty
// for none: its values are the project's unless [Store.Undo] takes them back.
func (s *Store) Unsettled(ctx context.Context, project string) (command string, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	err = s.pool.QueryRow(ctx, `SELECT coalesce((SELECT before ->> 'command' FROM berth.projects WHERE project_id = $1), '')`, project).Scan(&command)
	return command, away(ctx, err)
}

// Undo takes back image, tag, variables and configuration of a start that came to nothing, unless another one has
// begun since.
func (s *Store) Undo(ctx context.Context, project, command string) error {
	return s.exec(ctx, `UPDATE berth.projects SET image = before ->> 'image', tag = before ->> 'tag',
			env = nullif(before -> 'env', 'null'), config = nullif(before -> 'config', 'null'), before = NULL
		WHERE project_id = $1 AND before ->> 'command' = $2`, project, command)
}
