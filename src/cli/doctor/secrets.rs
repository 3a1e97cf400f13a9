//! What lies sealed in the database, and whether the settings have the keys for it.

use super::finding::{Finding, fail, ok, warn};
use crate::seal::Sealer;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

/// So many sealed values of a table are looked at.
const MOST: i64 = 10_000;

/// Every table with a column `key_id` has something sealed, whosever it is.
pub(super) async fn check(db: &mut PgConnection, sealer: Option<&Sealer>) -> sqlx::Result<Vec<Finding>> {
    let tables = sqlx::query_scalar!(
        r#"
        SELECT c.relname::text AS "name!"
        FROM pg_attribute AS a
        JOIN pg_class AS c ON c.oid = a.attrelid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND a.attname = 'key_id' AND NOT a.attisdropped
        ORDER BY c.relname
        "#
    )
    .fetch_all(&mut *db)
    .await?;
    let (mut sealed, mut unopened) = (Vec::new(), Vec::new());
    for table in tables {
        let keys = format!(
            "SELECT DISTINCT key_id FROM (SELECT key_id FROM \"{table}\" WHERE key_id IS NOT NULL LIMIT {MOST}) AS sealed"
        );
        let keys: Vec<String> = sqlx::query_scalar(AssertSqlSafe(keys)).fetch_all(&mut *db).await?;
        if keys.iter().any(|key| !sealer.is_some_and(|sealer| sealer.knows(key))) {
            unopened.push(table.clone());
        }
        if !keys.is_empty() {
            sealed.push(table);
        }
    }
    let asks = sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM jobs) AS "asks!""#).fetch_one(db).await?;
    Ok(vec![match sealer {
        None if !sealed.is_empty() => fail(
            format!(
                "POSTRIDER_SECRET_KEY is not set, and there are sealed secrets in: {}",
                sealed.join(", ")
            ),
            "set it to the key that they were sealed with, for every process: none of them can be used without it",
        ),
        None if asks => warn(
            "POSTRIDER_SECRET_KEY is not set, and there are jobs",
            "set it (openssl rand -hex 32), for every process: without it no data of a job is kept, and no answer",
        ),
        None => ok("nothing is sealed, and POSTRIDER_SECRET_KEY is not set"),
        Some(_) if !unopened.is_empty() => fail(
            format!(
                "POSTRIDER_SECRET_KEY lacks a key that secrets are sealed with in: {}",
                unopened.join(", ")
            ),
            "name the former key too: POSTRIDER_SECRET_KEY=new,former",
        ),
        Some(_) if sealed.is_empty() => ok("nothing is sealed yet"),
        Some(_) => ok(format!("the keys are there for what is sealed in: {}", sealed.join(", "))),
    }])
}
