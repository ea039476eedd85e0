-- When a use of a license ended: for the removal of old ones.

-- +goose Up

CREATE INDEX usage_log_stop_idx ON berth.usage_log (cluster, stop) WHERE stop IS NOT NULL;
