//! Seals the secrets of endpoints and parameters anew, when keys are changed.

use crate::hub::purpose::Purpose;
use crate::seal::{Rotated, Sealed, Sealer, Turn};
use sqlx::postgres::PgPool;

/// Seals with the first key what is sealed with another, a row at a time: what is done stays done, wherever it ends.
///
/// # Errors
/// The database's.
pub async fn rotate(db: &PgPool, sealer: &Sealer) -> anyhow::Result<Vec<Rotated>> {
    Ok(vec![endpoints(db, sealer).await?, parameters(db, sealer).await?])
}

async fn endpoints(db: &PgPool, sealer: &Sealer) -> anyhow::Result<Rotated> {
    let ids = sqlx::query_scalar!("SELECT id FROM endpoints WHERE key_id <> $1 ORDER BY id", sealer.first())
        .fetch_all(db)
        .await?;
    let mut rotated = Rotated::of("endpoints");
    for id in ids {
        rotated.note(endpoint(db, sealer, id).await)?;
    }
    Ok(rotated)
}

async fn endpoint(db: &PgPool, sealer: &Sealer, id: i32) -> anyhow::Result<Turn> {
    loop {
        let row = sqlx::query!(
            r#"
            SELECT store_id, name, token, secrets, wire_secrets, former, key_id AS "key_id!"
            FROM endpoints
            WHERE id = $1 AND key_id <> $2
            "#,
            id,
            sealer.first(),
        )
        .fetch_optional(db)
        .await?;
        let Some(row) = row else { return Ok(Turn::Settled) };
        let reseal = |bytes, purpose: Purpose<'_>| {
            resealed(sealer, &row.key_id, bytes, &purpose.of_store(row.store_id))
        };
        // One key for all: when one of them cannot be opened, all stay.
        let (Some(token), Some(secrets), Some(wire), Some(former)) = (
            reseal(row.token.as_ref(), Purpose::Token(&row.name))?,
            reseal(row.secrets.as_ref(), Purpose::SigningSecrets(&row.name))?,
            reseal(row.wire_secrets.as_ref(), Purpose::WireSecrets(&row.name))?,
            reseal(row.former.as_ref(), Purpose::FormerSecrets(&row.name))?,
        ) else {
            return Ok(Turn::Unopened(row.key_id));
        };
        let done = sqlx::query!(
            r#"
            UPDATE endpoints
            SET token = $6, secrets = $7, wire_secrets = $8, former = $9, key_id = $10
            WHERE id = $1
                AND token IS NOT DISTINCT FROM $2
                AND secrets IS NOT DISTINCT FROM $3
                AND wire_secrets IS NOT DISTINCT FROM $4
                AND former IS NOT DISTINCT FROM $5
            "#,
            id,
            row.token,
            row.secrets,
            row.wire_secrets,
            row.former,
            token,
            secrets,
            wire,
            former,
            sealer.first(),
        )
        .execute(db)
        .await?;
        // What was put meanwhile is looked at again.
        if done.rows_affected() > 0 {
            return Ok(Turn::Anew);
        }
    }
}

async fn parameters(db: &PgPool, sealer: &Sealer) -> anyhow::Result<Rotated> {
    let keys = sqlx::query!(
        "SELECT store_id, name FROM parameters WHERE key_id <> $1 ORDER BY store_id, name",
        sealer.first(),
    )
    .fetch_all(db)
    .await?;
    let mut rotated = Rotated::of("parameters");
    for key in keys {
        rotated.note(parameter(db, sealer, (key.store_id, &key.name)).await)?;
    }
    Ok(rotated)
}

async fn parameter(db: &PgPool, sealer: &Sealer, (store_id, name): (i32, &str)) -> anyhow::Result<Turn> {
    loop {
        let row = sqlx::query!(
            r#"
            SELECT sealed, former, key_id AS "key_id!"
            FROM parameters
            WHERE store_id = $1 AND name = $2 AND key_id <> $3
            "#,
            store_id,
            name,
            sealer.first(),
        )
        .fetch_optional(db)
        .await?;
        let Some(row) = row else { return Ok(Turn::Settled) };
        let reseal =
            |bytes, purpose: Purpose<'_>| resealed(sealer, &row.key_id, bytes, &purpose.of_store(store_id));
        let (Some(value), Some(former)) = (
            reseal(row.sealed.as_ref(), Purpose::Parameter(name))?,
            reseal(row.former.as_ref(), Purpose::FormerValues(name))?,
        ) else {
            return Ok(Turn::Unopened(row.key_id));
        };
        let done = sqlx::query!(
            r#"
            UPDATE parameters
            SET sealed = $5, former = $6, key_id = $7
            WHERE store_id = $1
                AND name = $2
                AND sealed IS NOT DISTINCT FROM $3
                AND former IS NOT DISTINCT FROM $4
            "#,
            store_id,
            name,
            row.sealed,
            row.former,
            value,
            former,
            sealer.first(),
        )
        .execute(db)
        .await?;
        if done.rows_affected() > 0 {
            return Ok(Turn::Anew);
        }
    }
}

/// What is sealed, sealed with the first key; nothing stays nothing. `None` when it cannot be opened.
#[expect(clippy::option_option, reason = "nothing to open is another thing than what cannot be opened")]
fn resealed(
    sealer: &Sealer,
    key_id: &str,
    bytes: Option<&Vec<u8>>,
    purpose: &[u8],
) -> anyhow::Result<Option<Option<Vec<u8>>>> {
    let Some(bytes) = bytes else { return Ok(Some(None)) };
    let former = Sealed { key_id: key_id.to_owned(), bytes: bytes.clone() };
    Ok(sealer.reseal(&former, purpose)?.map(|sealed| Some(sealed.bytes)))
}
