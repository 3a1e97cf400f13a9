//! The SQL of `poller_snapshots` and `poller_bookmarks`: what a poller has seen, and up to where.

use crate::hub::polling::page::Record;
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use std::collections::HashMap;

/// The catalog's revision, and the bookmarks of these pollers: poller, collection, place.
pub async fn bookmarks(
    db: impl PgExecutor<'_>,
    pollers: &[i32],
) -> sqlx::Result<(i64, Vec<(i32, String, String)>)> {
    let rows = sqlx::query!(
        r#"
        SELECT
            catalog.revision, b.poller_id AS "poller_id?", b.collection AS "collection?", b.since AS "since?"
        FROM catalog
        LEFT JOIN poller_bookmarks AS b ON b.poller_id = ANY ($1)
        "#,
        pollers,
    )
    .fetch_all(db)
    .await?;
    let revision = rows.first().map_or(0, |row| row.revision);
    let marks = rows.into_iter().filter_map(|row| Some((row.poller_id?, row.collection?, row.since?)));
    Ok((revision, marks.collect()))
}

/// What was last seen of these records, by id.
pub async fn of(
    tx: &mut PgConnection,
    poller: i32,
    collection: &str,
    records: &[Record],
) -> sqlx::Result<HashMap<String, Box<RawValue>>> {
    let ids: Vec<&str> = records.iter().map(|record| &*record.id).collect();
    let rows = sqlx::query!(
        r#"
        SELECT record_id, record AS "record: Json<Box<RawValue>>"
        FROM poller_snapshots
        WHERE poller_id = $1 AND collection = $2 AND record_id = ANY ($3::text[])
        "#,
        poller,
        collection,
        &ids as &[&str],
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.record_id, row.record.0)).collect())
}

/// Keeps these records as last seen.
pub async fn keep(
    tx: &mut PgConnection,
    poller: i32,
    collection: &str,
    records: &[&Record],
) -> sqlx::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = records.iter().map(|record| &*record.id).collect();
    let texts: Vec<&str> = records.iter().map(|record| record.raw.get()).collect();
    sqlx::query!(
        r#"
        INSERT INTO poller_snapshots (poller_id, collection, record_id, record)
        SELECT $1, $2, id, record::json
        FROM unnest($3::text[], $4::text[]) AS r (id, record)
        ON CONFLICT ON CONSTRAINT poller_snapshots_pkey DO UPDATE
        SET record = excluded.record, updated_at = now()
        "#,
        poller,
        collection,
        &ids as &[&str],
        &texts as &[&str],
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Notes up to where a collection was read.
pub async fn mark(tx: &mut PgConnection, poller: i32, collection: &str, since: &str) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        INSERT INTO poller_bookmarks (poller_id, collection, since) VALUES ($1, $2, $3)
        ON CONFLICT ON CONSTRAINT poller_bookmarks_pkey DO UPDATE SET since = excluded.since
        "#,
        poller,
        collection,
        since,
    )
    .execute(tx)
    .await?;
    Ok(())
}
