-- How long do messages of the hub take until their endpoint has them?
--
-- For each mapping, in seconds from the moment that the delivery was made to the answer that ended it, waits and
-- repeated attempts included. first_percent is the share that needed one attempt.
--
-- Parameters: report.period, how far to look back (1 hour); report.lookback, how long before that a delivery
-- may have been made to count (1 day). In psql: SET report.period = '6 hours';
--
-- What to do: a low first_percent points at the endpoint (failing_endpoints). With a high one and a high
-- p95_seconds the endpoint is slow or too few requests run at once: compare delivery_attempts_by_outcome, then raise
-- its concurrency or its rate.
WITH parameter AS (
    SELECT
        now() - period AS since,
        uuid_v7_floor(now() - period - lookback) AS first_id
    FROM coalesce(nullif(current_setting('report.period', true), '')::interval, '1 hour') AS period
    CROSS JOIN coalesce(nullif(current_setting('report.lookback', true), '')::interval, '1 day') AS lookback
),
delivered AS (
    SELECT mapping_id, attempts, extract(epoch FROM finished_at - uuid_v7_time(id))::float8 AS took
    FROM deliveries
    WHERE id >= (SELECT first_id FROM parameter)
        AND finished_at >= (SELECT since FROM parameter)
        AND status = 'COMPLETE'
),
spread AS (
    SELECT
        mapping_id,
        count(*) AS delivered,
        count(*) FILTER (WHERE attempts = 1) AS at_first,
        percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY took) AS took,
        max(took) AS longest
    FROM delivered
    GROUP BY mapping_id
)
SELECT
    stores.name AS store,
    mappings.name AS mapping,
    endpoints.name AS endpoint,
    spread.delivered,
    round(100.0 * spread.at_first / spread.delivered, 1) AS first_percent,
    round(spread.took[1]::numeric, 3) AS p50_seconds,
    round(spread.took[2]::numeric, 3) AS p95_seconds,
    round(spread.took[3]::numeric, 3) AS p99_seconds,
    round(spread.longest::numeric, 3) AS longest_seconds
FROM spread
JOIN mappings ON mappings.id = spread.mapping_id
JOIN stores ON stores.id = mappings.store_id
LEFT JOIN endpoints ON endpoints.id = mappings.endpoint_id
ORDER BY p95_seconds DESC, store, mapping;
