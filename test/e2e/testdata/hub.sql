-- A hub's database as one is dumped: its own tables and columns beside those that Berth
-- reads, times without a time zone.
CREATE TABLE accounts (account_id uuid PRIMARY KEY, email_address text, created timestamp);
CREATE TABLE projects (
    project_id uuid PRIMARY KEY,
    title text,
    description text,
    users jsonb,
    site_license jsonb,
    settings jsonb,
    state jsonb,
    run_quota jsonb,
    pay_as_you_go_quotas jsonb,
    action_request jsonb,
    last_edited timestamp,
    last_active jsonb,
    compute_image character varying(1024),
    deleted boolean
);
CREATE TABLE site_licenses (
    id uuid PRIMARY KEY,
    title text,
    description text,
    info jsonb,
    expires timestamp,
    activates timestamp,
    created timestamp,
    last_used timestamp,
    managers text[],
    restricted boolean,
    upgrades jsonb,
    quota jsonb,
    run_limit integer,
    apply_limit integer,
    voucher_code text,
    subscription_id integer
);
CREATE INDEX site_licenses_subscription_id_idx ON site_licenses (subscription_id);
CREATE TABLE server_settings (name text PRIMARY KEY, value text, readonly boolean);

INSERT INTO accounts VALUES
    ('ac000000-0000-4000-8000-000000000001', 'ada@example.org', '2024-02-03 10:00:00'),
    ('ac000000-0000-4000-8000-000000000002', NULL, '2025-02-03 10:00:00.123');
INSERT INTO server_settings VALUES
    ('kucalc', 'onprem', false),
    ('site_name', 'A hub', false),
    ('default_quotas', '{"internet": true, "idle_timeout": 3600, "mem": 1000, "cpu": 1, "cpu_oc": 10, "mem_oc": 5}', false),
    ('max_upgrades', '{"memory": 16000, "memory_request": 8000, "cores": 32, "network": 1, "cpu_shares": 2048, "mintime": 7776000, "always_running": 1}', false);
INSERT INTO site_licenses (id, title, activates, expires, created, quota, run_limit, managers, info) VALUES
    ('5e000000-0000-4000-8000-000000000001', 'Course 2026', '2026-01-01 00:00:00', NULL, '2025-12-01 09:30:00',
     '{"cpu": 1, "ram": 3, "ext_rw": true, "user": "academic", "member": true}', 100, ARRAY['ac000000-0000-4000-8000-000000000001'],
     '{"purchased": {"cost": {"cost": 12.5}}}'),
    ('5e000000-0000-4000-8000-000000000002', 'Course 2025', '2025-01-01 00:00:00', '2025-12-31 23:59:59', '2024-12-01 09:30:00',
     '{"cpu": 8, "ram": 16}', NULL, NULL, NULL);
INSERT INTO projects (project_id, title, users, site_license, settings, state, last_edited, compute_image, deleted) VALUES
    ('7f000000-0000-4000-8000-000000000001', 'Week 1',
     '{"ac000000-0000-4000-8000-000000000001": {"group": "owner"}, "ac000000-0000-4000-8000-000000000002": {"group": "collaborator", "upgrades": {"memory": 500}}}',
     '{"5e000000-0000-4000-8000-000000000001": {}, "5e000000-0000-4000-8000-000000000002": {"status": "active", "quota": {"cpu": 8, "ram": 16}}}',
     '{"mintime": 7200}', '{"time": "2026-11-20T08:00:00.000Z", "state": "opened"}', '2026-11-20 08:00:00', 'default', NULL),
    ('7f000000-0000-4000-8000-000000000002', 'Another''s', '{"ac000000-0000-4000-8000-000000000002": null}', NULL, NULL, NULL, NULL, NULL, true);
