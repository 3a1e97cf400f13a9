//! Which weeks are to be made ahead: those of the next two weeks.
//!
//! Every process makes them, beside its work: a push that comes before its week is there is found all the same. One in
//! whose time much lies already is left to the upkeep (`adopt.rs`): its rows move in pieces.

use super::feature::Feature;
use super::piece::{is_heavy, make};
use super::span::{AHEAD, WEEK, gaps, monday};
use crate::worker::store;
use sqlx::postgres::PgPool;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often it is seen to.
const EVERY: Duration = Duration::from_mins(10);

/// Keeps the weeks from now on made, until `stop`. When something else has the tables (a dump, say) it gives way; the
/// next time it goes on.
pub async fn keep_ahead<F: Feature>(pool: &PgPool, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        if let Some(Err(error)) = stop.run_until_cancelled(make_ahead::<F>(pool)).await {
            // They are made two weeks ahead: trying at once would only stand in the way of whatever was in ours.
            tracing::warn!(%error, feature = F::NAME, "cannot make weeks ahead; trying again later");
        }
        stop.run_until_cancelled(tokio::time::sleep(EVERY)).await;
    }
}

async fn make_ahead<F: Feature>(pool: &PgPool) -> sqlx::Result<()> {
    let now = sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(pool).await?;
    let there = store::weeks_after(pool, F::NAME, monday(now)).await?;
    let mut week = monday(now);
    while week <= monday(now + AHEAD) {
        for (starts, ends) in gaps(week, week + WEEK, &there) {
            if !is_heavy::<F>(pool, starts, ends).await? {
                make::<F>(pool, starts, ends).await?;
            }
        }
        week += WEEK;
    }
    Ok(())
}
