//! Runs a unit of work in one transaction that its caller cannot cut in half.

use futures::future::BoxFuture;
use sqlx::Connection as _;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, Postgres};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// Runs `work` in a transaction of its own task, and commits when it returns `Ok`.
///
/// axum drops a handler when its client hangs up. In sqlx 0.9.0 a `begin` that is dropped in mid-flight
/// leaves a connection inside a transaction that sqlx does not know of: the next statements of others run
/// in it, are acknowledged, and are lost with it. So the whole unit runs in a spawned task; who waits for
/// it may go away. A connection whose transaction has not ended in order goes to nobody any more: it is closed.
///
/// # Errors
/// What `work` returns, or the database's refusal to begin or commit. An error at the commit does not mean
/// that nothing was committed.
pub async fn transaction<T, E, F>(pool: &PgPool, work: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<sqlx::Error> + Send + 'static,
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
{
    transaction_within(pool, STATEMENT, work).await
}

/// As [`transaction`], for work whose statements may take another time.
///
/// # Errors
/// As [`transaction`].
pub async fn transaction_within<T, E, F>(pool: &PgPool, statement: Duration, work: F) -> Result<T, E>
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
        bounded_by(statement + MORE, async {
            let mut borrowed = Borrowed::from(&pool).await?;
            let mut tx = borrowed.begin().await?;
            match work(&mut tx).await {
                Ok(value) => {
                    tx.commit().await?;
                    borrowed.give_back();
                    Ok(value)
                }
                Err(error) => {
                    if tx.rollback().await.is_ok() {
                        borrowed.give_back();
                    }
                    Err(error)
                }
            }
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

/// A connection of a pool that may be inside a transaction: unless it is given back, it is closed. Whatever cuts
/// its work off (a panic, the end of [`bounded`]), nobody comes to write into what was left open.
pub(super) struct Borrowed {
    /// Until it is given back or closed.
    connection: Option<PoolConnection<Postgres>>,
}

impl Borrowed {
    pub(super) async fn from(pool: &PgPool) -> sqlx::Result<Self> {
        Ok(Self { connection: Some(pool.acquire().await?) })
    }

    /// Its transaction has ended: others may have it.
    pub(super) fn give_back(mut self) {
        self.connection = None;
    }
}

impl Deref for Borrowed {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect(THERE)
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect(THERE)
    }
}

impl Drop for Borrowed {
    /// Closes its socket and says nothing more: sqlx has a ROLLBACK in its buffer for every transaction whose end it has not
    /// heard of, also one whose COMMIT failed or was on its way. That would be a warning in the server's log; the server ends
    /// what is open when the socket closes.
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}

const THERE: &str = "a connection is there until it is given back";

/// The server's own `statement_timeout`, unless a command has another.
pub(super) const STATEMENT: Duration = Duration::from_secs(30);
/// How much longer than it an answer may take.
const MORE: Duration = Duration::from_secs(5);

/// Waits for the database no longer than it could take: a server that is gone without a word (a lost route, a
/// failover) never answers, and nothing may wait for it for ever.
///
/// # Errors
/// What `work` returns, or a time-out, which is a passing thing.
pub async fn bounded<T, E: From<sqlx::Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    bounded_by(STATEMENT + MORE, work).await
}

async fn bounded_by<T, E: From<sqlx::Error>>(
    longest: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let silent =
        || sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the database is silent"));
    tokio::time::timeout(longest, work).await.unwrap_or_else(|_| Err(silent().into()))
}
