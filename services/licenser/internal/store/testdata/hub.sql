-- A hub's database, as a site may have it: made up, in the documented schema, with columns and tables that Berth
-- knows nothing of. The role hub_berth is the one that Berth gets.

CREATE TABLE public.accounts (
    account_id uuid PRIMARY KEY,
    email_address text,
    first_name text,
    last_active timestamp without time zone
);

CREATE TABLE public.site_licenses (
    id uuid PRIMARY KEY,
    title text,
    description text,
    info jsonb,
    expires timestamp without time zone,
    activates timestamp without time zone,
    created timestamp without time zone,
    last_used timestamp without time zone,
    managers text[],
    restricted boolean,
    upgrades jsonb,
    quota jsonb,
    run_limit integer,
    apply_limit integer,
    voucher_code text,
    subscription_id integer
);
CREATE INDEX site_licenses_dedicated_disk_idx ON public.site_licenses USING btree (((quota -> 'dedicated_disk') IS NOT NULL));
CREATE INDEX site_licenses_dedicated_vm_idx ON public.site_licenses USING btree (((quota -> 'dedicated_vm') IS NOT NULL));

CREATE TABLE public.projects (
    project_id uuid PRIMARY KEY,
    title character varying(256),
    description text,
    users jsonb,
    invite jsonb,
    deleted boolean,
    host jsonb,
    settings jsonb,
    status jsonb,
    state jsonb,
    last_edited timestamp without time zone,
    last_started timestamp without time zone,
    last_active jsonb,
    created timestamp without time zone,
    action_request jsonb,
    storage jsonb,
    run boolean,
    site_license jsonb,
    run_quota jsonb,
    compute_image text,
    addons jsonb,
    lang text,
    pay_as_you_go_quotas jsonb
);
CREATE INDEX projects_users_idx ON public.projects USING gin (users);
CREATE INDEX projects_site_license_idx ON public.projects USING gin (site_license);

CREATE TABLE public.server_settings (
    name text PRIMARY KEY,
    value text,
    readonly boolean,
    last_value text
);

CREATE TABLE public.site_license_usage_log (
    license_id uuid NOT NULL,
    project_id uuid NOT NULL,
    start timestamp without time zone NOT NULL,
    stop timestamp without time zone,
    PRIMARY KEY (license_id, project_id, start)
);

INSERT INTO public.accounts VALUES
    ('0a0a0a0a-0000-4000-8000-000000000001', 'teacher@example.org', 'Ada', '2026-09-01 08:00:00.123'),
    ('0a0a0a0a-0000-4000-8000-000000000002', 'student@example.org', 'Bo', NULL);

INSERT INTO public.server_settings VALUES
    ('default_quotas', '{"internet": true, "idle_timeout": 3600, "mem": 1000, "cpu": 1, "cpu_oc": 10, "mem_oc": 5}', false, NULL),
    ('max_upgrades', 'not JSON at all', false, NULL),
    ('kucalc', 'onprem', true, NULL),
    ('site_name', 'A hub', NULL, 'Another hub');

INSERT INTO public.site_licenses
    (id, title, description, info, activates, expires, created, last_used, managers, upgrades, quota, run_limit, restricted, subscription_id) VALUES
    ('10000000-0000-4000-8000-000000000001', 'Course', 'For <everybody>', '{"purchased": {"cost": 1.5}}', '2026-01-01 00:00:00', NULL,
     '2025-12-24 12:00:00.5', NULL, '{0a0a0a0a-0000-4000-8000-000000000001}', NULL,
     '{"cpu": 1, "ram": 3, "member": true, "idle_timeout": "medium", "user": "academic"}', 2, true, 7),
    ('10000000-0000-4000-8000-000000000002', 'Old', NULL, NULL, '2020-01-01', '2021-01-01', NULL, '2020-12-31 23:59:59', NULL,
     '{"cores": 2, "memory": 4000}', NULL, NULL, NULL, NULL),
    ('10000000-0000-4000-8000-000000000003', 'Software', NULL, NULL, '2026-01-01', '2036-01-01', NULL, NULL, '{}', NULL,
     '{"ext_rw": true, "patch": "[{\"op\": \"add\", \"path\": \"/metadata/labels/a\", \"value\": \"b\"}]"}', 0, NULL, NULL),
    ('10000000-0000-4000-8000-000000000004', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO public.projects
    (project_id, title, users, settings, state, last_edited, created, action_request, site_license, run_quota, host, run, lang) VALUES
    ('20000000-0000-4000-8000-000000000001', 'First',
     '{"0a0a0a0a-0000-4000-8000-000000000001": {"group": "owner", "upgrades": {"cores": 1}}, "0a0a0a0a-0000-4000-8000-000000000002": null}',
     '{"disk_quota": "9000.5"}', '{"state": "opened", "time": "2026-09-01T08:00:00Z"}', '2026-09-01 08:00:00', '2026-01-01',
     NULL, '{"10000000-0000-4000-8000-000000000001": {}, "10000000-0000-4000-8000-000000000002": {"status": "active", "quota": {"cpu": 9}},
             "10000000-0000-4000-8000-000000000003": null, "NOT-A-UUID": {"kept": [1, 2.50, "x"]}}',
     '{"cpu_limit": 1, "idle_timeout": 1800, "always_running": false, "patch": [{"op": "test"}]}', '{"host": "node-1"}', true, 'de'),
    ('20000000-0000-4000-8000-000000000002', 'Second', '{}', NULL, NULL, NULL, NULL,
     '{"action": "start", "started": "2026-09-01T09:00:00Z"}', '{"10000000-0000-4000-8000-000000000001": {}}', NULL, NULL, NULL, NULL),
    ('20000000-0000-4000-8000-000000000003', 'Third', NULL, '[]', '"odd"', NULL, NULL, NULL, '["odd"]', '"odd"', NULL, NULL, NULL),
    ('20000000-0000-4000-8000-000000000004', 'Fourth', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO public.site_license_usage_log VALUES
    ('10000000-0000-4000-8000-000000000001', '20000000-0000-4000-8000-000000000001', '2026-08-01 00:00:00', '2026-08-01 01:00:00');
