-- How long do people take to answer what jobs ask?
--
-- By the kind of question, in seconds from the question to its answer. expired counts those that nobody
-- answered in time, withdrawn those that were not wanted any more: the job ended, or its worker was lost.
--
-- Parameters: report.period, how far to look back (1 day). In psql: SET report.period = '6 hours';
--
-- What to do: a p95_seconds near the credential timeout (240 s) asks for a longer one, or for a notice that
-- reaches people sooner. An open question is somebody waiting.
WITH parameter AS (
    SELECT now() - coalesce(nullif(current_setting('report.period', true), '')::interval, '1 day') AS since
),
asked AS (
    SELECT type, status, extract(epoch FROM answered_at - created_at)::float8 AS took
    FROM envelopes
    WHERE created_at >= (SELECT since FROM parameter)
),
spread AS (
    SELECT
        type,
        count(*) AS asked,
        count(took) AS answered,
        count(*) FILTER (WHERE status = 'PENDING') AS open,
        count(*) FILTER (WHERE status = 'EXPIRED') AS expired,
        count(*) FILTER (WHERE status = 'WITHDRAWN' AND took IS NULL) AS withdrawn,
        percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY took) AS took
    FROM asked
    GROUP BY type
)
SELECT
    type AS question,
    asked,
    answered,
    open,
    expired,
    withdrawn,
    round(took[1]::numeric, 1) AS p50_seconds,
    round(took[2]::numeric, 1) AS p95_seconds,
    round(took[3]::numeric, 1) AS p99_seconds
FROM spread
ORDER BY type;
