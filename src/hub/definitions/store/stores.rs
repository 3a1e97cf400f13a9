//! The SQL of `stores`.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;

/// A store, as people see it.
#[derive(Debug)]
pub struct Store {
    /// Its name in the API.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// The next stores after a name, of all or of those with these names, by name.
pub async fn page(
    db: impl PgExecutor<'_>,
    of: Option<&[String]>,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Store>> {
    sqlx::query_as!(
        Store,
        "
        SELECT name, created_at FROM stores
        WHERE ($1::text[] IS NULL OR name = ANY ($1)) AND ($2::text IS NULL OR name > $2)
        ORDER BY name LIMIT $3
        ",
        of,
        after,
        limit,
    )
    .fetch_all(db)
    .await
}

/// The store of this name.
pub async fn id(db: impl PgExecutor<'_>, name: &str) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!("SELECT id FROM stores WHERE name = $1", name).fetch_optional(db).await
}

/// The store of this name, made if it is not there.
pub async fn ensure(tx: &mut PgConnection, name: &str) -> sqlx::Result<i32> {
    if let Some(id) = id(&mut *tx, name).await? {
        return Ok(id);
    }
    sqlx::query!(
        "INSERT INTO stores (name) VALUES ($1) ON CONFLICT ON CONSTRAINT stores_name_key DO NOTHING",
        name
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query_scalar!("SELECT id FROM stores WHERE name = $1", name).fetch_one(tx).await
}
