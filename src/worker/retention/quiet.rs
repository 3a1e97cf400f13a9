//! When a table may be locked: not while somebody has been using it for long.
//!
//! A lock that is waited for stands before everybody who comes later. Behind a dump, which holds its locks for hours,
//! a drop that waits would stop every claim and push. So it does not wait for such a one at all: it looks twice
//! whether the same transaction holds the table, and then leaves it for another time. What remains is what runs for
//! moments, and the drop waits for that no longer than a moment either.

use crate::db;
use crate::worker::store;
use futures::future::BoxFuture;
use sqlx::postgres::{PgConnection, PgPool};
use std::time::Duration;

/// Between the two looks: whoever still has its lock then keeps it for long.
const GLANCE: Duration = Duration::from_millis(250);
/// The most time that others wait behind us for one lock.
const PATIENCE: &str = "SET LOCAL lock_timeout = '50ms'";
/// How often the locks are tried, and the pause in between, which is doubled each time.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(100);

/// What came of it.
#[derive(Debug)]
pub(super) enum Quiet<T> {
    /// It was done.
    Done(T),
    /// Somebody uses the tables; nothing was done.
    InUse,
}

/// Runs `work`, which locks these tables, in a transaction in which no lock is waited for longer than a moment, when
/// nobody has been using them for long.
pub(super) async fn run<T, F>(pool: &PgPool, tables: &[String], work: F) -> sqlx::Result<Quiet<T>>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, sqlx::Result<T>> + Clone + Send + 'static,
{
    for tried in 0..TRIES {
        if tried > 0 {
            let pause = PAUSE * 2_u32.pow(tried - 1);
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.5))).await;
        }
        let before = store::lockers(pool, tables).await?;
        if !before.is_empty() {
            tokio::time::sleep(GLANCE).await;
            let still = store::lockers(pool, tables).await?;
            if still.iter().any(|one| before.contains(one)) {
                continue;
            }
        }
        let work = work.clone();
        let done = db::transaction::<_, sqlx::Error, _>(pool, move |tx| {
            Box::pin(async move {
                sqlx::query(PATIENCE).execute(&mut *tx).await?;
                work(tx).await
            })
        })
        .await;
        match done {
            Ok(value) => return Ok(Quiet::Done(value)),
            Err(error) if is_refused(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Quiet::InUse)
}

/// A lock that was not there in time, or would never have been.
fn is_refused(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if matches!(error.code().as_deref(), Some("55P03" | "40P01")))
}
