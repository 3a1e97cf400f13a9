//! How many jobs wait and run, measured when somebody asks for the metrics.

use super::store::depths;
use super::types::Types;
use crate::db::Database;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// A measurement of the gauges holds at least this long, and so long that at most a twentieth of one
/// connection's time goes into it.
const HOLDS: Duration = Duration::from_secs(5);

/// The gauges, set when somebody asks for them.
pub struct Depths {
    db: Database,
    types: Arc<Types>,
    /// When they were measured, and how long that took.
    last: Mutex<Option<(Instant, Duration)>>,
}

impl Depths {
    /// The depths of these kinds of jobs.
    pub fn new(db: Database, types: Arc<Types>) -> Self {
        Self { db, types, last: Mutex::default() }
    }

    /// Sets the gauges. They are measured anew only now and then; while another measures, and when the
    /// database does not answer, they stay as they were.
    pub async fn measure(&self) {
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.is_some_and(|(at, took)| at.elapsed() < HOLDS.max(took * 20)) {
            return;
        }
        let started = Instant::now();
        let rows = depths::read(&self.db.api).await;
        *last = Some((started, started.elapsed()));
        match rows {
            Ok(rows) => {
                for row in rows {
                    let Some(job_type) = self.types.by_id(row.type_id) else { continue };
                    job_type.series.set(row.waiting, row.running);
                }
            }
            Err(error) => tracing::debug!(%error, "cannot measure how many jobs wait and run"),
        }
    }
}
