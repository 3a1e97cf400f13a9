//! The SQL of `parameters` as they are put and shown.

use crate::hub::definitions::former::Password;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

/// A parameter as people see it.
#[derive(Debug)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// string, integer, float, boolean, list or password.
    pub data_type: String,
    /// Its value; null for a password.
    pub value: Option<Json<Box<RawValue>>>,
    /// When it was last put, by hand or by an answer.
    pub updated_at: DateTime<Utc>,
}

/// The parameters of a store by name, or the one of this name.
pub async fn describe(
    db: impl PgExecutor<'_>,
    store_id: i32,
    name: Option<&str>,
) -> sqlx::Result<Vec<Described>> {
    sqlx::query_as!(
        Described,
        r#"
        SELECT name, data_type, value AS "value: Json<Box<RawValue>>", updated_at
        FROM parameters
        WHERE store_id = $1 AND ($2::text IS NULL OR name = $2)
        ORDER BY name
        "#,
        store_id,
        name,
    )
    .fetch_all(db)
    .await
}

/// The parameter of this name as far as it is sealed, locked; `None` when there is no such parameter.
pub async fn lock(tx: &mut PgConnection, store_id: i32, name: &str) -> sqlx::Result<Option<Password>> {
    sqlx::query_as!(
        Password,
        "SELECT sealed, former, key_id FROM parameters WHERE store_id = $1 AND name = $2 FOR UPDATE",
        store_id,
        name,
    )
    .fetch_optional(tx)
    .await
}

/// Makes a parameter or gives it another value, in clear or sealed; says whether it was made.
pub async fn put(
    db: impl PgExecutor<'_>,
    store_id: i32,
    name: &str,
    data_type: &str,
    value: Option<&RawValue>,
    password: &Password,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        INSERT INTO parameters (store_id, name, data_type, value, sealed, former, key_id)
        VALUES ($1, $2, $3, $4::text::json, $5, $6, $7)
        ON CONFLICT ON CONSTRAINT parameters_pkey DO UPDATE
        SET data_type = excluded.data_type, value = excluded.value, sealed = excluded.sealed,
            former = excluded.former, key_id = excluded.key_id, updated_at = now()
        RETURNING xmax = 0 AS "made!"
        "#,
        store_id,
        name,
        data_type,
        value.map(RawValue::get),
        password.sealed.as_deref(),
        password.former.as_deref(),
        password.key_id.as_deref(),
    )
    .fetch_one(db)
    .await
}

/// Deletes a parameter; says whether it was there.
pub async fn delete(db: impl PgExecutor<'_>, store_id: i32, name: &str) -> sqlx::Result<bool> {
    let gone = sqlx::query!("DELETE FROM parameters WHERE store_id = $1 AND name = $2", store_id, name)
        .execute(db)
        .await?;
    Ok(gone.rows_affected() > 0)
}
