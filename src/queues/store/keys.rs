//! Seals the secrets of queues anew, when keys are changed.

use crate::queues::secret::purpose;
use crate::seal::{Rotated, Sealed, Sealer, Turn};
use sqlx::postgres::PgPool;

/// Seals with the first key what is sealed with another, a row at a time: what is done stays done, wherever it ends.
///
/// # Errors
/// The database's.
pub async fn rotate(db: &PgPool, sealer: &Sealer) -> anyhow::Result<Vec<Rotated>> {
    let ids = sqlx::query_scalar!("SELECT id FROM queues WHERE key_id <> $1 ORDER BY id", sealer.first())
        .fetch_all(db)
        .await?;
    let mut rotated = Rotated::of("queues");
    for id in ids {
        rotated.note(queue(db, sealer, id).await)?;
    }
    Ok(vec![rotated])
}

async fn queue(db: &PgPool, sealer: &Sealer, id: i32) -> anyhow::Result<Turn> {
    loop {
        let row = sqlx::query!(
            r#"SELECT name, secret AS "secret!", key_id AS "key_id!" FROM queues WHERE id = $1 AND key_id <> $2"#,
            id,
            sealer.first(),
        )
        .fetch_optional(db)
        .await?;
        let Some(row) = row else { return Ok(Turn::Settled) };
        let former = Sealed { key_id: row.key_id, bytes: row.secret };
        let Some(sealed) = sealer.reseal(&former, &purpose(&row.name))? else {
            return Ok(Turn::Unopened(former.key_id));
        };
        let done = sqlx::query!(
            "UPDATE queues SET secret = $3, key_id = $4 WHERE id = $1 AND secret = $2",
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
