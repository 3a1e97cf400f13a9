//! The SQL of pages of messages: by state and key, newest first.

use crate::db;
use crate::hub::listing::page::{Page, Span, WALK};
use crate::hub::routing::message::State;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// What a listing is narrowed to.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// This key.
    pub key: Option<String>,
    /// Keys that begin with this.
    pub prefix: Option<String>,
    /// Messages that stand so.
    pub state: Option<State>,
}

/// A message in a listing.
#[derive(Debug)]
pub struct Listed {
    /// The message.
    pub id: Uuid,
    /// Its key.
    pub message: String,
    /// Where it stands.
    pub state: State,
    /// Why it is parked.
    pub reason: Option<String>,
    /// The message whose delivery was answered with it.
    pub parent_id: Option<Uuid>,
    /// How many answers lie between it and a message from outside.
    pub hop: i16,
    /// When it came in.
    pub created_at: DateTime<Utc>,
}

/// A page of messages, newest first. Those that are pending, parked or wanted by none have indexes; what else is asked
/// for is looked for among them, or among all (`crate::hub::listing::page`).
pub async fn page(
    tx: &mut PgConnection,
    store_id: i32,
    filter: &Filter,
    span: Span,
) -> sqlx::Result<Page<Listed>> {
    db::plan_by_rows(&mut *tx).await?;
    let exact = filter.key.is_none()
        && filter.prefix.is_none()
        && !matches!(filter.state, Some(State::Pending | State::Routed));
    let look = if exact { span.limit } else { WALK };
    let found = match filter.state {
        Some(State::Pending) => pending(&mut *tx, store_id, filter, span).await?,
        Some(State::Parked) => parked(&mut *tx, store_id, filter, span, look).await?,
        Some(State::Unrouted) => unrouted(&mut *tx, store_id, filter, span, look).await?,
        Some(State::Routed) | None => walk(&mut *tx, store_id, filter, span, look).await?,
    };
    let short = i64::try_from(found.ids.len()).is_ok_and(|count| count < span.limit);
    let stopped_at = found.end.filter(|_| short);
    Ok(Page { rows: rows(tx, store_id, &found.ids).await?, stopped_at })
}

/// What was found, and the last that was looked at if there may be more.
struct Found {
    ids: Vec<Uuid>,
    end: Option<Uuid>,
}

/// Their index is the router's, and that of all stores.
async fn pending(tx: &mut PgConnection, store_id: i32, filter: &Filter, span: Span) -> sqlx::Result<Found> {
    sqlx::query_as!(
        Found,
        r#"
        WITH looked AS MATERIALIZED (
            SELECT id, message, store_id
            FROM hub_messages
            WHERE state = 'pending' AND id >= $2 AND id < $3
            ORDER BY id DESC
            LIMIT $7
        )
        SELECT
            ARRAY(
                SELECT id FROM looked
                WHERE store_id = $1 AND ($5::text IS NULL OR message = $5) AND ($6::text IS NULL OR starts_with(message, $6))
                ORDER BY id DESC
                LIMIT $4
            ) AS "ids!",
            (SELECT id FROM looked ORDER BY id DESC OFFSET $7 - 1) AS end
        "#,
        store_id,
        span.from,
        span.to,
        span.limit,
        filter.key,
        filter.prefix,
        WALK,
    )
    .fetch_one(tx)
    .await
}

async fn parked(
    tx: &mut PgConnection,
    store_id: i32,
    filter: &Filter,
    span: Span,
    look: i64,
) -> sqlx::Result<Found> {
    sqlx::query_as!(
        Found,
        r#"
        WITH looked AS MATERIALIZED (
            SELECT id, message
            FROM hub_messages
            WHERE store_id = $1 AND state = 'parked' AND id >= $2 AND id < $3
            ORDER BY id DESC
            LIMIT $7
        )
        SELECT
            ARRAY(
                SELECT id FROM looked
                WHERE ($5::text IS NULL OR message = $5) AND ($6::text IS NULL OR starts_with(message, $6))
                ORDER BY id DESC
                LIMIT $4
            ) AS "ids!",
            (SELECT id FROM looked ORDER BY id DESC OFFSET $7 - 1) AS end
        "#,
        store_id,
        span.from,
        span.to,
        span.limit,
        filter.key,
        filter.prefix,
        look,
    )
    .fetch_one(tx)
    .await
}

async fn unrouted(
    tx: &mut PgConnection,
    store_id: i32,
    filter: &Filter,
    span: Span,
    look: i64,
) -> sqlx::Result<Found> {
    sqlx::query_as!(
        Found,
        r#"
        WITH looked AS MATERIALIZED (
            SELECT id, message
            FROM hub_messages
            WHERE store_id = $1 AND state = 'unrouted' AND id >= $2 AND id < $3
            ORDER BY id DESC
            LIMIT $7
        )
        SELECT
            ARRAY(
                SELECT id FROM looked
                WHERE ($5::text IS NULL OR message = $5) AND ($6::text IS NULL OR starts_with(message, $6))
                ORDER BY id DESC
                LIMIT $4
            ) AS "ids!",
            (SELECT id FROM looked ORDER BY id DESC OFFSET $7 - 1) AS end
        "#,
        store_id,
        span.from,
        span.to,
        span.limit,
        filter.key,
        filter.prefix,
        look,
    )
    .fetch_one(tx)
    .await
}

async fn walk(
    tx: &mut PgConnection,
    store_id: i32,
    filter: &Filter,
    span: Span,
    look: i64,
) -> sqlx::Result<Found> {
    sqlx::query_as!(
        Found,
        r#"
        WITH looked AS MATERIALIZED (
            SELECT id, message, state
            FROM hub_messages
            WHERE store_id = $1 AND id >= $2 AND id < $3
            ORDER BY id DESC
            LIMIT $7
        )
        SELECT
            ARRAY(
                SELECT id FROM looked
                WHERE ($8::hub_message_state IS NULL OR state = $8) AND ($5::text IS NULL OR message = $5) AND ($6::text IS NULL OR starts_with(message, $6))
                ORDER BY id DESC
                LIMIT $4
            ) AS "ids!",
            (SELECT id FROM looked ORDER BY id DESC OFFSET $7 - 1) AS end
        "#,
        store_id,
        span.from,
        span.to,
        span.limit,
        filter.key,
        filter.prefix,
        look,
        filter.state as _,
    )
    .fetch_one(tx)
    .await
}

/// These messages, newest first.
async fn rows(tx: &mut PgConnection, store_id: i32, ids: &[Uuid]) -> sqlx::Result<Vec<Listed>> {
    sqlx::query_as!(
        Listed,
        r#"
        SELECT
            m.id AS "id!", m.message AS "message!", m.state AS "state!: State", m.reason, m.parent_id, m.hop AS "hop!",
            uuid_v7_time(m.id) AS "created_at!"
        FROM unnest($2::uuid[]) AS c (id)
        CROSS JOIN LATERAL (
            SELECT id, message, state, reason, parent_id, hop FROM hub_messages
            WHERE store_id = $1 AND id = c.id
            LIMIT 1
        ) AS m
        ORDER BY m.id DESC
        "#,
        store_id,
        ids,
    )
    .fetch_all(tx)
    .await
}
