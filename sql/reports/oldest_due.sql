-- Which message of each queue has been due the longest, and why does it not run?
--
-- waiting_seconds counts from the push, or for a message that waited for a time, from that time.
--
-- Parameters: none.
--
-- What to do: the last column says it. A queue without a row has nothing due.
SELECT
    queues.name AS queue,
    oldest.item AS message,
    uuid_v7_time(oldest.item) AS pushed_at,
    round(extract(epoch FROM now() - oldest.due_at)::numeric, 1) AS waiting_seconds,
    oldest.attempt AS attempts_made,
    CASE
        WHEN queues.paused_at IS NOT NULL THEN 'the queue is paused: POST /queues/{queue}/resume'
        WHEN queue_handlers.kind IS NULL THEN 'the queue has no handler: PUT /queues/{queue}/handler'
        WHEN queue_handlers.kind = 'worker' THEN 'no remote worker claims it: POST /queues/{queue}/claim'
        WHEN queue_handlers.kind = 'native' AND NOT queue_runners.is_there
        THEN 'no process lives that has the native handler ' || queue_handlers.native
            || ': start the program that registers it, or correct handler.name'
        WHEN NOT EXISTS (
            SELECT
            FROM workers
            WHERE workers.given_up_at IS NULL AND NOT is_silent(workers.heartbeat, workers.lease)
        ) THEN 'no worker lives: start postrider serve or postrider worker'
        WHEN NOT queue_runners.is_there
        THEN 'no process lives that runs JavaScript: start postrider serve or postrider worker'
        ELSE 'it waits for room: raise options.concurrency, or start another worker'
    END AS why
FROM queues
JOIN queue_handlers ON queue_handlers.queue_id = queues.id
LEFT JOIN queue_runners ON queue_runners.queue_id = queues.id
CROSS JOIN LATERAL (
    SELECT waiting.item, waiting.due_at, waiting.attempt
    FROM (
        (
            SELECT dispatch.item, uuid_v7_time(dispatch.item) AS due_at, dispatch.attempt
            FROM dispatch
            WHERE dispatch.lane = queues.id
            ORDER BY dispatch.item
            LIMIT 1
        )
        UNION ALL
        (
            SELECT scheduled.item, scheduled.run_at, scheduled.attempt
            FROM scheduled
            WHERE scheduled.run_at <= now() AND scheduled.lane = queues.id
            ORDER BY scheduled.run_at
            LIMIT 1
        )
    ) AS waiting
    ORDER BY waiting.due_at
    LIMIT 1
) AS oldest
ORDER BY waiting_seconds DESC, queue;
