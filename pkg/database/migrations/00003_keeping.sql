-- What the keeper has to know of a project after a crash: the command of a start that a hub has asked for and of which
-- nothing has come yet, and when the project is to be computed again.

-- +goose Up

ALTER TABLE berth.projects ADD COLUMN asked text, ADD COLUMN recompute_at timestamptz;
