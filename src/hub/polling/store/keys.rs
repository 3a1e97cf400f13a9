//! Seals the tokens of pollers anew, when keys are changed.

use crate::hub::purpose::Purpose;
use crate::seal::{Rotated, Sealed, Sealer, Turn};
use sqlx::postgres::PgPool;

/// Seals with the first key what is sealed with another, a row at a time: what is done stays done, wherever it ends.
///
/// # Errors
/// The database's.
pub async fn rotate(db: &PgPool, sealer: &Sealer) -> anyhow::Result<Vec<Rotated>> {
    let ids = sqlx::query_scalar!("SELECT id FROM pollers WHERE key_id <> $1 ORDER BY id", sealer.first())
        .fetch_all(db)
        .await?;
    let mut rotated = Rotated::of("pollers");
    for id in ids {
        rotated.note(poller(db, sealer, id).await)?;
    }
    Ok(vec![rotated])
}

async fn poller(db: &PgPool, sealer: &Sealer, id: i32) -> anyhow::Result<Turn> {
    loop {
        let row = sqlx::query!(
            r#"
            SELECT store_id, name, token AS "token!", key_id AS "key_id!"
            FROM pollers
            WHERE id = $1 AND key_id <> $2
            "#,
            id,
            sealer.first(),
        )
        .fetch_optional(db)
        .await?;
        let Some(row) = row else { return Ok(Turn::Settled) };
        let former = Sealed { key_id: row.key_id, bytes: row.token };
        let purpose = Purpose::PollerToken(&row.name).of_store(row.store_id);
        let Some(sealed) = sealer.reseal(&former, &purpose)? else {
            return Ok(Turn::Unopened(former.key_id));
        };
        let done = sqlx::query!(
            "UPDATE pollers SET token = $3, key_id = $4 WHERE id = $1 AND token = $2",
            id,
            former.bytes,
            sealed.bytes,
            sealed.key_id,
        )
        .execute(db)
        .await?;
        // What was put meanwhile is looked at again.
        if done.rows_affected() > 0 {
            return Ok(Turn::Anew);
        }
    }
}
