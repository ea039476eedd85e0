-- What a project was started with before its last start, under the members command, image, tag, env and config: for a start
-- that comes to nothing.

-- +goose Up

ALTER TABLE berth.projects ADD COLUMN before jsonb;
