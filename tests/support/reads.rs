//! How many rows a statement read.

use sqlx::postgres::PgConnection;

/// The rows that this connection has read from tables, by scans and by indexes, since it was made or last said so.
pub(crate) async fn rows_read(db: &mut PgConnection) -> i64 {
    let read = "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint
        FROM pg_stat_xact_user_tables WHERE schemaname = 'postrider'";
    sqlx::query_scalar(read).fetch_one(db).await.unwrap()
}
