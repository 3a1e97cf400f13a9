//! The SQL of looking for a job: by indexes.

use crate::http::place::{FoundBy, PLACES};
use sqlx::PgExecutor;
use uuid::Uuid;

/// A job that was found.
#[derive(Debug)]
pub struct Found {
    /// Its number.
    pub id: i64,
    /// Its type.
    pub type_id: i32,
    /// The subject that created it.
    pub owner: String,
    /// What of it was looked for.
    pub by: FoundBy,
}

/// The job of this number.
pub async fn by_number(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<Option<Found>> {
    let row =
        sqlx::query!("SELECT id, type_id, owner FROM jobs WHERE id = $1", id).fetch_optional(db).await?;
    let found = row.map(|row| Found { id: row.id, type_id: row.type_id, owner: row.owner, by: FoundBy::Id });
    Ok(found)
}

/// The job whose name in the engine this is, and the one that a lease of this id holds.
pub async fn by_id(db: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Vec<Found>> {
    let rows = sqlx::query!(
        r#"
        SELECT id AS "id!", type_id AS "type_id!", owner AS "owner!", false AS "is_leased!"
        FROM jobs
        WHERE item = $1
        UNION ALL
        SELECT j.id, j.type_id, j.owner, true
        FROM leases AS l
        JOIN jobs AS j ON j.item = l.items[1] AND j.type_id = l.lane
        WHERE l.id = $1
        "#,
        id,
    )
    .fetch_all(db)
    .await?;
    let by = |is_leased| if is_leased { FoundBy::Lease } else { FoundBy::Id };
    let found = rows.into_iter().map(|row| Found {
        id: row.id,
        type_id: row.type_id,
        owner: row.owner,
        by: by(row.is_leased),
    });
    Ok(found.collect())
}

/// The jobs of these types that `owner` made with this idempotency key.
pub async fn by_key(
    db: impl PgExecutor<'_>,
    types: &[i32],
    owner: &str,
    key: &str,
) -> sqlx::Result<Vec<Found>> {
    let rows = sqlx::query!(
        r#"
        SELECT j.id, j.type_id, j.owner
        FROM job_idempotency_keys AS k
        JOIN jobs AS j ON j.id = ANY (k.job_ids)
        WHERE k.type_id = ANY ($1) AND k.owner = $2 AND k.key = $3
        ORDER BY j.id
        LIMIT $4
        "#,
        types,
        owner,
        key,
        PLACES,
    )
    .fetch_all(db)
    .await?;
    let found = rows.into_iter().map(|row| Found {
        id: row.id,
        type_id: row.type_id,
        owner: row.owner,
        by: FoundBy::IdempotencyKey,
    });
    Ok(found.collect())
}
