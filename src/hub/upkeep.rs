//! What goes on beside the messages of the hub: partitions ahead and behind, old rows forgotten.

pub mod store;

use crate::db::{self, Database};
use crate::flow::store::parts;
use crate::hub::definitions::store::{astray, mappings};
use crate::worker::retention::{Old, Part, Retention, forget, keep_ahead};
use crate::worker::store as engine;
use crate::worker::upkeep::{self, Step};
use sqlx::postgres::PgPool;
use std::fmt;
use std::time::Duration;
use store::{DESCENDANTS, Hub, IDENTIFIERS, KEYS, LOG_ENTRIES, TICKS};
use tokio_util::sync::CancellationToken;

/// For how long messages, deliveries, log entries and idempotency keys are kept.
const KEEP: Duration = Duration::from_hours(30 * 24);
/// For how long the same identifiers do not go to a mapping again.
const KEEP_IDENTIFIERS: Duration = Duration::from_hours(90 * 24);
/// For how long it is known what became of a moment of a schedule, once somebody saw to it.
const KEEP_TICKS: Duration = Duration::from_hours(7 * 24);

/// Tidies until `stop`.
pub async fn run(db: Database, stop: CancellationToken) {
    let pool = db.worker.clone();
    let upkeep = Upkeep { db, retention: Retention::default(), looked: i32::MIN };
    tokio::join!(keep_ahead::<Hub>(&pool, &stop), upkeep::run(upkeep, &pool, &stop));
}

struct Upkeep {
    db: Database,
    retention: Retention<Hub>,
    /// The retired lanes were looked after up to this one.
    looked: i32,
}

/// What there is to tidy.
#[derive(Debug, Clone, Copy)]
enum Duty {
    Weeks(Part),
    RetiredLanes,
    Circuits,
    Forget(Old, Duration),
    Mappings,
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weeks(part) => part.fmt(f),
            Self::RetiredLanes => f.write_str("look for deliveries at endpoints that were deleted"),
            Self::Circuits => f.write_str("forget circuits of services without a mapping"),
            Self::Forget(old, _) => write!(f, "forget old rows of {}", old.table),
            Self::Mappings => f.write_str("forget deleted mappings"),
        }
    }
}

impl upkeep::Upkeep for Upkeep {
    const NAME: &'static str = "hub";
    type Duty = Duty;
    const DUTIES: &'static [Duty] = &[
        Duty::Weeks(Part::Adopt),
        Duty::RetiredLanes,
        Duty::Circuits,
        Duty::Forget(KEYS, KEEP),
        Duty::Forget(DESCENDANTS, KEEP),
        Duty::Forget(IDENTIFIERS, KEEP_IDENTIFIERS),
        Duty::Forget(LOG_ENTRIES, KEEP),
        Duty::Forget(TICKS, KEEP_TICKS),
        Duty::Weeks(Part::Leave),
        Duty::Weeks(Part::Sweep),
        Duty::Mappings,
    ];

    async fn step(&mut self, duty: Duty) -> sqlx::Result<Step> {
        let pool = &self.db.worker;
        // Nothing is old before the time is known.
        let Some(now) = self.db.ids.now() else { return Ok(Step::Done) };
        match duty {
            Duty::Weeks(part) => self.retention.step(pool, part, now - KEEP).await,
            Duty::RetiredLanes => self.look_after_retired_lanes().await,
            Duty::Circuits => forget_unnamed(pool).await,
            Duty::Forget(old, keep) => forget(pool, &old, now - keep).await,
            Duty::Mappings => forget_mappings(pool).await,
        }
    }
}

impl Upkeep {
    /// Finds what came to endpoints after they were deleted: a push that still knew them. One lane a step.
    async fn look_after_retired_lanes(&mut self) -> sqlx::Result<Step> {
        let lanes = engine::retired_lanes(&self.db.worker, "endpoint").await?;
        let looked = self.looked;
        let mut lanes = lanes.into_iter().filter(|(lane, _)| *lane > looked);
        let Some((lane, is_old)) = lanes.next() else {
            self.looked = i32::MIN;
            return Ok(Step::Done);
        };
        self.looked = lane;
        if let Err(error) = look_after(&self.db.worker, lane, is_old).await {
            // The others do not wait for it.
            tracing::warn!(%error, lane, "cannot look for deliveries at an endpoint that was deleted; trying again later");
        }
        Ok(Step::More("it looks for deliveries at endpoints that were deleted"))
    }
}

async fn look_after(pool: &PgPool, lane: i32, is_old: bool) -> sqlx::Result<()> {
    let moved = db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
        Box::pin(async move {
            engine::release_dead(&mut *tx, lane).await?;
            let ready = astray::redirect(&mut *tx, lane).await?;
            astray::park(&mut *tx, lane).await?;
            if is_old && !engine::is_leased(&mut *tx, lane).await? {
                engine::remove_lane(tx, lane).await?;
            }
            Ok(!ready.is_empty())
        })
    });
    if moved.await? {
        tracing::info!(
            lane,
            "deliveries came to an endpoint that was deleted: they go where their mappings send"
        );
    }
    Ok(())
}

/// Forgets circuits of services that no mapping names any more.
async fn forget_unnamed(pool: &PgPool) -> sqlx::Result<Step> {
    let unnamed = mappings::unnamed_services(pool).await?;
    if !unnamed.is_empty() {
        parts::forget(pool, &unnamed).await?;
    }
    Ok(Step::Done)
}

async fn forget_mappings(pool: &PgPool) -> sqlx::Result<Step> {
    let forgotten =
        db::transaction::<_, sqlx::Error, _>(pool, |tx| Box::pin(mappings::forget_deleted(tx))).await?;
    if forgotten > 0 {
        tracing::info!(forgotten, "forgot deleted mappings");
    }
    Ok(Step::Done)
}
