//! Whether the process lives (`/healthz`) and whether it can do its work (`/readyz`).

use super::openapi::OpenProblems;
use crate::db::migrate;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use parking_lot::Mutex;
use serde::Serialize;
use sqlx::PgPool;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The routes that an operator's tools call: answered also by a full server.
pub(super) const ROUTES: &[&str] = &["/healthz", "/readyz", "/metrics"];

/// How long the database may take to answer.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long its answer holds: `/readyz` is for anybody, and must not be a way to load the database.
const DATABASE_HOLDS: Duration = Duration::from_millis(500);

/// What must be in order for the process to take part. Clones are the same.
#[derive(Debug, Clone)]
pub struct Readiness {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    loops: Mutex<Vec<Loop>>,
    /// Rings when a loop has beaten for the first time.
    first: Arc<Notify>,
    stopping: AtomicBool,
    pool: PgPool,
    /// When the database was asked last, and what is wrong with it. Held while one request asks for all.
    database: tokio::sync::Mutex<Option<(Instant, Option<&'static str>)>>,
}

#[derive(Debug)]
struct Loop {
    name: &'static str,
    bound: Duration,
    last: Arc<Mutex<Option<Instant>>>,
}

/// Tells that a loop goes round.
#[derive(Debug, Clone)]
pub struct Pulse {
    last: Arc<Mutex<Option<Instant>>>,
    first: Arc<Notify>,
}

impl Pulse {
    /// One round is complete.
    pub fn beat(&self) {
        if self.last.lock().replace(Instant::now()).is_none() {
            self.first.notify_one();
        }
    }
}

impl Readiness {
    /// Ready when the database behind `pool` answers, takes writes and has our schema, and whatever is watched goes round.
    pub fn new(pool: PgPool) -> Self {
        let (loops, stopping, database) =
            (Mutex::default(), AtomicBool::default(), tokio::sync::Mutex::default());
        Self { inner: Arc::new(Inner { loops, first: Arc::default(), stopping, pool, database }) }
    }

    /// Watches a loop: red until its first beat, and whenever the last one is older than `bound`.
    #[must_use = "a loop that never beats stays red"]
    pub fn watch(&self, name: &'static str, bound: Duration) -> Pulse {
        let last = Arc::<Mutex<_>>::default();
        self.inner.loops.lock().push(Loop { name, bound, last: Arc::clone(&last) });
        Pulse { last, first: Arc::clone(&self.inner.first) }
    }

    /// Returns once every loop that is watched has beaten: from then on the process is ready, unless something goes
    /// wrong. For one caller.
    pub async fn started(&self) {
        while self.inner.loops.lock().iter().any(|watched| watched.last.lock().is_none()) {
            self.inner.first.notified().await;
        }
    }

    /// From now on red, so that load balancers send nobody here any more.
    pub fn stop(&self) {
        self.inner.stopping.store(true, Relaxed);
    }

    /// The names of what is not in order.
    pub async fn red(&self) -> Vec<&'static str> {
        let mut red = Vec::new();
        if self.inner.stopping.load(Relaxed) {
            red.push("stopping");
        }
        red.extend(self.wrong_with_database().await);
        let is_late = |watched: &Loop| watched.last.lock().is_none_or(|last| last.elapsed() > watched.bound);
        red.extend(
            self.inner.loops.lock().iter().filter(|watched| is_late(watched)).map(|watched| watched.name),
        );
        red
    }

    /// `database` when it does not answer or takes no writes, `schema` when that is not one of this program.
    async fn wrong_with_database(&self) -> Option<&'static str> {
        let mut last = self.inner.database.lock().await;
        if let Some((asked, wrong)) = *last
            && asked.elapsed() < DATABASE_HOLDS
        {
            return wrong;
        }
        let pool = &self.inner.pool;
        let ask = async {
            // A standby answers too, and takes nothing.
            let writes = sqlx::query_scalar!("SELECT current_setting('transaction_read_only') = 'off'");
            if writes.fetch_one(pool).await? != Some(true) {
                return Ok(Some("database"));
            }
            Ok::<_, sqlx::Error>((!migrate::is_usable(pool).await?).then_some("schema"))
        };
        let wrong = match tokio::time::timeout(DATABASE_TIMEOUT, ask).await {
            Ok(Ok(wrong)) => wrong,
            Ok(Err(_)) | Err(_) => Some("database"),
        };
        *last = Some((Instant::now(), wrong));
        wrong
    }
}

/// The state of the process.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Health {
    /// `alive`, `ready` or `unready`.
    #[schema(example = "ready")]
    status: &'static str,
    /// What is not in order: `database`, `schema`, `stopping`, or the name of a loop.
    #[schema(example = json!([]))]
    red: Vec<&'static str>,
}

/// The process lives: it answers.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operations",
    security(()),
    responses((status = OK, description = "The process lives", body = Health), OpenProblems)
)]
pub(super) async fn healthz() -> axum::Json<Health> {
    axum::Json(Health { status: "alive", red: Vec::new() })
}

/// The process can do its work: the database answers, takes writes, its schema is this program's, and every loop goes
/// round.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    security(()),
    responses(
        (status = OK, description = "Everything is in order", body = Health),
        (status = SERVICE_UNAVAILABLE, description = "Something is not, and is named", body = Health),
        OpenProblems,
    )
)]
pub(super) async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    let red = readiness.red().await;
    let (status, word) =
        if red.is_empty() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "unready") };
    (status, axum::Json(Health { status: word, red }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

    const STUCK: Duration = Duration::from_mins(1);

    fn without_database() -> Readiness {
        let nowhere = PgConnectOptions::new_without_pgpass().socket("/nowhere");
        Readiness::new(PgPoolOptions::new().connect_lazy_with(nowhere))
    }

    #[tokio::test]
    async fn a_loop_is_red_until_it_beats_and_again_when_it_is_late() {
        let readiness = without_database();
        let claim = readiness.watch("claim", Duration::from_mins(1));
        let settle = readiness.watch("settle", Duration::ZERO);
        assert_eq!(readiness.red().await, ["database", "claim", "settle"]);
        claim.beat();
        settle.beat();
        assert_eq!(readiness.red().await, ["database", "settle"]);
    }

    #[tokio::test]
    async fn it_has_started_once_every_loop_has_beaten() {
        let readiness = without_database();
        let (claim, settle) = (readiness.watch("claim", STUCK), readiness.watch("settle", STUCK));
        let mut started = Box::pin(readiness.started());
        claim.beat();
        claim.beat();
        assert_eq!(started.as_mut().now_or_never(), None);
        settle.beat();
        assert_eq!(started.as_mut().now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn a_stopping_process_is_not_ready() {
        let readiness = without_database();
        readiness.clone().stop();
        assert_eq!(readiness.red().await, ["stopping", "database"]);
    }
}
