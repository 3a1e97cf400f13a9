-- How did the attempts at each queue's messages end?
--
-- completed and failed: the attempt ended its message. retried: it failed, and the message is tried again. lost:
-- its worker died or lost its lease, whatever followed. The words are those of the metric
-- postrider_attempts_total.
--
-- Parameters: report.period, how far to look back (1 hour); report.lookback, how long before that a message
-- may have been pushed to count (1 day). In psql: SET report.period = '6 hours';
--
-- What to do: many retried for one completed means that a handler, or what it calls, is at its limit: lower
-- the concurrency or raise retry.base. Any lost: look at the workers' logs and memory.
WITH parameter AS (
    SELECT
        now() - period AS since,
        uuid_v7_floor(now() - period - lookback) AS first_id
    FROM coalesce(nullif(current_setting('report.period', true), '')::interval, '1 hour') AS period
    CROSS JOIN coalesce(nullif(current_setting('report.lookback', true), '')::interval, '1 day') AS lookback
),
ended AS (
    SELECT queue_id, id, status::text AS status, error, finished_at - started_at AS ran
    FROM outcomes
    WHERE id >= (SELECT first_id FROM parameter)
        AND finished_at >= (SELECT since FROM parameter)
    UNION ALL
    SELECT queue_id, id, 'AGAIN', error, finished_at - started_at
    FROM attempts
    WHERE id >= (SELECT first_id FROM parameter)
        AND finished_at >= (SELECT since FROM parameter)
),
named AS (
    SELECT
        queue_id,
        id,
        ran,
        CASE
            WHEN status = 'COMPLETE' THEN 'completed'
            -- json keeps what PostgreSQL's text cannot hold; to look into it as it is would fail.
            WHEN json_typeof(error) = 'object' AND readable_json(error) ->> 'name' = 'WorkerLost' THEN 'lost'
            ELSE status
        END AS outcome
    FROM ended
)
SELECT
    queues.name AS queue,
    CASE named.outcome
        WHEN 'ERROR' THEN 'failed'
        WHEN 'AGAIN' THEN 'retried'
        ELSE named.outcome
    END AS outcome,
    count(*) AS attempts,
    count(DISTINCT named.id) AS messages,
    round((extract(epoch FROM avg(named.ran)) * 1000)::numeric, 1) AS average_ms,
    round((extract(epoch FROM max(named.ran)) * 1000)::numeric, 1) AS longest_ms
FROM named
JOIN queues ON queues.id = named.queue_id
GROUP BY 1, 2
ORDER BY queue, outcome;
