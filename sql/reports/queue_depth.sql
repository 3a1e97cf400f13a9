-- How much work waits in each queue, and how much runs?
--
-- ready: may be claimed now. scheduled: waits for its time (a delay, or the pause before another attempt).
-- running: claimed, its end not written. A message that was deleted while it was ready is counted until its
-- turn comes.
--
-- Parameters: none.
--
-- What to do: `ready` that grows while `running` stays at the queue's concurrency needs more of it, or more
-- workers. `ready` without anything running is explained by the report oldest_due.
WITH ready AS (
    -- Of all lanes at once: of a lane with millions an index would be several times as slow as the table.
    SELECT lane, count(*) AS items
    FROM dispatch
    GROUP BY lane
),
later AS (
    SELECT lane, count(*) AS items
    FROM scheduled
    GROUP BY lane
)
SELECT
    queues.name AS queue,
    queues.paused_at IS NOT NULL AS paused,
    coalesce(ready.items, 0) AS ready,
    coalesce(later.items, 0) AS scheduled,
    running.items AS running
FROM queues
LEFT JOIN ready ON ready.lane = queues.id
LEFT JOIN later ON later.lane = queues.id
CROSS JOIN LATERAL (
    -- A lease of many items stays until the last of them has ended.
    SELECT count(*) AS items
    FROM leased_items
    JOIN messages ON messages.queue_id = leased_items.lane AND messages.id = leased_items.item
    WHERE leased_items.lane = queues.id
        AND NOT EXISTS (
            SELECT
            FROM outcomes
            WHERE outcomes.queue_id = leased_items.lane AND outcomes.id = leased_items.item
        )
        AND NOT EXISTS (
            SELECT
            FROM attempts
            WHERE attempts.queue_id = leased_items.lane
                AND attempts.id = leased_items.item
                AND attempts.lease = leased_items.lease
        )
) AS running
ORDER BY ready DESC, running DESC, queue;
