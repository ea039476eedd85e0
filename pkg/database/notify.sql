-- What tells of changes in a hub's tables. It is run at each migration; to replace a trigger takes no more than the right to make it.
-- The functions run with the rights of whoever changes a row, so they use nothing but what all have.
--
-- The tables are the hub's: no trigger names a column, since that would keep the hub from changing its type or dropping it, and no fault
-- in here is in the way of a change. Berth sees that change at its next look. What tells of it stands outside of the block that catches such
-- faults: told inside, the memory of each row is kept until the transaction ends.

CREATE OR REPLACE FUNCTION berth.notify_license() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was jsonb;
    now jsonb;
    changed text;
BEGIN
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            -- Of more than anybody has, the others are seen at the next look.
            PERFORM pg_notify('berth_license', id::text) FROM (SELECT id FROM public.site_licenses LIMIT 10000) gone;
            RETURN NULL;
        END IF;
        IF TG_OP = 'UPDATE' THEN
            -- As below: Berth itself writes last_used at each start.
            BEGIN
                IF OLD.activates IS NOT DISTINCT FROM NEW.activates AND OLD.expires IS NOT DISTINCT FROM NEW.expires
                    AND OLD.upgrades IS NOT DISTINCT FROM NEW.upgrades AND OLD.quota IS NOT DISTINCT FROM NEW.quota
                    AND OLD.run_limit IS NOT DISTINCT FROM NEW.run_limit THEN
                    RETURN NULL;
                END IF;
            EXCEPTION WHEN OTHERS THEN
                NULL;
            END;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            was := to_jsonb(OLD);
        END IF;
        IF TG_OP <> 'DELETE' THEN
            now := to_jsonb(NEW);
        END IF;
        IF TG_OP <> 'UPDATE' OR EXISTS (SELECT FROM unnest(ARRAY['activates', 'expires', 'upgrades', 'quota', 'run_limit']) k
                                        WHERE (was -> k) IS DISTINCT FROM (now -> k)) THEN
            changed := coalesce(now, was) ->> 'id';
        END IF;
    EXCEPTION WHEN OTHERS THEN
        RETURN NULL;
    END;
    PERFORM pg_notify('berth_license', changed) WHERE length(changed) < 100;
    RETURN NULL;
END
$$;

-- Berth writes values, states and quotas itself; of that it tells nothing. A column that is not there reads as NULL.
CREATE OR REPLACE FUNCTION berth.notify_project() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was jsonb;
    now jsonb;
    tell boolean := false;
    changed text;
BEGIN
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            -- Hubs write states and times all the time, which is to cost them next to nothing. Of a table that is not as it was or as it should
            -- be, this fails, and what takes longer finds out.
            BEGIN
                IF OLD.site_license IS NOT DISTINCT FROM NEW.site_license AND OLD.settings IS NOT DISTINCT FROM NEW.settings
                    AND OLD.users IS NOT DISTINCT FROM NEW.users AND OLD.action_request IS NOT DISTINCT FROM NEW.action_request THEN
                    RETURN NULL;
                END IF;
            EXCEPTION WHEN OTHERS THEN
                NULL;
            END;
            was := to_jsonb(OLD);
        END IF;
        now := to_jsonb(NEW);
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
            changed := now ->> 'project_id';
        END IF;
    EXCEPTION WHEN OTHERS THEN
        RETURN NULL;
    END;
    PERFORM pg_notify('berth_project', changed) WHERE length(changed) < 100;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION berth.notify_settings() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was jsonb;
    now jsonb;
    changed text;
BEGIN
    BEGIN
        IF TG_OP IN ('UPDATE', 'DELETE') THEN
            was := to_jsonb(OLD);
        END IF;
        IF TG_OP IN ('INSERT', 'UPDATE') THEN
            now := to_jsonb(NEW);
        END IF;
        IF TG_OP = 'TRUNCATE' THEN
            changed := 'default_quotas';
        ELSIF (was -> 'name') IS DISTINCT FROM (now -> 'name') OR (was -> 'value') IS DISTINCT FROM (now -> 'value') THEN
            changed := (SELECT name FROM unnest(ARRAY[was ->> 'name', now ->> 'name']) name WHERE name IN ('default_quotas', 'max_upgrades') LIMIT 1);
        END IF;
    EXCEPTION WHEN OTHERS THEN
        RETURN NULL;
    END;
    PERFORM pg_notify('berth_settings', changed) WHERE changed IS NOT NULL;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER berth_license_row AFTER INSERT OR DELETE ON public.site_licenses
    FOR EACH ROW EXECUTE FUNCTION berth.notify_license();

CREATE OR REPLACE TRIGGER berth_license_content AFTER UPDATE ON public.site_licenses
    FOR EACH ROW EXECUTE FUNCTION berth.notify_license();

CREATE OR REPLACE TRIGGER berth_license_all BEFORE TRUNCATE ON public.site_licenses
    FOR EACH STATEMENT EXECUTE FUNCTION berth.notify_license();

CREATE OR REPLACE TRIGGER berth_project_row AFTER INSERT ON public.projects
    FOR EACH ROW EXECUTE FUNCTION berth.notify_project();

CREATE OR REPLACE TRIGGER berth_project_content AFTER UPDATE ON public.projects
    FOR EACH ROW EXECUTE FUNCTION berth.notify_project();

CREATE OR REPLACE TRIGGER berth_settings_row AFTER INSERT OR DELETE ON public.server_settings
    FOR EACH ROW EXECUTE FUNCTION berth.notify_settings();

CREATE OR REPLACE TRIGGER berth_settings_content AFTER UPDATE ON public.server_settings
    FOR EACH ROW EXECUTE FUNCTION berth.notify_settings();

CREATE OR REPLACE TRIGGER berth_settings_all BEFORE TRUNCATE ON public.server_settings
    FOR EACH STATEMENT EXECUTE FUNCTION berth.notify_settings();
