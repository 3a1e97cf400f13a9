//! The SQL of `schedules` and `ticks`: what fires when, and which moments came. Many fire at once, as those of one minute
//! do, so each statement takes many.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;
use std::collections::HashSet;
use uuid::Uuid;

/// What the ticker has to do next.
#[derive(Debug, Clone, Copy)]
pub struct Ahead {
    /// In how many seconds the first schedule fires; `None` without one.
    pub seconds: Option<f64>,
    /// Whether moments were worked out by a clock that was set back since.
    pub is_astray: bool,
}

/// When the first schedule fires.
pub async fn ahead(db: impl PgExecutor<'_>) -> sqlx::Result<Ahead> {
    sqlx::query_as!(
        Ahead,
        r#"
        SELECT
            extract(epoch FROM (SELECT min(next_at) FROM schedules WHERE next_at IS NOT NULL) - now())::float8 AS seconds,
            EXISTS (
                SELECT FROM schedules WHERE set_at > now() + interval '1 second' AND next_at IS NOT NULL
            ) AS "is_astray!"
        "#
    )
    .fetch_one(db)
    .await
}

/// A schedule that is to be seen to, whose row is locked.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its owner.
    pub owner: i32,
    /// The moment that has come; one that has not was worked out by a clock that was set back since.
    pub at: DateTime<Utc>,
    /// The database's time.
    pub now: DateTime<Utc>,
    /// What it made last.
    pub last: Option<Uuid>,
}

/// Locks the schedules of this kind that have been due longest, at most `limit`, leaving out what another process fires just now.
pub async fn lock_due(tx: &mut PgConnection, kind: &str, limit: i64) -> sqlx::Result<Vec<Due>> {
    sqlx::query_as!(
        Due,
        r#"
        SELECT owner, next_at AS "at!", now() AS "now!", last_item AS last
        FROM schedules
        WHERE next_at <= now() AND kind = $2
        ORDER BY next_at
        LIMIT $1
        FOR NO KEY UPDATE SKIP LOCKED
        "#,
        limit,
        kind,
    )
    .fetch_all(tx)
    .await
}

/// As [`lock_due`], those whose moments were worked out by a clock that was set back since.
pub async fn lock_astray(tx: &mut PgConnection, kind: &str, limit: i64) -> sqlx::Result<Vec<Due>> {
    sqlx::query_as!(
        Due,
        r#"
        SELECT owner, next_at AS "at!", now() AS "now!", last_item AS last
        FROM schedules
        WHERE set_at > now() + interval '1 second' AND next_at IS NOT NULL AND kind = $2
        ORDER BY set_at
        LIMIT $1
        FOR NO KEY UPDATE SKIP LOCKED
        "#,
        limit,
        kind,
    )
    .fetch_all(tx)
    .await
}

/// A moment that came, and what became of it.
#[derive(Debug, Clone, Copy)]
pub struct Tick {
    /// The owner of its schedule.
    pub owner: i32,
    /// The moment.
    pub at: DateTime<Utc>,
    /// As in the table.
    pub outcome: &'static str,
    /// What it makes, if that has an id.
    pub item: Option<Uuid>,
}

/// Notes moments of schedules of this kind, each of another; returns the owners of those that had not come before.
pub async fn note(tx: &mut PgConnection, kind: &str, ticks: &[Tick]) -> sqlx::Result<HashSet<i32>> {
    let owners: Vec<i32> = ticks.iter().map(|tick| tick.owner).collect();
    let moments: Vec<DateTime<Utc>> = ticks.iter().map(|tick| tick.at).collect();
    let outcomes: Vec<&str> = ticks.iter().map(|tick| tick.outcome).collect();
    let items: Vec<Option<Uuid>> = ticks.iter().map(|tick| tick.item).collect();
    let new = sqlx::query_scalar!(
        r#"
        INSERT INTO ticks (kind, owner, at, outcome, item)
        SELECT $1, owner, at, outcome, item
        FROM unnest($2::int[], $3::timestamptz[], $4::text[], $5::uuid[]) AS t (owner, at, outcome, item)
        ON CONFLICT ON CONSTRAINT ticks_pkey DO NOTHING
        RETURNING owner
        "#,
        kind,
        &owners,
        &moments,
        &outcomes as _,
        &items as _,
    )
    .fetch_all(tx)
    .await?;
    Ok(new.into_iter().collect())
}

/// Has moments that were noted in this transaction say what these do.
pub async fn change(tx: &mut PgConnection, kind: &str, ticks: &[Tick]) -> sqlx::Result<()> {
    let owners: Vec<i32> = ticks.iter().map(|tick| tick.owner).collect();
    let moments: Vec<DateTime<Utc>> = ticks.iter().map(|tick| tick.at).collect();
    let outcomes: Vec<&str> = ticks.iter().map(|tick| tick.outcome).collect();
    let items: Vec<Option<Uuid>> = ticks.iter().map(|tick| tick.item).collect();
    sqlx::query!(
        r#"
        UPDATE ticks
        SET outcome = t.outcome, item = t.item
        FROM unnest($2::int[], $3::timestamptz[], $4::text[], $5::uuid[]) AS t (owner, at, outcome, item)
        WHERE ticks.kind = $1 AND ticks.owner = t.owner AND ticks.at = t.at
            AND (ticks.outcome, ticks.item) IS DISTINCT FROM (t.outcome, t.item)
        "#,
        kind,
        &owners,
        &moments,
        &outcomes as _,
        &items as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Where a schedule stands once its moment was seen to.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The owner.
    pub owner: i32,
    /// When it fires next; never, if that is not known.
    pub next: Option<DateTime<Utc>>,
    /// Whether it made something.
    pub made: bool,
    /// What that was, if it has an id.
    pub item: Option<Uuid>,
}

/// Moves schedules of this kind on, whose rows are locked.
pub async fn move_on(tx: &mut PgConnection, kind: &str, steps: &[Step]) -> sqlx::Result<()> {
    let owners: Vec<i32> = steps.iter().map(|step| step.owner).collect();
    let next: Vec<Option<DateTime<Utc>>> = steps.iter().map(|step| step.next).collect();
    let made: Vec<bool> = steps.iter().map(|step| step.made).collect();
    let items: Vec<Option<Uuid>> = steps.iter().map(|step| step.item).collect();
    sqlx::query!(
        r#"
        UPDATE schedules AS s
        SET next_at = step.next,
            set_at = now(),
            last_at = CASE WHEN step.made THEN now() ELSE s.last_at END,
            last_item = CASE WHEN step.made THEN step.item ELSE s.last_item END
        FROM unnest($2::int[], $3::timestamptz[], $4::bool[], $5::uuid[]) AS step (owner, next, made, item)
        WHERE s.kind = $1 AND s.owner = step.owner
        "#,
        kind,
        &owners,
        &next as _,
        &made,
        &items as _,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// When the schedule of an owner fires, as its definition now says.
#[derive(Debug, Clone, Copy)]
pub struct Put {
    /// The owner.
    pub owner: i32,
    /// When it fires first; never, while it is switched off.
    pub first: Option<DateTime<Utc>>,
    /// Whether it is what it was, and so goes on as it is.
    pub goes_on: bool,
}

/// Puts schedules of this kind. Each row is locked, also of one that goes on: who fires it under its former definition has
/// ended by then.
pub async fn put(tx: &mut PgConnection, kind: &str, puts: &[Put]) -> sqlx::Result<()> {
    let owners: Vec<i32> = puts.iter().map(|put| put.owner).collect();
    let first: Vec<Option<DateTime<Utc>>> = puts.iter().map(|put| put.first).collect();
    let goes_on: Vec<bool> = puts.iter().map(|put| put.goes_on && put.first.is_some()).collect();
    sqlx::query!(
        r#"
        WITH put AS MATERIALIZED (
            SELECT p.owner, p.first, p.goes_on
            FROM unnest($2::int[], $3::timestamptz[], $4::bool[]) AS p (owner, first, goes_on)
        ),
        there AS (
            UPDATE schedules AS s
            -- One that goes on keeps its moment, unless nobody knew when it fires.
            SET next_at = CASE WHEN put.goes_on AND s.next_at IS NOT NULL THEN s.next_at ELSE put.first END,
                set_at = CASE WHEN put.goes_on AND s.next_at IS NOT NULL THEN s.set_at ELSE now() END
            FROM put
            WHERE s.kind = $1 AND s.owner = put.owner
        )
        INSERT INTO schedules (kind, owner, next_at)
        SELECT $1, put.owner, put.first
        FROM put
        ORDER BY put.owner
        ON CONFLICT ON CONSTRAINT schedules_pkey DO NOTHING
        "#,
        kind,
        &owners,
        &first as _,
        &goes_on,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Removes the schedules of these owners, with the moments that came.
pub async fn remove(tx: &mut PgConnection, kind: &str, owners: &[i32]) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM schedules WHERE kind = $1 AND owner = ANY ($2)", kind, owners)
        .execute(tx)
        .await?;
    Ok(())
}

/// Locks the schedule of an owner to run it by hand; returns what it made last, if it is there.
pub async fn lock(tx: &mut PgConnection, kind: &str, owner: i32) -> sqlx::Result<Option<Option<Uuid>>> {
    sqlx::query_scalar!(
        "SELECT last_item FROM schedules WHERE kind = $1 AND owner = $2 FOR NO KEY UPDATE",
        kind,
        owner,
    )
    .fetch_optional(tx)
    .await
}

/// Notes that a schedule, whose row is locked, was run by hand, and what that made.
pub async fn note_by_hand(tx: &mut PgConnection, kind: &str, owner: i32, item: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        WITH noted AS (
            INSERT INTO ticks (kind, owner, at, outcome, item)
            VALUES ($1, $2, clock_timestamp(), 'by hand', $3)
            ON CONFLICT ON CONSTRAINT ticks_pkey DO NOTHING
        )
        UPDATE schedules SET last_at = now(), last_item = $3 WHERE kind = $1 AND owner = $2
        "#,
        kind,
        owner,
        item,
    )
    .execute(tx)
    .await?;
    Ok(())
}
