-- The tables of a hub, where they are missing, and Berth's own.

-- +goose Up

CREATE TABLE berth.settings (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- CREATE TABLE IF NOT EXISTS asks for the right to create even where there is nothing to do.
-- +goose StatementBegin
DO $$
BEGIN
    IF to_regclass('public.projects') IS NULL THEN
        CREATE TABLE public.projects (
            project_id           uuid PRIMARY KEY,
            title                text,
            site_license         jsonb,
            settings             jsonb,
            users                jsonb,
            state                jsonb,
            run_quota            jsonb,
            pay_as_you_go_quotas jsonb,
            action_request       jsonb,
            last_edited          timestamp,
            created              timestamp DEFAULT now()
        );
        CREATE INDEX projects_site_license_idx ON public.projects USING gin (site_license);
        INSERT INTO berth.settings VALUES ('owns_tables', 'true');
    ELSE
        INSERT INTO berth.settings VALUES ('owns_tables', 'false');
    END IF;
    IF to_regclass('public.site_licenses') IS NULL THEN
        CREATE TABLE public.site_licenses (
            id          uuid PRIMARY KEY,
            title       text,
            description text,
            activates   timestamp,
            expires     timestamp,
            upgrades    jsonb,
            quota       jsonb,
            run_limit   integer,
            last_used   timestamp,
            created     timestamp DEFAULT now(),
            managers    text[]
        );
    END IF;
    IF to_regclass('public.server_settings') IS NULL THEN
        CREATE TABLE public.server_settings (
            name  text PRIMARY KEY,
            value text
        );
    END IF;
END
$$;
-- +goose StatementEnd

-- Who uses a license now. A seat that is kept waits for the next pod of the name.
CREATE TABLE berth.seats (
    license_id uuid NOT NULL,
    cluster    text NOT NULL,
    pod        text NOT NULL,
    generation text NOT NULL,
    user_id    text NOT NULL,
    project_id uuid,
    granted_at timestamptz NOT NULL,
    kept_until timestamptz,
    PRIMARY KEY (license_id, cluster, pod)
);
CREATE INDEX seats_pod_idx ON berth.seats (cluster, pod);

-- Who has used a license, from when to when; stop is unset while it lasts.
CREATE TABLE berth.usage_log (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    license_id uuid NOT NULL,
    cluster    text NOT NULL,
    pod        text NOT NULL,
    generation text NOT NULL,
    user_id    text NOT NULL,
    project_id uuid,
    start      timestamptz NOT NULL,
    stop       timestamptz
);
CREATE INDEX usage_log_license_idx ON berth.usage_log (license_id, id DESC);
CREATE UNIQUE INDEX usage_log_open_idx ON berth.usage_log (cluster, pod, license_id) WHERE stop IS NULL;

-- The licenses of the pods of people.
CREATE TABLE berth.user_licenses (
    user_id    text NOT NULL,
    license_id uuid NOT NULL,
    PRIMARY KEY (user_id, license_id)
);
CREATE INDEX user_licenses_license_idx ON berth.user_licenses (license_id);

-- What Berth knows of a project beyond its row in public.projects.
CREATE TABLE berth.projects (
    project_id    uuid PRIMARY KEY,
    image         text,
    tag           text,
    env           jsonb,
    config        jsonb,
    wanted        boolean NOT NULL DEFAULT false,
    last_activity timestamptz,
    started_at    timestamptz,
    failures      integer NOT NULL DEFAULT 0,
    retry_at      timestamptz,
    error         text,
    digest        text
);

-- The content of the licenses for which the projects have been computed.
CREATE TABLE berth.known_licenses (
    license_id uuid PRIMARY KEY,
    digest     text NOT NULL
);
