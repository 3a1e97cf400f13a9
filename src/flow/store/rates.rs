//! The SQL of `rates`: which slots of its rate limit a lane has given.

use crate::flow::rate::{HORIZON, Rate};
use sqlx::{PgExecutor, PgPool};

/// What a rate limit grants.
#[derive(Debug, Clone, Copy)]
pub struct Reserved {
    /// How far the bucket was ahead of now, in seconds.
    pub ahead: f64,
    /// How many items have a slot.
    pub granted: usize,
}

/// Reserves slots for at most `count` items of a lane, as many as may go within `HORIZON`.
pub async fn reserve(db: &PgPool, lane: i32, rate: Rate, count: usize) -> sqlx::Result<Reserved> {
    if let Some(reserved) = take(db, lane, rate, count).await? {
        return Ok(reserved);
    }
    // Nothing of it was limited before.
    make(db, lane).await?;
    // A lane that is gone just now limits nothing.
    Ok(take(db, lane, rate, count).await?.unwrap_or(Reserved { ahead: 0.0, granted: count }))
}

/// Reserves slots; `None` if the lane has given none yet.
pub async fn take(
    db: impl PgExecutor<'_>,
    lane: i32,
    rate: Rate,
    count: usize,
) -> sqlx::Result<Option<Reserved>> {
    let row = sqlx::query!(
        r#"
        WITH bucket AS (
            -- No slot lies further ahead than these, unless it was given before the clock was set back.
            SELECT
                lane,
                CASE WHEN due_at <= now() + make_interval(secs => $3::float8 + $4::float8 + $5::float8 + 1) THEN greatest(due_at, now()) ELSE now() END AS full_at
            FROM rates
            WHERE lane = $1
            FOR NO KEY UPDATE
        ),
        ahead AS (
            SELECT lane, full_at, extract(epoch FROM full_at - now())::float8 AS seconds
            FROM bucket
        ),
        granted AS (
            SELECT lane, full_at, seconds, least($2::float8, greatest(floor(($5::float8 + $4::float8 - seconds) / $3::float8) + 1, 0)) AS slots
            FROM ahead
        )
        UPDATE rates AS r
        SET due_at = g.full_at + make_interval(secs => g.slots * $3)
        FROM granted AS g
        WHERE r.lane = g.lane
        RETURNING g.seconds AS "seconds!", g.slots::bigint AS "slots!"
        "#,
        lane,
        f64::from(u32::try_from(count).unwrap_or(u32::MAX)),
        rate.interval(),
        rate.tolerance(),
        HORIZON.as_secs_f64(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Reserved { ahead: row.seconds, granted: usize::try_from(row.slots).unwrap_or(0) }))
}

/// Has a lane begin with all its slots, unless it was limited before or is gone.
async fn make(db: impl PgExecutor<'_>, lane: i32) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        INSERT INTO rates (lane, due_at)
        SELECT id, now() FROM lanes WHERE id = $1 FOR KEY SHARE
        ON CONFLICT ON CONSTRAINT rates_pkey DO NOTHING
        "#,
        lane,
    )
    .execute(db)
    .await?;
    Ok(())
}
