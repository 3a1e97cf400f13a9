-- Is there work that should have gone on, and did not?
--
-- lease is over: its worker is gone, and nobody took the work back. overdue: its time came, and nobody made it
-- ready. long attempt: it has been running for longer than report.long. lost: a message without an end that
-- nothing would ever run; there must never be one. At most 1000 of each are told, the oldest first.
--
-- Parameters: report.long, how long an attempt may run (10 minutes); report.period, how far back lost messages
-- are looked for (10 minutes), among the newest 10,000 of each queue. In psql: SET report.long = '1 minute';
--
-- What to do: no row is the normal answer. The last column says what to do about one.
WITH parameter AS (
    SELECT
        now() - long AS long_since,
        uuid_v7_floor(now() - period) AS first_id
    FROM coalesce(nullif(current_setting('report.long', true), '')::interval, '10 minutes') AS long
    CROSS JOIN coalesce(nullif(current_setting('report.period', true), '')::interval, '10 minutes') AS period
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
            'start a worker: it takes the message back within seconds' AS what_to_do
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
            'start a worker: any makes it ready'
        FROM scheduled
        JOIN queues ON queues.id = scheduled.lane
        WHERE scheduled.run_at < now() - interval '10 seconds'
        ORDER BY scheduled.run_at
        LIMIT 1000
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
)
SELECT
    stuck.problem,
    queues.name AS queue,
    stuck.item AS message,
    stuck.since,
    round(extract(epoch FROM now() - stuck.since)::numeric, 1) AS seconds,
    stuck.holder,
    stuck.what_to_do
FROM stuck
JOIN queues ON queues.id = stuck.lane
ORDER BY stuck.since, queue
LIMIT 1000;
