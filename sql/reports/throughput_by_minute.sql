-- How many messages were pushed, completed and failed in each minute?
--
-- The newest minute first, and only minutes in which something happened. The newest one is not over yet.
--
-- Parameters: report.period, how far to look back (1 hour); report.lookback, how long before that a message
-- may have been pushed for its end to count (1 day). In psql: SET report.period = '6 hours';
--
-- What to do: pushed above completed + failed for many minutes means that a backlog grows: see queue_depth.
-- failed that rises: see error_rate.
WITH parameter AS (
    SELECT
        now() - period AS since,
        uuid_v7_floor(now() - period - lookback) AS first_id
    FROM coalesce(nullif(current_setting('report.period', true), '')::interval, '1 hour') AS period
    CROSS JOIN coalesce(nullif(current_setting('report.lookback', true), '')::interval, '1 day') AS lookback
),
pushed AS (
    -- Counted in the index, minute by minute: an id says when its message was pushed.
    SELECT queues.id AS queue_id, minute, counted.messages
    FROM parameter
    CROSS JOIN generate_series(date_trunc('minute', parameter.since), now(), interval '1 minute') AS minute
    CROSS JOIN queues
    CROSS JOIN LATERAL (
        SELECT count(*) AS messages
        FROM messages
        WHERE messages.queue_id = queues.id
            AND messages.id >= uuid_v7_floor(minute)
            AND messages.id < uuid_v7_floor(minute + interval '1 minute')
    ) AS counted
    WHERE counted.messages > 0
),
ended AS (
    SELECT
        queues.id AS queue_id,
        date_trunc('minute', outcomes.finished_at) AS minute,
        count(*) FILTER (WHERE outcomes.status = 'COMPLETE') AS completed,
        count(*) FILTER (WHERE outcomes.status = 'ERROR') AS failed
    FROM queues
    JOIN outcomes ON outcomes.queue_id = queues.id
    WHERE outcomes.id >= (SELECT first_id FROM parameter)
        AND outcomes.finished_at >= (SELECT date_trunc('minute', since) FROM parameter)
    GROUP BY 1, 2
)
SELECT
    minute,
    queues.name AS queue,
    coalesce(pushed.messages, 0) AS pushed,
    coalesce(ended.completed, 0) AS completed,
    coalesce(ended.failed, 0) AS failed
FROM pushed
FULL JOIN ended USING (queue_id, minute)
JOIN queues ON queues.id = queue_id
ORDER BY minute DESC, queue;
