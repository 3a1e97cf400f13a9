-- Do the tables keep in shape: how large are they, and how many dead rows wait for vacuum?
--
-- Counts are the server's estimates. dispatch and scheduled live on being vacuumed: every claim leaves a dead
-- row behind. oldest_transaction_seconds is the same in each row: no dead row that is younger can be removed.
--
-- Parameters: none.
--
-- What to do: end a transaction that stays open (pg_stat_activity names it; a replication slot or a prepared
-- transaction keeps rows too). If none is old and a hot table has many dead rows, autovacuum does not keep up:
-- raise autovacuum_max_workers. Rows in a default partition: no weekly partition was there when they came.
SELECT
    stats.relname AS "table",
    stats.n_live_tup AS rows,
    stats.n_dead_tup AS dead_rows,
    round(100.0 * stats.n_dead_tup / nullif(stats.n_live_tup + stats.n_dead_tup, 0), 1) AS dead_percent,
    pg_total_relation_size(stats.relid) AS bytes,
    greatest(stats.last_vacuum, stats.last_autovacuum) AS vacuumed_at,
    greatest(stats.last_analyze, stats.last_autoanalyze) AS analyzed_at,
    round(extract(epoch FROM now() - oldest.xact_start)::numeric, 1) AS oldest_transaction_seconds
FROM pg_stat_user_tables AS stats
CROSS JOIN (
    SELECT min(xact_start) AS xact_start
    FROM pg_stat_activity
    WHERE datname = current_database()
        AND backend_type = 'client backend'
        AND pid <> pg_backend_pid()
) AS oldest
WHERE stats.schemaname = current_schema()
ORDER BY dead_rows DESC, bytes DESC, "table";
