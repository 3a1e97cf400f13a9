-- What became of the moments of each queue's schedules, and are any late?
--
-- fired: a message was pushed. overlapped: none was, since the message before had not ended,
-- or another message held its value (unique). missed: nobody was there
-- within a minute, and the schedule makes up for nothing. by_hand: it was run by hand. Of those that fired, the delay is
-- how long after its moment that was. late_seconds is how long the next moment is overdue.
--
-- What was seen to in the period counts, however long ago its moment was: after an outage that is what was missed.
--
-- Parameters: report.period, how far back (1 day; known for 7). In psql: SET report.period = '7 days';
--
-- What to do: the last column says it, if there is something to do.
WITH parameter AS (
    SELECT now() - coalesce(nullif(current_setting('report.period', true), '')::interval, '1 day') AS since
),
runs AS (
    SELECT
        ticks.owner,
        count(*) FILTER (WHERE ticks.outcome = 'fired') AS fired,
        count(*) FILTER (WHERE ticks.outcome = 'overlapped') AS overlapped,
        count(*) FILTER (WHERE ticks.outcome = 'missed') AS missed,
        count(*) FILTER (WHERE ticks.outcome = 'by hand') AS by_hand,
        percentile_disc(0.5) WITHIN GROUP (ORDER BY ticks.fired_at - ticks.at)
            FILTER (WHERE ticks.outcome = 'fired') AS delay_p50,
        max(ticks.fired_at - ticks.at) FILTER (WHERE ticks.outcome = 'fired') AS delay_max
    FROM ticks
    WHERE ticks.kind = 'queue' AND ticks.fired_at >= (SELECT since FROM parameter)
    GROUP BY ticks.owner
)
SELECT
    queues.name AS queue,
    queue_schedules.name AS schedule,
    coalesce(runs.fired, 0) AS fired,
    coalesce(runs.overlapped, 0) AS overlapped,
    coalesce(runs.missed, 0) AS missed,
    coalesce(runs.by_hand, 0) AS by_hand,
    round(extract(epoch FROM runs.delay_p50)::numeric, 3) AS delay_p50_seconds,
    round(extract(epoch FROM runs.delay_max)::numeric, 3) AS delay_max_seconds,
    schedules.last_at AS last_run,
    schedules.next_at AS next_run,
    greatest(round(extract(epoch FROM now() - schedules.next_at)::numeric, 1), 0) AS late_seconds,
    CASE
        WHEN schedules.next_at < now() - interval '1 minute' THEN 'nobody fires it: start a server or a worker'
        WHEN schedules.next_at IS NULL THEN 'it is switched off'
        WHEN runs.overlapped > runs.fired AND queue_handlers.is_unique
            THEN 'messages of its value, its own or others, had not ended: see options.unique of the queue'
        WHEN runs.overlapped > runs.fired THEN 'its messages take longer than its period: see throughput_by_minute'
        WHEN runs.missed > 0 THEN 'no server was there: missed: run_once makes up for such moments once'
    END AS why
FROM queue_schedules
JOIN queues ON queues.id = queue_schedules.queue_id
JOIN queue_handlers ON queue_handlers.queue_id = queues.id
LEFT JOIN schedules ON schedules.kind = 'queue' AND schedules.owner = queue_schedules.id
LEFT JOIN runs ON runs.owner = queue_schedules.id
ORDER BY late_seconds DESC NULLS LAST, queue, schedule;
