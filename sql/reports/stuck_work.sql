-- Is there work that should have gone on, and did not?
--
-- lease is over: its worker is gone, and nobody took the work back. overdue: its time came, and nobody made it
-- ready. long attempt: it has been running for longer than report.long. nobody runs it: the message of a queue that
-- has been due the longest, since no process lives that can. lost, lost delivery: a message without an end that
-- nothing would ever run, or a delivery that nothing would ever send; there must never be one. Of a delivery, queue is
-- its store and mapping, and message its id. At most 1000 of each are told, the oldest first.
--
-- Parameters: report.long, how long an attempt may run (10 minutes); report.period, how far back lost messages
-- and deliveries are looked for (10 minutes), messages among the newest 10,000 of each queue. In psql:
-- SET report.long = '1 minute';
--
-- What to do: no row is the normal answer. The last column says what to do about one.
WITH parameter AS (
    SELECT
        now() - long AS long_since,
        uuid_v7_floor(now() - period) AS first_id
    FROM coalesce(nullif(current_setting('report.long', true), '')::interval, '10 minutes') AS long
    CROSS JOIN coalesce(nullif(current_setting('report.period', true), '')::interval, '10 minutes') AS period
),
alive AS (
    SELECT EXISTS (
        SELECT
        FROM workers
        WHERE workers.given_up_at IS NULL AND NOT is_silent(workers.heartbeat, workers.lease)
    ) AS somebody
),
held AS (
    SELECT
        id,
        lane,
        items,
        claimed_at,
        coalesce(holder, 'a worker that is gone') AS holder,
        renewed_at + lease AS alive_until,
        -- Workers look every second or two.
        is_silent(renewed_at, lease + interval '10 seconds') AS is_over
    FROM lease_terms
),
running AS (
    SELECT held.id, held.lane, item.id AS item, held.claimed_at, held.holder, held.alive_until, held.is_over
    FROM held
    CROSS JOIN LATERAL unnest(held.items) AS item (id)
    JOIN messages ON messages.queue_id = held.lane AND messages.id = item.id
    WHERE NOT EXISTS (
            SELECT
            FROM outcomes
            WHERE outcomes.queue_id = held.lane AND outcomes.id = item.id
        )
        AND NOT EXISTS (
            SELECT
            FROM attempts
            WHERE attempts.queue_id = held.lane AND attempts.id = item.id AND attempts.lease = held.id
        )
),
unended AS MATERIALIZED (
    SELECT queues.id AS queue_id, message.id
    FROM queues
    CROSS JOIN LATERAL (
        (
            SELECT messages.id
            FROM messages
            WHERE messages.queue_id = queues.id
                AND messages.id >= (SELECT first_id FROM parameter)
            ORDER BY messages.id DESC
            LIMIT 10000
        )
        EXCEPT
        SELECT outcomes.id
        FROM outcomes
        WHERE outcomes.queue_id = queues.id
            AND outcomes.id >= (SELECT first_id FROM parameter)
    ) AS message
),
lost AS (
    SELECT id
    FROM unended
    EXCEPT
    (
        SELECT item
        FROM dispatch
        WHERE item >= (SELECT first_id FROM parameter)
        UNION ALL
        SELECT item
        FROM scheduled
        WHERE item >= (SELECT first_id FROM parameter)
        UNION ALL
        SELECT item
        FROM running
    )
),
stuck AS (
    (
        SELECT
            'lease is over' AS problem,
            lane,
            item,
            alive_until AS since,
            holder,
            CASE
                WHEN (SELECT alive.somebody FROM alive)
                THEN 'look at the workers'' logs: whoever lives takes the message back within seconds'
                ELSE 'start postrider serve or postrider worker: it takes the message back within seconds'
            END AS what_to_do
        FROM running
        WHERE is_over
        ORDER BY alive_until
        LIMIT 1000
    )
    UNION ALL
    (
        SELECT
            'long attempt',
            lane,
            item,
            claimed_at,
            holder,
            'look at what the handler waits for; DELETE the message to stop it'
        FROM running
        WHERE NOT is_over
            AND claimed_at < (SELECT long_since FROM parameter)
        ORDER BY claimed_at
        LIMIT 1000
    )
    UNION ALL
    (
        SELECT
            'overdue',
            scheduled.lane,
            scheduled.item,
            scheduled.run_at,
            NULL,
            CASE
                WHEN (SELECT alive.somebody FROM alive)
                THEN 'look at the workers'' logs: whoever lives makes it ready within seconds'
                ELSE 'start postrider serve or postrider worker: any makes it ready'
            END
        FROM scheduled
        JOIN queues ON queues.id = scheduled.lane
        WHERE scheduled.run_at < now() - interval '10 seconds'
        ORDER BY scheduled.run_at
        LIMIT 1000
    )
    UNION ALL
    SELECT
        'nobody runs it',
        queue_runners.queue_id,
        oldest.item,
        uuid_v7_time(oldest.item),
        NULL,
        CASE
            WHEN queue_runners.kind = 'native'
            THEN 'start the program that has the native handler ' || queue_runners.native
            ELSE 'start postrider serve or postrider worker'
        END
    FROM queue_runners
    CROSS JOIN LATERAL (
        SELECT dispatch.item
        FROM dispatch
        WHERE dispatch.lane = queue_runners.queue_id
        ORDER BY dispatch.rank, dispatch.seq
        LIMIT 1
    ) AS oldest
    WHERE NOT queue_runners.is_there
        AND uuid_v7_time(oldest.item) < now() - interval '10 seconds'
        AND NOT EXISTS (
            SELECT
            FROM queues
            WHERE queues.id = queue_runners.queue_id AND queues.paused_at IS NOT NULL
        )
    UNION ALL
    (
        SELECT
            'lost',
            unended.queue_id,
            lost.id,
            uuid_v7_time(lost.id),
            NULL,
            'push it again, and report this: Postrider never loses a message'
        FROM lost
        JOIN unended ON unended.id = lost.id
        ORDER BY lost.id
        LIMIT 1000
    )
),
named AS (
    SELECT stuck.problem, queues.name AS queue, stuck.item, stuck.since, stuck.holder, stuck.what_to_do
    FROM stuck
    JOIN queues ON queues.id = stuck.lane
    UNION ALL
    SELECT
        'lost delivery',
        stores.name || '/' || mappings.name,
        deliveries.id,
        uuid_v7_time(deliveries.id),
        NULL,
        'POST /stores/{store}/deliveries/{id}/retry, and report this: Postrider never loses a delivery'
    FROM deliveries
    JOIN mappings ON mappings.id = deliveries.mapping_id
    JOIN stores ON stores.id = mappings.store_id
    WHERE deliveries.id >= (SELECT first_id FROM parameter)
        AND deliveries.status = 'PENDING'
        AND NOT EXISTS (
            SELECT
            FROM unfinished_deliveries
            WHERE unfinished_deliveries.id = deliveries.id
        )
)
SELECT
    named.problem,
    named.queue,
    named.item AS message,
    named.since,
    round(extract(epoch FROM now() - named.since)::numeric, 1) AS seconds,
    named.holder,
    named.what_to_do
FROM named
ORDER BY named.since, named.queue
LIMIT 1000;
