-- Who follows a job and does not keep up?
--
-- Of the jobs that run, or ended within the period, each registration that has not read the newest message,
-- the furthest behind first: how many messages it has not read, how old the oldest of them is, in seconds, and
-- how many of them are past retention already. Readers that keep their own place (`after`, event streams)
-- move no cursor, and look as if they had read nothing.
--
-- Parameters: report.period, how long after its end a job still counts (1 hour). In psql:
-- SET report.period = '6 hours';
--
-- What to do: a subscriber that is minutes behind polls too rarely or has gone away; one with lost messages
-- came too late (POSTRIDER_BROADCAST_RETENTION).
WITH parameter AS (
    SELECT now() - coalesce(nullif(current_setting('report.period', true), '')::interval, '1 hour') AS since
),
behind AS (
    SELECT
        jobs.id AS job_id,
        jobs.type_id,
        registrations.subject,
        registrations.via,
        registrations.cursor,
        jobs.seq - registrations.cursor AS unread
    FROM jobs
    JOIN registrations ON registrations.job_id = jobs.id
    WHERE registrations.cursor < jobs.seq
        AND (jobs.completed_at IS NULL OR jobs.completed_at >= (SELECT since FROM parameter))
    ORDER BY unread DESC, jobs.id
    LIMIT 100
)
SELECT
    job_types.name AS job_type,
    behind.job_id,
    behind.subject,
    behind.via,
    behind.unread,
    round(extract(epoch FROM now() - kept.oldest)::numeric, 1) AS oldest_seconds,
    behind.unread - kept.messages AS lost
FROM behind
JOIN job_types ON job_types.id = behind.type_id
CROSS JOIN LATERAL (
    SELECT min(created_at) AS oldest, count(*) AS messages
    FROM broadcasts
    WHERE broadcasts.job_id = behind.job_id AND broadcasts.seq > behind.cursor
) AS kept
ORDER BY behind.unread DESC, behind.job_id, behind.subject, behind.via;
