//! Runs a unit of work in one transaction that its caller cannot cut in half.

use futures::future::BoxFuture;
use sqlx::postgres::{PgConnection, PgPool};
use std::time::Duration;

/// Runs `work` in a transaction of its own task, and commits when it gives `Ok`.
///
/// axum drops a handler when its client hangs up. In sqlx 0.9.0 a `begin` that is dropped in mid-flight
/// leaves a connection inside a transaction that sqlx does not know of: the next statements of others run
/// in it, are acknowledged, and are lost with it. So the whole unit runs in a spawned task; who waits for
/// it may go away.
///
/// # Errors
/// What `work` gives, or the database's refusal to begin or commit. An error at the commit does not mean
/// that nothing was committed.
pub async fn transaction<T, E, F>(pool: &PgPool, work: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<sqlx::Error> + Send + 'static,
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
{
    #[cfg(feature = "planted-bugs")]
    if crate::planted::has(crate::planted::Bug::CutOffBegin) {
        return Box::pin(crate::planted::cut_off(pool, work)).await;
    }
    let pool = pool.clone();
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that begins, and its task outlives its caller on purpose"
    )]
    let task = tokio::spawn(async move {
        bounded(async {
            let mut tx = pool.begin().await?;
            let value = work(&mut tx).await?;
            tx.commit().await?;
            Ok(value)
        })
        .await
    });
    match task.await {
        Ok(result) => result,
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(sqlx::Error::WorkerCrashed.into()),
        },
    }
}

/// A little more than the server's own `statement_timeout`.
const ANSWER: Duration = Duration::from_secs(35);

/// Waits for the database no longer than it could take: a server that is gone without a word (a lost route, a
/// failover) never answers, and nothing may wait for it for ever.
///
/// # Errors
/// What `work` gives, or a time-out, which is a passing thing.
pub async fn bounded<T, E: From<sqlx::Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let silent =
        || sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the database is silent"));
    tokio::time::timeout(ANSWER, work).await.unwrap_or_else(|_| Err(silent().into()))
}
