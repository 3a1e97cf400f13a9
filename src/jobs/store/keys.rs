//! Seals what lies sealed of jobs anew when keys are changed: their data and safes, the answers to their questions, and the
//! keys of sessions.

use crate::jobs::data::purpose;
use crate::jobs::{safe, sdk};
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
    Ok(vec![
        jobs(db, sealer).await?,
        safes(db, sealer).await?,
        envelopes(db, sealer).await?,
        sessions(db, sealer).await?,
    ])
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
        let Some(anew) = sealer.reseal(&former, &purpose(row.item))? else {
            return Ok(Turn::Unopened(former.key_id));
        };
        // A job that has ended meanwhile has no data any more.
        let done = sqlx::query!(
            "UPDATE jobs SET data = $3, key_id = $4 WHERE id = $1 AND data = $2",
            id,
            former.bytes,
            anew.bytes,
            anew.key_id,
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
        let Some(anew) = sealer.reseal(&former, id.as_bytes())? else {
            return Ok(Turn::Unopened(former.key_id));
        };
        // One that was picked up meanwhile is gone.
        let done = sqlx::query!(
            "UPDATE envelopes SET answer = $3, key_id = $4 WHERE id = $1 AND answer = $2",
            id,
            former.bytes,
            anew.bytes,
            anew.key_id,
        )
        .execute(db)
        .await?;
        if done.rows_affected() > 0 {
            return Ok(Turn::Anew);
        }
    }
}

async fn safes(db: &PgPool, sealer: &Sealer) -> anyhow::Result<Rotated> {
    let mut rotated = Rotated::of("job_safes");
    let mut after = i64::MIN;
    loop {
        let page = sqlx::query!(
            "SELECT job_id, key_id FROM job_safes WHERE job_id > $1 ORDER BY job_id LIMIT $2",
            after,
            PAGE,
        )
        .fetch_all(db)
        .await?;
        let Some(last) = page.last() else { return Ok(rotated) };
        after = last.job_id;
        for row in page.iter().filter(|row| row.key_id != sealer.first()) {
            rotated.note(content(db, sealer, row.job_id).await)?;
        }
    }
}

async fn content(db: &PgPool, sealer: &Sealer, job_id: i64) -> anyhow::Result<Turn> {
    loop {
        let row = sqlx::query!(
            r#"
            SELECT j.item, s.content, s.key_id
            FROM job_safes AS s
            JOIN jobs AS j ON j.id = s.job_id
            WHERE s.job_id = $1 AND s.key_id <> $2
            "#,
            job_id,
            sealer.first(),
        )
        .fetch_optional(db)
        .await?;
        let Some(row) = row else { return Ok(Turn::Settled) };
        let former = Sealed { key_id: row.key_id, bytes: row.content };
        let Some(anew) = sealer.reseal(&former, &safe::purpose(row.item))? else {
            return Ok(Turn::Unopened(former.key_id));
        };
        // Its owner may have replaced it meanwhile.
        let done = sqlx::query!(
            "UPDATE job_safes SET content = $3, key_id = $4 WHERE job_id = $1 AND content = $2",
            job_id,
            former.bytes,
            anew.bytes,
            anew.key_id,
        )
        .execute(db)
        .await?;
        if done.rows_affected() > 0 {
            return Ok(Turn::Anew);
        }
    }
}

async fn sessions(db: &PgPool, sealer: &Sealer) -> anyhow::Result<Rotated> {
    let mut rotated = Rotated::of("sdk_sessions");
    let mut after = Vec::new();
    loop {
        let page = sqlx::query!(
            "SELECT token_hash, key, key_id FROM sdk_sessions WHERE token_hash > $1 ORDER BY token_hash LIMIT $2",
            after,
            PAGE,
        )
        .fetch_all(db)
        .await?;
        let Some(last) = page.last() else { return Ok(rotated) };
        after.clone_from(&last.token_hash);
        for row in page.into_iter().filter(|row| row.key_id != sealer.first()) {
            let former = Sealed { key_id: row.key_id, bytes: row.key };
            rotated.note(session(db, sealer, &row.token_hash, &former).await)?;
        }
    }
}

/// The key of a session never changes: what is not there any more has ended, or was sealed anew by another.
async fn session(db: &PgPool, sealer: &Sealer, hash: &[u8], former: &Sealed) -> anyhow::Result<Turn> {
    let Some(anew) = sealer.reseal(former, &sdk::sessions::purpose(hash))? else {
        return Ok(Turn::Unopened(former.key_id.clone()));
    };
    let done = sqlx::query!(
        "UPDATE sdk_sessions SET key = $3, key_id = $4 WHERE token_hash = $1 AND key = $2",
        hash,
        former.bytes,
        anew.bytes,
        anew.key_id,
    )
    .execute(db)
    .await?;
    Ok(if done.rows_affected() > 0 { Turn::Anew } else { Turn::Settled })
}

fn is_other(key_id: Option<&str>, sealer: &Sealer) -> bool {
    key_id.is_some_and(|key_id| key_id != sealer.first())
}
