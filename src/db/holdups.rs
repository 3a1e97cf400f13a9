//! What of others holds the database up: transactions that stay open, prepared ones that wait for their end, and
//! replication slots that nobody reads. They keep dead rows, locks, or write-ahead log that could go.

use sqlx::PgExecutor;

/// What holds it up at this moment.
#[derive(Debug)]
pub struct Holdups {
    /// The process of the session whose transaction has been open for longest, of this database.
    pub pid: Option<i32>,
    /// For how many seconds; 0 when there is none.
    pub transaction_seconds: f64,
    /// Whether it does nothing: it waits for its client.
    pub is_idle: bool,
    /// For how many seconds the oldest prepared transaction of this database has waited for its end; 0 when there is
    /// none.
    pub prepared_seconds: f64,
    /// Its name.
    pub prepared: Option<String>,
    /// How many replication slots keep something and are read by nobody.
    pub stale_slots: i64,
    /// Their names.
    pub slots: String,
    /// How many bytes of write-ahead log they keep at most.
    pub slot_bytes: i64,
}

/// Looks at it. A slot counts where nobody has read it for a minute; before PostgreSQL 17, which says since when, where
/// nobody reads it now.
///
/// # Errors
/// The database's.
pub async fn look(db: impl PgExecutor<'_>) -> sqlx::Result<Holdups> {
    sqlx::query_as!(
        Holdups,
        r#"
        WITH oldest AS (
            SELECT pid, xact_start, state LIKE 'idle in transaction%' AS is_idle
            FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
                AND xact_start IS NOT NULL
            ORDER BY xact_start
            LIMIT 1
        ),
        prepared AS (
            SELECT gid, prepared AS since
            FROM pg_prepared_xacts
            WHERE database = current_database()
            ORDER BY prepared
            LIMIT 1
        ),
        written AS (
            SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn
        ),
        stale AS (
            SELECT s.slot_name, pg_wal_lsn_diff(written.lsn, s.restart_lsn) AS bytes
            FROM pg_replication_slots AS s
            CROSS JOIN written
            WHERE NOT s.active AND NOT s.temporary
                AND (s.restart_lsn IS NOT NULL OR s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL)
                AND coalesce((to_jsonb(s) ->> 'inactive_since')::timestamptz < now() - interval '1 minute', true)
        )
        SELECT
            (SELECT pid FROM oldest) AS pid,
            coalesce((SELECT greatest(extract(epoch FROM now() - xact_start), 0) FROM oldest), 0)::float8
                AS "transaction_seconds!",
            coalesce((SELECT is_idle FROM oldest), false) AS "is_idle!",
            coalesce((SELECT greatest(extract(epoch FROM now() - since), 0) FROM prepared), 0)::float8
                AS "prepared_seconds!",
            (SELECT gid FROM prepared) AS prepared,
            (SELECT count(*) FROM stale) AS "stale_slots!",
            (SELECT coalesce(string_agg(slot_name, ', ' ORDER BY slot_name), '') FROM stale) AS "slots!",
            (SELECT coalesce(max(bytes), 0)::bigint FROM stale) AS "slot_bytes!"
        "#
    )
    .fetch_one(db)
    .await
}
