//! What is let go in time: weeks of messages, idempotency keys, values that nothing holds, what deleted queues and dead
//! workers left.

use super::routes::Queues;
use super::store::identified;
use super::store::retention::{KEYS, Messages};
use crate::db;
use crate::worker::retention::{Part, Retention, forget, keep_ahead};
use crate::worker::store as engine;
use crate::worker::upkeep::{self, Step, Upkeep};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgPool;
use std::fmt;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Rows in one step of the sweep.
const BATCH: i64 = 2000;

/// The tidying of the queues.
pub(super) struct Tidy {
    queues: Queues,
    retention: Retention<Messages>,
    /// How far what deleted queues left was looked through.
    swept: engine::Cursor,
}

/// What there is to tidy.
#[derive(Debug, Clone, Copy)]
pub(super) enum Duty {
    Weeks(Part),
    Keys,
    Values,
    Workers,
    Orphans,
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weeks(part) => part.fmt(f),
            Self::Keys => f.write_str("forget idempotency keys"),
            Self::Values => f.write_str("let go of values that no message holds"),
            Self::Workers => f.write_str("forget workers that died"),
            Self::Orphans => f.write_str("sweep what deleted queues left"),
        }
    }
}

impl Tidy {
    pub(super) fn new(queues: Queues) -> Self {
        Self { queues, retention: Retention::default(), swept: engine::Cursor::default() }
    }

    /// Goes on until `stop`.
    pub(super) async fn run(self, stop: &CancellationToken) {
        let pool = self.queues.access.db.worker.clone();
        tokio::join!(keep_ahead::<Messages>(&pool, stop), upkeep::run(self, &pool, stop));
    }

    /// What ended before this moment goes; `None` while that is not known.
    fn keep_after(&self) -> Option<DateTime<Utc>> {
        let access = &self.queues.access;
        if !access.catalog.is_complete() {
            return None;
        }
        let mut longest = Duration::from_hours(1);
        access.catalog.each(|queue| longest = longest.max(queue.definition.options.retention));
        access.db.ids.now().map(|now| now - longest)
    }

    /// Looks at values whose time has come, whether a message still holds them.
    async fn let_go(pool: &PgPool) -> sqlx::Result<Step> {
        let looked_at =
            db::transaction::<_, sqlx::Error, _>(pool, move |tx| Box::pin(identified::let_go(tx, BATCH)))
                .await?;
        Ok(if looked_at < BATCH {
            Step::Done
        } else {
            Step::More("it lets go of values that no message holds")
        })
    }

    /// Looks through the next rows that wait, for those of lanes that are gone.
    async fn sweep(&mut self, pool: &PgPool) -> sqlx::Result<Step> {
        let swept = self.swept;
        let swept =
            db::transaction::<_, sqlx::Error, _>(pool, move |tx| Box::pin(engine::sweep(tx, swept, BATCH)))
                .await?;
        self.swept = swept.unwrap_or_default();
        Ok(if swept.is_some() { Step::More("it sweeps what deleted queues left") } else { Step::Done })
    }
}

impl Upkeep for Tidy {
    const NAME: &'static str = "retention";
    type Duty = Duty;
    const DUTIES: &'static [Duty] = &[
        Duty::Weeks(Part::Adopt),
        Duty::Workers,
        Duty::Orphans,
        Duty::Keys,
        Duty::Values,
        Duty::Weeks(Part::Leave),
        Duty::Weeks(Part::Sweep),
    ];

    async fn step(&mut self, duty: Duty) -> sqlx::Result<Step> {
        let pool = self.queues.access.db.worker.clone();
        match (duty, self.keep_after()) {
            (Duty::Workers, _) => {
                engine::bury(&mut *pool.acquire().await?).await?;
                Ok(Step::Done)
            }
            (Duty::Orphans, _) => self.sweep(&pool).await,
            (Duty::Values, _) => Self::let_go(&pool).await,
            (_, None) => {
                let why = "nothing is dropped: a definition cannot be used, and its retention is not known";
                tracing::warn!("{why}");
                Ok(Step::Later(why.to_owned()))
            }
            (Duty::Keys, Some(keep_after)) => forget(&pool, &KEYS, keep_after).await,
            (Duty::Weeks(part), Some(keep_after)) => self.retention.step(&pool, part, keep_after).await,
        }
    }
}
