//! Seals the data of jobs, and the answers to their questions, anew, when keys are changed.

use crate::jobs::data::purpose;
use crate::seal::{Rotated, Sealed, Sealer, Turn};
use sqlx::postgres::PgPool;
use uuid::Uuid;

/// So many rows are looked at with one statement, however many there are.
const PAGE: i64 = 5000;

/// Seals with the first key what is sealed with another, a row at a time: what is done stays done, wherever it ends.
///
/// # Errors
/// The database's.
pub async fn rotate(db: &PgPool, sealer: &Sealer) -> anyhow::Result<Vec<Rotated>> {
    Ok(vec![jobs(db, sealer).await?, envelopes(db, sealer).await?])
}

async fn jobs(db: &PgPool, sealer: &Sealer) -> anyhow::Result<Rotated> {
    let mut rotated = Rotated::of("jobs");
    let mut after = i64::MIN;
    loop {
        let page =
            sqlx::query!("SELECT id, key_id FROM jobs WHERE id > $1 ORDER BY id LIMIT $2", after, PAGE)
                .fetch_all(db)
                .await?;
        let Some(last) = page.last() else { return Ok(rotated) };
        after = last.id;
        for row in page.iter().filter(|row| is_other(row.key_id.as_deref(), sealer)) {
            rotated.note(job(db, sealer, row.id).await)?;
        }
    }
}

async fn job(db: &PgPool, sealer: &Sealer, id: i64) -> anyhow::Result<Turn> {
    loop {
        let row = sqlx::query!(
            r#"SELECT item, data AS "data!", key_id AS "key_id!" FROM jobs WHERE id = $1 AND key_id <> $2"#,
            id,
            sealer.first(),
        )
        .fetch_optional(db)
        .await?;
        let Some(row) = row else { return Ok(Turn::Settled) };
        let former = Sealed { key_id: row.key_id, bytes: row.data };
        let Some(sealed) = sealer.reseal(&former, &purpose(row.item))? else {
            return Ok(Turn::Unopened(former.key_id));
        };
        // A job that has ended meanwhile has no data any more.
        let done = sqlx::query!(
            "UPDATE jobs SET data = $3, key_id = $4 WHERE id = $1 AND data = $2",
            id,
            former.bytes,
            sealed.bytes,
            sealed.key_id,
        )
        .execute(db)
        .await?;
        if done.rows_affected() > 0 {
            return Ok(Turn::Anew);
        }
    }
}

async fn envelopes(db: &PgPool, sealer: &Sealer) -> anyhow::Result<Rotated> {
    let mut rotated = Rotated::of("envelopes");
    let mut after = Uuid::nil();
    loop {
        let page =
            sqlx::query!("SELECT id, key_id FROM envelopes WHERE id > $1 ORDER BY id LIMIT $2", after, PAGE)
                .fetch_all(db)
                .await?;
        let Some(last) = page.last() else { return Ok(rotated) };
        after = last.id;
        for row in page.iter().filter(|row| is_other(row.key_id.as_deref(), sealer)) {
            rotated.note(envelope(db, sealer, row.id).await)?;
        }
    }
}

async fn envelope(db: &PgPool, sealer: &Sealer, id: Uuid) -> anyhow::Result<Turn> {
    loop {
        let row = sqlx::query!(
            r#"SELECT answer AS "answer!", key_id AS "key_id!" FROM envelopes WHERE id = $1 AND key_id <> $2"#,
            id,
            sealer.first(),
        )
        .fetch_optional(db)
        .await?;
        let Some(row) = row else { return Ok(Turn::Settled) };
        let former = Sealed { key_id: row.key_id, bytes: row.answer };
        let Some(sealed) = sealer.reseal(&former, id.as_bytes())? else {
            return Ok(Turn::Unopened(former.key_id));
        };
        // One that was picked up meanwhile is gone.
        let done = sqlx::query!(
            "UPDATE envelopes SET answer = $3, key_id = $4 WHERE id = $1 AND answer = $2",
            id,
            former.bytes,
            sealed.bytes,
            sealed.key_id,
        )
        .execute(db)
        .await?;
        if done.rows_affected() > 0 {
            return Ok(Turn::Anew);
        }
    }
}

fn is_other(key_id: Option<&str>, sealer: &Sealer) -> bool {
    key_id.is_some_and(|key_id| key_id != sealer.first())
}
