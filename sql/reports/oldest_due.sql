-- Which message of each queue has been due the longest, and why does it not run?
--
-- Of each priority the one that is claimed next is looked at: it has been ready the longest. waiting_seconds counts
-- from its push, also when it waited for another attempt since; for a message whose time came and that nobody made
-- ready yet, from that time.
--
-- Parameters: none.
--
-- What to do: the last column says it. A queue without a row has nothing due.
WITH RECURSIVE heads AS (
    -- The first of each lane and rank, one look-up each, however many wait behind it.
    (
        SELECT lane, rank, item, attempt
        FROM dispatch
        ORDER BY lane, rank, seq
        LIMIT 1
    )
    UNION ALL
    SELECT next.lane, next.rank, next.item, next.attempt
    FROM heads
    CROSS JOIN LATERAL (
        SELECT d.lane, d.rank, d.item, d.attempt
        FROM dispatch AS d
        WHERE (d.lane, d.rank) > (heads.lane, heads.rank)
        ORDER BY d.lane, d.rank, d.seq
        LIMIT 1
    ) AS next
),
overdue AS (
    SELECT lane, min(run_at) AS run_at
    FROM scheduled
    WHERE run_at <= now()
    GROUP BY lane
),
oldest AS (
    SELECT DISTINCT ON (lane) lane, item, attempt, due_at
    FROM (
        SELECT lane, item, attempt, uuid_v7_time(item) AS due_at
        FROM heads
        UNION ALL
        SELECT overdue.lane, first.item, first.attempt, overdue.run_at
        FROM overdue
        CROSS JOIN LATERAL (
            SELECT s.item, s.attempt
            FROM scheduled AS s
            WHERE s.run_at = overdue.run_at AND s.lane = overdue.lane
            ORDER BY s.item
            LIMIT 1
        ) AS first
    ) AS waiting
    ORDER BY lane, due_at
)
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
JOIN oldest ON oldest.lane = queues.id
ORDER BY waiting_seconds DESC, queue;
