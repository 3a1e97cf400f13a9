//! The SQL of `stores`.

use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;

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
