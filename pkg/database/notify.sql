-- What tells of changes in a hub's tables. It is run at each migration, as columns may have come meanwhile; to
-- replace a trigger takes no more than the right to make it.
-- The functions run with the rights of whoever changes a row, so they use nothing but what all have.

CREATE OR REPLACE FUNCTION berth.notify_license() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('berth_license', CASE TG_OP WHEN 'DELETE' THEN OLD.id ELSE NEW.id END::text);
    RETURN NULL;
END
$$;

-- Berth writes values, states and quotas itself; of that it tells nothing. A column that is not there reads as NULL.
CREATE OR REPLACE FUNCTION berth.notify_project() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was jsonb;
    now jsonb := to_jsonb(NEW);
    tell boolean := false;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        was := to_jsonb(OLD);
    END IF;
    IF jsonb_typeof(now -> 'action_request') <> 'null'
        AND (was -> 'action_request') IS DISTINCT FROM (now -> 'action_request') THEN
        tell := true;
    ELSIF TG_OP = 'UPDATE' THEN
        tell := (was -> 'settings') IS DISTINCT FROM (now -> 'settings')
            OR (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(
                    CASE jsonb_typeof(was -> 'site_license') WHEN 'object' THEN was -> 'site_license' ELSE '{}' END) k)
                IS DISTINCT FROM
               (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(
                    CASE jsonb_typeof(now -> 'site_license') WHEN 'object' THEN now -> 'site_license' ELSE '{}' END) k)
            OR (SELECT jsonb_object_agg(u.key, u.value -> 'upgrades') FROM jsonb_each(
                    CASE jsonb_typeof(was -> 'users') WHEN 'object' THEN was -> 'users' ELSE '{}' END) u
                WHERE jsonb_typeof(u.value -> 'upgrades') <> 'null')
                IS DISTINCT FROM
               (SELECT jsonb_object_agg(u.key, u.value -> 'upgrades') FROM jsonb_each(
                    CASE jsonb_typeof(now -> 'users') WHEN 'object' THEN now -> 'users' ELSE '{}' END) u
                WHERE jsonb_typeof(u.value -> 'upgrades') <> 'null');
    END IF;
    IF tell THEN
        PERFORM pg_notify('berth_project', NEW.project_id::text);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION berth.notify_settings() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.name IN ('default_quotas', 'max_upgrades') THEN
        PERFORM pg_notify('berth_settings', OLD.name);
    ELSIF TG_OP <> 'DELETE' AND NEW.name IN ('default_quotas', 'max_upgrades') THEN
        PERFORM pg_notify('berth_settings', NEW.name);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER berth_license_row AFTER INSERT OR DELETE ON public.site_licenses
    FOR EACH ROW EXECUTE FUNCTION berth.notify_license();

CREATE OR REPLACE TRIGGER berth_license_content AFTER UPDATE ON public.site_licenses
    FOR EACH ROW WHEN (
        (OLD.activates, OLD.expires, OLD.upgrades, OLD.quota, OLD.run_limit)
        IS DISTINCT FROM (NEW.activates, NEW.expires, NEW.upgrades, NEW.quota, NEW.run_limit))
    EXECUTE FUNCTION berth.notify_license();

DO $$
DECLARE
    asked text := '';
BEGIN
    IF EXISTS (SELECT FROM information_schema.columns
               WHERE table_schema = 'public' AND table_name = 'projects' AND column_name = 'action_request') THEN
        asked := ' OR OLD.action_request IS DISTINCT FROM NEW.action_request';
        CREATE OR REPLACE TRIGGER berth_project_row AFTER INSERT ON public.projects
            FOR EACH ROW EXECUTE FUNCTION berth.notify_project();
    END IF;
    EXECUTE 'CREATE OR REPLACE TRIGGER berth_project_content AFTER UPDATE ON public.projects FOR EACH ROW WHEN ('
        'OLD.site_license IS DISTINCT FROM NEW.site_license OR OLD.settings IS DISTINCT FROM NEW.settings'
        ' OR OLD.users IS DISTINCT FROM NEW.users' || asked || ') EXECUTE FUNCTION berth.notify_project()';
END
$$;

CREATE OR REPLACE TRIGGER berth_settings_row AFTER INSERT OR DELETE ON public.server_settings
    FOR EACH ROW EXECUTE FUNCTION berth.notify_settings();

CREATE OR REPLACE TRIGGER berth_settings_content AFTER UPDATE ON public.server_settings
    FOR EACH ROW WHEN ((OLD.name, OLD.value) IS DISTINCT FROM (NEW.name, NEW.value))
    EXECUTE FUNCTION berth.notify_settings();
