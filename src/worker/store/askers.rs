//! The SQL of `lane_askers`: when remote workers last asked for items of each lane.

use super::why::LOOKED_AT;
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use std::time::Duration;

/// Somebody who asked for items of a lane.
#[derive(Debug)]
pub struct Asker {
    /// The lane.
    pub lane: i32,
    /// The subject of the token.
    pub holder: String,
    /// How long ago.
    pub ago: Duration,
}

/// Notes who asked, unless somebody did later. A lane that is gone is left out.
pub async fn note_askers(db: impl PgExecutor<'_>, askers: &[Asker]) -> sqlx::Result<()> {
    let lanes: Vec<i32> = askers.iter().map(|asker| asker.lane).collect();
    let holders: Vec<&str> = askers.iter().map(|asker| asker.holder.as_str()).collect();
    let ago: Vec<f64> = askers.iter().map(|asker| asker.ago.as_secs_f64()).collect();
    sqlx::query!(
        r#"
        INSERT INTO lane_askers AS l (lane, asked_at, holder)
        SELECT a.lane, now() - make_interval(secs => a.ago), a.holder
        FROM unnest($1::int[], $2::text[], $3::float8[]) AS a (lane, holder, ago)
        JOIN lanes ON lanes.id = a.lane
        ORDER BY a.lane
        ON CONFLICT ON CONSTRAINT lane_askers_pkey DO UPDATE
        SET asked_at = excluded.asked_at, holder = excluded.holder
        WHERE l.asked_at < excluded.asked_at
        "#,
        &lanes,
        &holders as _,
        &ago,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The last who asked for items of a lane.
#[derive(Debug, Clone)]
pub struct LastAsker {
    /// When.
    pub at: DateTime<Utc>,
    /// The subject of the token; `None` where that is not told.
    pub by: Option<String>,
}

/// Who last asked for items of this lane. Who has just claimed one is noted a moment later, and has its lease at once.
pub async fn asker(db: impl PgExecutor<'_>, lane: i32) -> sqlx::Result<Option<LastAsker>> {
    let row = sqlx::query!(
        r#"
        SELECT at AS "at!", holder AS "holder!"
        FROM (
            SELECT asked_at AS at, holder FROM lane_askers WHERE lane = $1
            UNION ALL
            SELECT claimed_at, holder
            FROM (SELECT claimed_at, holder FROM leases WHERE lane = $1 AND holder IS NOT NULL LIMIT $2) AS held
        ) AS asked
        ORDER BY at DESC
        LIMIT 1
        "#,
        lane,
        LOOKED_AT,
    );
    Ok(row.fetch_optional(db).await?.map(|row| LastAsker { at: row.at, by: Some(row.holder) }))
}
