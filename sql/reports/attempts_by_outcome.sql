-- How did the attempts at each queue's messages end?
--
-- completed and failed: the attempt ended its message. retried: it failed, and the message is tried again. snoozed:
-- its handler put the message off. lost: its worker died or lost its lease, whatever followed. given back: its worker
-- was told to stop. The other words are those of the metric postrider_attempts_total.
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
    SELECT
        queue_id,
        id,
        CASE WHEN ending IN ('completed', 'lost') THEN ending::text ELSE 'failed' END AS outcome,
        finished_at - started_at AS ran
    FROM outcomes
    WHERE id >= (SELECT first_id FROM parameter)
        AND finished_at >= (SELECT since FROM parameter)
    UNION ALL
    SELECT
        queue_id,
        id,
        CASE ending WHEN 'lost' THEN 'lost' WHEN 'snoozed' THEN 'snoozed' WHEN 'given_back' THEN 'given back' ELSE 'retried' END,
        finished_at - started_at
    FROM attempts
    WHERE id >= (SELECT first_id FROM parameter)
        AND finished_at >= (SELECT since FROM parameter)
)
SELECT
    queues.name AS queue,
    ended.outcome,
    count(*) AS attempts,
    count(DISTINCT ended.id) AS messages,
    round((extract(epoch FROM avg(ended.ran)) * 1000)::numeric, 1) AS average_ms,
    round((extract(epoch FROM max(ended.ran)) * 1000)::numeric, 1) AS longest_ms
FROM ended
JOIN queues ON queues.id = ended.queue_id
GROUP BY queues.name, ended.outcome
ORDER BY queue, outcome;
