//! Faults: whatever dies, hangs or goes away, what was acknowledged is kept and ends once.

mod clock;
mod database;
mod deadlines;
mod killed;
mod pooled;
mod schedules;
mod stopped;
mod terminated;
mod wire;

use crate::support::app::database as new_database;
use parking_lot::Mutex;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The URL of a database of the tests' server, for a process of its own.
pub(crate) fn url_of(database: &PgConnectOptions) -> String {
    let socket = database.get_socket().unwrap().to_string_lossy().replace('/', "%2F");
    let (user, name) = (database.get_username(), database.get_database().unwrap());
    format!("postgresql://{user}@localhost:{}/{name}?host={socket}", database.get_port())
}

/// A connection to the instance's schema.
pub(crate) async fn connect(database: &PgConnectOptions) -> PgConnection {
    let options = database.clone().options([("search_path", "postrider")]);
    PgConnection::connect_with(&options).await.unwrap()
}

/// How many messages have not ended.
async fn unfinished(db: &mut PgConnection) -> i64 {
    let unfinished = "SELECT count(*) FROM queue_messages WHERE status NOT IN ('COMPLETE', 'ERROR')";
    sqlx::query_scalar(unfinished).fetch_one(db).await.unwrap()
}

/// Every message that has ended: how, and by which attempt.
async fn outcomes(db: &mut PgConnection) -> HashMap<String, (String, i16)> {
    let rows: Vec<(String, String, i16)> =
        sqlx::query_as("SELECT id::text, status::text, attempt FROM outcomes").fetch_all(db).await.unwrap();
    rows.into_iter().map(|(id, status, attempt)| (id, (status, attempt))).collect()
}

/// The definition of a queue that posts its messages to `url`.
fn posts_to(url: &str) -> Value {
    json!({
        "handler": { "kind": "http", "url": url },
        "options": { "concurrency": 20, "timeout": "10m", "max_attempts": 10, "retry": { "base": "10ms", "cap": "100ms" } }
    })
}

/// Clients that push without a pause, and remember what was acknowledged.
struct Load {
    inside: Arc<Pushed>,
    stop: CancellationToken,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Pushed {
    acknowledged: Mutex<Vec<String>>,
    unavailable: AtomicUsize,
    /// In milliseconds.
    longest: AtomicU64,
}

impl Load {
    /// Pushes with `request` from eight clients.
    fn start(request: &reqwest::RequestBuilder) -> Self {
        let (inside, stop) = (Arc::<Pushed>::default(), CancellationToken::new());
        let mut clients = JoinSet::new();
        for _ in 0..8 {
            let (inside, stop) = (Arc::clone(&inside), stop.clone());
            let request = request.try_clone().unwrap();
            clients.spawn(async move {
                while !stop.is_cancelled() {
                    inside.push(request.try_clone().unwrap()).await;
                }
            });
        }
        Self { inside, stop, clients }
    }

    fn acknowledged(&self) -> usize {
        self.inside.acknowledged.lock().len()
    }

    /// How often the answer was 503.
    fn unavailable(&self) -> usize {
        self.inside.unavailable.load(Ordering::SeqCst)
    }

    /// Ends the load; returns the acknowledged ids, and how long the slowest answer took.
    async fn stop(self) -> (Vec<String>, Duration) {
        self.stop.cancel();
        self.clients.join_all().await;
        let acknowledged = std::mem::take(&mut *self.inside.acknowledged.lock());
        (acknowledged, Duration::from_millis(self.inside.longest.load(Ordering::SeqCst)))
    }
}

impl Pushed {
    async fn push(&self, request: reqwest::RequestBuilder) {
        let asked = Instant::now();
        // Nobody listens while a server is restarted, and a connection may end in the middle.
        let Ok(answer) = request.json(&json!("load")).send().await else {
            return tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let status = answer.status();
        let retry_after = answer.headers().contains_key("retry-after");
        let Ok(body) = answer.json::<Value>().await else { return };
        let took = asked.elapsed();
        self.longest.fetch_max(u64::try_from(took.as_millis()).unwrap(), Ordering::SeqCst);
        match status {
            StatusCode::CREATED => self.acknowledged.lock().push(body["id"].as_str().unwrap().to_owned()),
            StatusCode::SERVICE_UNAVAILABLE => {
                assert!(retry_after, "{body}");
                self.unavailable.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => panic!("{other}: {body}"),
        }
    }
}
