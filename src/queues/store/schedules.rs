//! The SQL of `queue_schedules`: which message is pushed when. When each fires next, `schedules` says.

use crate::flow::store::schedules::{self as moments, Due};
use crate::queues::schedules::Entry;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use std::collections::HashMap;
use uuid::Uuid;

/// The kind of their schedules.
pub const KIND: &str = "queue";

/// A schedule as it is stored.
#[derive(Debug)]
pub struct Row {
    /// Its id.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// The document as it was put.
    pub definition: Json<Box<RawValue>>,
}

/// The schedules of a queue.
pub async fn of_queue(db: impl PgExecutor<'_>, queue_id: i32) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        SELECT id, name, definition AS "definition: Json<Box<RawValue>>"
        FROM queue_schedules
        WHERE queue_id = $1
        ORDER BY name
        "#,
        queue_id,
    )
    .fetch_all(db)
    .await
}

/// A schedule, and how it does.
#[derive(Debug)]
pub struct View {
    /// Its name.
    pub name: String,
    /// The document as it was put.
    pub definition: Json<Box<RawValue>>,
    /// When it fires next.
    pub next_run: Option<DateTime<Utc>>,
    /// When it last pushed a message.
    pub last_run: Option<DateTime<Utc>>,
    /// That message.
    pub last_message: Option<Uuid>,
}

/// The schedules of a queue by name, or the one of this name.
pub async fn views(db: impl PgExecutor<'_>, queue_id: i32, name: Option<&str>) -> sqlx::Result<Vec<View>> {
    sqlx::query_as!(
        View,
        r#"
        SELECT
            q.name, q.definition AS "definition: Json<Box<RawValue>>", s.next_at AS "next_run?",
            s.last_at AS "last_run?", s.last_item AS "last_message?"
        FROM queue_schedules AS q
        LEFT JOIN schedules AS s ON s.kind = 'queue' AND s.owner = q.id
        WHERE q.queue_id = $1 AND ($2::text IS NULL OR q.name = $2)
        ORDER BY q.name
        "#,
        queue_id,
        name,
    )
    .fetch_all(db)
    .await
}

/// The database's time.
pub async fn now(db: impl PgExecutor<'_>) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(db).await
}

/// Makes schedules of a queue or redefines them; returns their ids by their names.
pub async fn put(
    tx: &mut PgConnection,
    queue_id: i32,
    entries: &[Entry],
) -> sqlx::Result<HashMap<String, i32>> {
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let definitions: Vec<&str> = entries.iter().map(|entry| entry.definition.get()).collect();
    let messages: Vec<&str> = entries.iter().map(|entry| entry.message.get()).collect();
    let rows = sqlx::query!(
        r#"
        INSERT INTO queue_schedules (queue_id, name, definition, message)
        SELECT $1, name, definition::json, message::json
        FROM unnest($2::text[], $3::text[], $4::text[]) AS e (name, definition, message)
        ON CONFLICT ON CONSTRAINT queue_schedules_name_key DO UPDATE
        SET definition = excluded.definition, message = excluded.message, updated_at = now()
        RETURNING id, name
        "#,
        queue_id,
        &names as _,
        &definitions as _,
        &messages as _,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.name, row.id)).collect())
}

/// Deletes schedules, with the moments that came.
pub async fn delete(tx: &mut PgConnection, ids: &[i32]) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM queue_schedules WHERE id = ANY ($1)", ids).execute(&mut *tx).await?;
    moments::remove(tx, KIND, ids).await
}

/// Deletes all schedules of a queue.
pub async fn delete_all(tx: &mut PgConnection, queue_id: i32) -> sqlx::Result<()> {
    let ids = sqlx::query_scalar!("DELETE FROM queue_schedules WHERE queue_id = $1 RETURNING id", queue_id)
        .fetch_all(&mut *tx)
        .await?;
    moments::remove(tx, KIND, &ids).await
}

/// A schedule that is due.
#[derive(Debug)]
pub struct DueRow {
    /// Its queue.
    pub queue: String,
    /// Whether the message that it made last has not ended.
    pub is_under_way: bool,
    /// Itself.
    pub row: Row,
}

/// Those of the due schedules that are there.
pub async fn due(tx: &mut PgConnection, due: &[Due]) -> sqlx::Result<Vec<DueRow>> {
    let owners: Vec<i32> = due.iter().map(|due| due.owner).collect();
    let last: Vec<Option<Uuid>> = due.iter().map(|due| due.last).collect();
    let rows = sqlx::query!(
        r#"
        SELECT
            s.id, q.name AS queue, s.name, s.definition AS "definition: Json<Box<RawValue>>",
            EXISTS (SELECT FROM messages AS m WHERE m.queue_id = s.queue_id AND m.id = due.last)
                AND NOT EXISTS (
                    SELECT FROM outcomes AS o WHERE o.queue_id = s.queue_id AND o.id = due.last
                ) AS "is_under_way!"
        FROM unnest($1::int[], $2::uuid[]) AS due (id, last)
        JOIN queue_schedules AS s ON s.id = due.id
        JOIN queues AS q ON q.id = s.queue_id
        "#,
        &owners,
        &last as _,
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|found| DueRow {
            queue: found.queue,
            is_under_way: found.is_under_way,
            row: Row { id: found.id, name: found.name, definition: found.definition },
        })
        .collect())
}

/// What was pushed into one queue, of one rank.
#[derive(Debug)]
pub struct Pushed {
    /// The queue.
    pub queue_id: i32,
    /// The negated priority.
    pub rank: i16,
    /// How many messages.
    pub count: i64,
    /// Whether messages of the queue are unique: then nothing was pushed, and [`push_unique`] does.
    pub is_unique: bool,
}

/// Pushes the message of each of these schedules, with this id, where messages need not be unique. It is validated before
/// it runs.
pub async fn push(tx: &mut PgConnection, pushes: &[(i32, Uuid)]) -> sqlx::Result<Vec<Pushed>> {
    let (schedules, ids): (Vec<i32>, Vec<Uuid>) = pushes.iter().copied().unzip();
    sqlx::query_as!(
        Pushed,
        r#"
        WITH input AS MATERIALIZED (
            SELECT
                s.queue_id, i.id, i.place, s.message, q.uniqueness IS NOT NULL AS is_unique,
                (-coalesce((readable_json(q.definition) #>> '{options,priority}')::integer, 0))::smallint AS rank
            FROM unnest($1::int[], $2::uuid[]) WITH ORDINALITY AS i (schedule, id, place)
            JOIN queue_schedules AS s ON s.id = i.schedule
            JOIN queues AS q ON q.id = s.queue_id
        ),
        stored AS (
            INSERT INTO messages (queue_id, rank, id, request)
            SELECT queue_id, rank, id, message FROM input WHERE NOT is_unique
        ),
        ready AS (
            INSERT INTO dispatch (lane, rank, item)
            SELECT queue_id, rank, id FROM input WHERE NOT is_unique ORDER BY place
        )
        SELECT queue_id, rank AS "rank!", count(*) AS "count!", is_unique AS "is_unique!"
        FROM input
        GROUP BY queue_id, rank, is_unique
        "#,
        &schedules,
        &ids,
    )
    .fetch_all(tx)
    .await
}

/// What became of the message of a schedule whose queue's messages are unique.
#[derive(Debug)]
pub struct Judged {
    /// The schedule.
    pub schedule: i32,
    /// The queue.
    pub queue_id: i32,
    /// The negated priority.
    pub rank: i16,
    /// As `push_identified` says.
    pub verdict: String,
    /// The message that there is.
    pub message: Uuid,
}

/// As [`push`], where messages are unique.
pub async fn push_unique(tx: &mut PgConnection, pushes: &[(i32, Uuid)]) -> sqlx::Result<Vec<Judged>> {
    let (schedules, ids): (Vec<i32>, Vec<Uuid>) = pushes.iter().copied().unzip();
    sqlx::query_as!(
        Judged,
        r#"
        WITH input AS MATERIALIZED (
            SELECT
                array_agg(s.id ORDER BY i.place) AS schedules, array_agg(s.queue_id ORDER BY i.place) AS lanes,
                array_agg(i.id ORDER BY i.place) AS ids, array_agg(s.message ORDER BY i.place) AS messages,
                array_agg(
                    (-coalesce((readable_json(q.definition) #>> '{options,priority}')::integer, 0))::smallint
                    ORDER BY i.place
                ) AS ranks,
                array_fill(NULL::text, ARRAY[count(*)::integer]) AS no_texts
            FROM unnest($1::int[], $2::uuid[]) WITH ORDINALITY AS i (schedule, id, place)
            JOIN queue_schedules AS s ON s.id = i.schedule
            JOIN queues AS q ON q.id = s.queue_id
            WHERE q.uniqueness IS NOT NULL
            HAVING count(*) > 0
        )
        SELECT
            each.schedule AS "schedule!", each.queue_id AS "queue_id!", each.rank AS "rank!", each.verdict AS "verdict!",
            each.message AS "message!"
        FROM input
        CROSS JOIN LATERAL push_identified(
            lanes, ids, messages, ranks, no_texts::timestamptz[], no_texts, no_texts, no_texts, no_texts,
            no_texts::bytea[], false, 'look', false, no_texts::bytea[]
        ) AS p
        CROSS JOIN LATERAL unnest(schedules, lanes, ranks, p.verdicts, p.holders)
            AS each (schedule, queue_id, rank, verdict, message)
        "#,
        &schedules,
        &ids,
    )
    .fetch_all(tx)
    .await
}

/// A schedule that is to be run by hand.
#[derive(Debug)]
pub struct ToRun {
    /// Itself.
    pub row: Row,
    /// Its message.
    pub message: Box<RawValue>,
}

/// The schedule of this name, to run it.
pub async fn to_run(db: impl PgExecutor<'_>, queue_id: i32, name: &str) -> sqlx::Result<Option<ToRun>> {
    let row = sqlx::query!(
        r#"
        SELECT
            id, name, definition AS "definition: Json<Box<RawValue>>", message AS "message: Json<Box<RawValue>>"
        FROM queue_schedules
        WHERE queue_id = $1 AND name = $2
        "#,
        queue_id,
        name,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| ToRun {
        row: Row { id: row.id, name: row.name, definition: row.definition },
        message: row.message.0,
    }))
}

/// Whether a message of a queue is there and has not ended.
pub async fn is_unfinished(tx: &mut PgConnection, queue_id: i32, message: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        SELECT EXISTS (SELECT FROM messages AS m WHERE m.queue_id = $1 AND m.id = $2)
            AND NOT EXISTS (SELECT FROM outcomes AS o WHERE o.queue_id = $1 AND o.id = $2) AS "is_unfinished!"
        "#,
        queue_id,
        message,
    )
    .fetch_one(tx)
    .await
}
