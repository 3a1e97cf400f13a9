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
SELECT
    queues.name AS queue,
    queues.paused_at IS NOT NULL AS paused,
    ready.items AS ready,
    scheduled.items AS scheduled,
    running.items AS running
FROM queues
CROSS JOIN LATERAL (
    SELECT count(*) AS items
    FROM dispatch
    WHERE dispatch.lane = queues.id
) AS ready
LEFT JOIN (
    SELECT lane, count(*) AS items
    FROM scheduled
    GROUP BY lane
) AS by_lane ON by_lane.lane = queues.id
CROSS JOIN LATERAL (SELECT coalesce(by_lane.items, 0) AS items) AS scheduled
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
