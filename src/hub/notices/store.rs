//! The SQL of log entries: each is written once, and counts how often it was said.

use super::log_entry::{Entry, Level};
use sqlx::postgres::PgConnection;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Writes entries; what is there already occurs once more.
pub async fn write(tx: &mut PgConnection, entries: &[Entry]) -> sqlx::Result<()> {
    // In one order for everybody, and each once: a statement cannot change a row twice.
    let mut counted: BTreeMap<(i32, [u8; 32]), (&Entry, i32)> = BTreeMap::new();
    for entry in entries {
        counted.entry((entry.store_id, entry.digest)).or_insert((entry, 0)).1 += 1;
    }
    let said: Vec<(&Entry, i32)> = counted.into_values().collect();
    let stores: Vec<i32> = said.iter().map(|(e, _)| e.store_id).collect();
    let levels: Vec<Level> = said.iter().map(|(e, _)| e.note.level).collect();
    let subjects: Vec<&str> = said.iter().map(|(e, _)| e.note.subject.as_str()).collect();
    let descriptions: Vec<&str> = said.iter().map(|(e, _)| e.note.description.as_str()).collect();
    let times: Vec<i32> = said.iter().map(|(_, times)| *times).collect();
    let messages: Vec<Option<Uuid>> = said.iter().map(|(e, _)| e.message_id).collect();
    let kinds: Vec<Option<&str>> = said.iter().map(|(e, _)| e.note.reference.0.as_deref()).collect();
    let ids: Vec<Option<&str>> = said.iter().map(|(e, _)| e.note.reference.1.as_deref()).collect();
    let digests: Vec<&[u8]> = said.iter().map(|(e, _)| e.digest.as_slice()).collect();
    sqlx::query!(
        r#"
        INSERT INTO log_entries (
            store_id, level, subject, description, occurrences, message_id, reference_type, reference_id, digest
        )
        SELECT *
        FROM unnest(
            $1::int[], $2::log_level[], $3::text[], $4::text[], $5::int[], $6::uuid[], $7::text[], $8::text[], $9::bytea[]
        )
        ON CONFLICT (store_id, digest) DO UPDATE
        SET occurrences = log_entries.occurrences + excluded.occurrences, last_seen = now()
        "#,
        &stores,
        &levels as _,
        &subjects as _,
        &descriptions as _,
        &times,
        &messages as _,
        &kinds as _,
        &ids as _,
        &digests as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}
