//! What of others holds the database up, measured when somebody asks.

use super::install;
use crate::db::holdups;
use metrics::{Unit, describe_gauge, gauge};
use sqlx::postgres::PgPool;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// For how long the oldest transaction of a session has been open, in seconds.
const TRANSACTION: &str = "postrider_oldest_transaction_seconds";
/// For how long the oldest prepared transaction has waited for its end, in seconds.
const PREPARED: &str = "postrider_oldest_prepared_transaction_seconds";
/// Replication slots that keep something and are read by nobody.
const SLOTS: &str = "postrider_stale_replication_slots";
/// The most write-ahead log that one of them keeps.
const BYTES: &str = "postrider_stale_replication_slot_bytes";

/// How long a measurement holds.
const HOLDS: Duration = Duration::from_secs(5);
/// How long the database may take for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The gauges.
#[derive(Debug)]
pub struct Holdups {
    pool: PgPool,
    measured: Mutex<Option<Instant>>,
}

impl Holdups {
    /// Those of the database behind `pool`.
    pub fn new(pool: PgPool) -> Self {
        install();
        describe_gauge!(TRANSACTION, Unit::Seconds, "Age of the oldest open transaction of the database");
        describe_gauge!(PREPARED, Unit::Seconds, "Age of the oldest prepared transaction of the database");
        describe_gauge!(SLOTS, Unit::Count, "Replication slots that nobody reads");
        describe_gauge!(BYTES, Unit::Bytes, "The most write-ahead log that one of these slots keeps");
        Self { pool, measured: Mutex::default() }
    }

    /// Sets the gauges. They are measured anew only now and then; while another measures, and when the database does
    /// not answer, they stay as they were.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    pub async fn measure(&self) {
        let Ok(mut measured) = self.measured.try_lock() else { return };
        if measured.is_some_and(|at| at.elapsed() < HOLDS) {
            return;
        }
        let looked = tokio::time::timeout(PATIENCE, holdups::look(&self.pool)).await;
        *measured = Some(Instant::now());
        match looked {
            Ok(Ok(found)) => {
                gauge!(TRANSACTION).set(found.transaction_seconds);
                gauge!(PREPARED).set(found.prepared_seconds);
                gauge!(SLOTS).set(found.stale_slots as f64);
                gauge!(BYTES).set(found.slot_bytes as f64);
            }
            Ok(Err(error)) => tracing::debug!(%error, "cannot measure what holds the database up"),
            Err(_) => tracing::debug!("cannot measure what holds the database up: no answer"),
        }
    }
}
