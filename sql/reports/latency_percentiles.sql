-- How long did messages wait, run, and take altogether?
--
-- Of the messages that ended in the period, in milliseconds. waited: from the push to the claim of the attempt
-- that ended it, a delay and earlier attempts included. ran: from that claim until its end was written. took:
-- both.
--
-- Parameters: report.period, how far to look back (1 hour); report.lookback, how long before that a message
-- may have been pushed to count (1 day). In psql: SET report.period = '6 hours';
--
-- What to do: waited far above ran asks for concurrency or workers; ran near the queue's timeout asks for a
-- longer timeout or a quicker handler.
WITH parameter AS (
    SELECT
        now() - period AS since,
        uuid_v7_floor(now() - period - lookback) AS first_id
    FROM coalesce(nullif(current_setting('report.period', true), '')::interval, '1 hour') AS period
    CROSS JOIN coalesce(nullif(current_setting('report.lookback', true), '')::interval, '1 day') AS lookback
),
ended AS (
    SELECT
        queues.name AS queue,
        -- The moment inside an id is another clock's than the claim's, by a millisecond or so.
        greatest(extract(epoch FROM outcomes.started_at - uuid_v7_time(outcomes.id)), 0) * 1000 AS waited,
        extract(epoch FROM outcomes.finished_at - outcomes.started_at) * 1000 AS ran
    FROM queues
    JOIN outcomes ON outcomes.queue_id = queues.id
    WHERE outcomes.id >= (SELECT first_id FROM parameter)
        AND outcomes.finished_at >= (SELECT since FROM parameter)
),
spread AS (
    SELECT
        queue,
        count(*) AS ended,
        percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY waited::float8) AS waited,
        percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY ran::float8) AS ran,
        percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY (waited + ran)::float8) AS took
    FROM ended
    GROUP BY queue
)
SELECT
    queue,
    ended,
    round(waited[1]::numeric, 1) AS waited_p50_ms,
    round(waited[2]::numeric, 1) AS waited_p95_ms,
    round(waited[3]::numeric, 1) AS waited_p99_ms,
    round(ran[1]::numeric, 1) AS ran_p50_ms,
    round(ran[2]::numeric, 1) AS ran_p95_ms,
    round(ran[3]::numeric, 1) AS ran_p99_ms,
    round(took[1]::numeric, 1) AS took_p50_ms,
    round(took[2]::numeric, 1) AS took_p95_ms,
    round(took[3]::numeric, 1) AS took_p99_ms
FROM spread
ORDER BY took_p95_ms DESC, queue;
