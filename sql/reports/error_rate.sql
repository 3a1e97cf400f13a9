-- What share of the messages that ended did fail, and with which error most often?
--
-- Parameters: report.period, how far to look back (1 hour); report.lookback, how long before that a message
-- may have been pushed to count (1 day). In psql: SET report.period = '6 hours';
--
-- What to do: WorkerLost points at workers that die or hang, TimeoutError at the queue's timeout,
-- ValidationError at whoever enqueues by SQL; any other name is the handler's own. Read one of the messages
-- (GET /queues/{queue}/messages?status=ERROR), mend the cause, then run them again
-- (POST /queues/{queue}/messages:retry).
WITH parameter AS (
    SELECT
        now() - period AS since,
        uuid_v7_floor(now() - period - lookback) AS first_id
    FROM coalesce(nullif(current_setting('report.period', true), '')::interval, '1 hour') AS period
    CROSS JOIN coalesce(nullif(current_setting('report.lookback', true), '')::interval, '1 day') AS lookback
),
ended AS (
    SELECT queues.name AS queue, outcome_causes.status, outcome_causes.finished_at, outcome_causes.error
    FROM queues
    JOIN outcome_causes ON outcome_causes.queue_id = queues.id
    WHERE outcome_causes.id >= (SELECT first_id FROM parameter)
        AND outcome_causes.finished_at >= (SELECT since FROM parameter)
)
SELECT
    queue,
    count(*) AS ended,
    count(*) FILTER (WHERE status = 'COMPLETE') AS completed,
    count(*) FILTER (WHERE status = 'ERROR') AS failed,
    round(100.0 * count(*) FILTER (WHERE status = 'ERROR') / count(*), 2) AS failed_percent,
    left(mode() WITHIN GROUP (ORDER BY error), 100) AS commonest_error,
    max(finished_at) FILTER (WHERE status = 'ERROR') AS last_failed_at
FROM ended
GROUP BY queue
ORDER BY failed_percent DESC, failed DESC, queue;
