-- Do the tables keep in shape: how large are they, and how many dead rows wait for vacuum?
--
-- Counts are the server's estimates. dispatch and scheduled live on being vacuumed: every claim leaves a dead
-- row behind. The last four columns are the same in each row: for how long the oldest transaction has been open, and
-- the oldest prepared one has waited for its end (no dead row that is younger can be removed); how many replication
-- slots nobody reads, and how much write-ahead log one of them keeps at most.
--
-- Parameters: none.
--
-- What to do: end a transaction that stays open (pg_stat_activity names it) or is prepared (pg_prepared_xacts),
-- connect the reader of a slot or drop it (pg_replication_slots); postrider doctor says which. If there is none and a
-- hot table has many dead rows, autovacuum does not keep up: raise autovacuum_max_workers. Rows in a default partition: no weekly partition was there when they came.
SELECT
    stats.relname AS "table",
    stats.n_live_tup AS rows,
    stats.n_dead_tup AS dead_rows,
    round(100.0 * stats.n_dead_tup / nullif(stats.n_live_tup + stats.n_dead_tup, 0), 1) AS dead_percent,
    pg_total_relation_size(stats.relid) AS bytes,
    greatest(stats.last_vacuum, stats.last_autovacuum) AS vacuumed_at,
    greatest(stats.last_analyze, stats.last_autoanalyze) AS analyzed_at,
    round(extract(epoch FROM now() - oldest.xact_start)::numeric, 1) AS oldest_transaction_seconds,
    round(extract(epoch FROM now() - prepared.since)::numeric, 1) AS oldest_prepared_seconds,
    slots.stale AS stale_slots,
    slots.bytes AS stale_slot_bytes
FROM pg_stat_user_tables AS stats
CROSS JOIN (
    SELECT min(xact_start) AS xact_start
    FROM pg_stat_activity
    WHERE datname = current_database()
        AND backend_type = 'client backend'
        AND pid <> pg_backend_pid()
) AS oldest
CROSS JOIN (
    SELECT min(pg_prepared_xacts.prepared) AS since
    FROM pg_prepared_xacts
    WHERE pg_prepared_xacts.database = current_database()
) AS prepared
CROSS JOIN (
    SELECT
        count(*) AS stale,
        max(
            pg_wal_lsn_diff(
                CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                slot.restart_lsn
            )
        )::bigint AS bytes
    FROM pg_replication_slots AS slot
    WHERE NOT slot.active
        AND NOT slot.temporary
        AND (slot.restart_lsn IS NOT NULL OR slot.xmin IS NOT NULL OR slot.catalog_xmin IS NOT NULL)
        -- Since when, PostgreSQL says from 17 on.
        AND coalesce((to_jsonb(slot) ->> 'inactive_since')::timestamptz < now() - interval '1 minute', true)
) AS slots
WHERE stats.schemaname = current_schema()
ORDER BY dead_rows DESC, bytes DESC, "table";
