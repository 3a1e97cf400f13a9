//! The way in: concurrent pushes of one process share a statement, and each is answered after its commit.
//!
//! A group commit without a timer: while one statement is under way the next pushes queue up, and go
//! together when it is done. Under a light load a push waits for nobody.

use super::catalog::Catalog;
use super::store::pushes::{self, Push, Stored};
use crate::db::bounded;
use crate::error::{Error, Result, is_transient, was_undone};
use crate::worker::Wake;
use sqlx::postgres::PgPool;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// The most messages in one statement.
const BATCH: usize = 1000;
/// The most requests that wait; past it a push is refused at once rather than late.
const WAITING: usize = 8192;

/// One request: its messages go in one transaction.
struct Request {
    pushes: Vec<Push>,
    reply: oneshot::Sender<Result<HashSet<Uuid>>>,
}

/// Where pushes go.
#[derive(Debug, Clone)]
pub struct Inbox {
    requests: mpsc::Sender<Request>,
    /// Pushes with idempotency keys go apart: one may have to wait for a foreign transaction that holds its key.
    keyed: mpsc::Sender<Request>,
}

impl Inbox {
    /// An inbox and the loops behind it, which end when the last clone is gone.
    pub fn new(
        pool: PgPool,
        wake: Arc<Wake>,
        catalog: Arc<Catalog>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (requests, received) = mpsc::channel(WAITING);
        let (keyed, received_keyed) = mpsc::channel(WAITING);
        let plain = Loop { pool: pool.clone(), wake: Arc::clone(&wake), catalog: Arc::clone(&catalog) };
        let loops =
            futures::future::join(plain.run(received), Loop { pool, wake, catalog }.run(received_keyed));
        (Self { requests, keyed }, async move { _ = loops.await })
    }

    /// Stores messages in one transaction and gives the ids of those that were stored: all but those whose
    /// idempotency key was used before.
    ///
    /// # Errors
    /// 404 when a queue is gone, 503 when too many pushes wait or the database cannot be reached. After a
    /// 503 a message may have been stored all the same: its answer was lost.
    pub async fn push(&self, pushes: Vec<Push>) -> Result<HashSet<Uuid>> {
        let (reply, answer) = oneshot::channel();
        let busy =
            || Error::Unavailable("too many messages are on their way in".to_owned(), Duration::from_secs(1));
        let inbox = if pushes.iter().any(|push| push.key.is_some()) { &self.keyed } else { &self.requests };
        #[cfg(feature = "planted-bugs")]
        let ids = pushes.iter().map(|push| push.id).collect();
        inbox.try_send(Request { pushes, reply }).map_err(|_| busy())?;
        #[cfg(feature = "planted-bugs")]
        if crate::planted::has(crate::planted::Bug::AnswerBeforeCommit) {
            return Ok(ids);
        }
        answer
            .await
            .map_err(|_| Error::Unavailable("the server is stopping".to_owned(), Duration::from_secs(1)))?
    }
}

/// What stores the requests of one process.
struct Loop {
    pool: PgPool,
    wake: Arc<Wake>,
    catalog: Arc<Catalog>,
}

impl Loop {
    async fn run(self, mut received: mpsc::Receiver<Request>) {
        let mut requests = Vec::new();
        while received.recv_many(&mut requests, BATCH).await > 0 {
            let mut batch: Vec<Request> = Vec::new();
            let mut messages = 0;
            for request in requests.drain(..) {
                // A request of many messages may not carry others over the bound with it.
                if messages > 0 && messages + request.pushes.len() > BATCH {
                    self.store(std::mem::take(&mut batch)).await;
                    messages = 0;
                }
                messages += request.pushes.len();
                batch.push(request);
            }
            self.store(batch).await;
        }
    }

    /// Stores the requests in one statement; if the database refuses it, each in its own, so that one bad
    /// message does not fail its neighbours.
    async fn store(&self, requests: Vec<Request>) {
        let together: Vec<&Push> = requests.iter().flat_map(|request| &request.pushes).collect();
        match write(&self.pool, &together).await {
            Ok(stored) => self.stored(requests, &stored),
            Err(error) if requests.len() > 1 && !is_transient(&error) => {
                for request in requests {
                    let alone: Vec<&Push> = request.pushes.iter().collect();
                    match write(&self.pool, &alone).await {
                        Ok(stored) => self.stored(vec![request], &stored),
                        Err(error) => drop(request.reply.send(Err(error.into()))),
                    }
                }
            }
            Err(error) => {
                let shared = Arc::new(error);
                for request in requests {
                    drop(request.reply.send(Err(same(&shared))));
                }
            }
        }
    }

    /// Wakes the engine, counts, and answers the requests.
    fn stored(&self, requests: Vec<Request>, stored: &Stored) {
        let kept: HashSet<Uuid> = stored.stored.iter().copied().collect();
        let mut queues: HashMap<i32, News> = HashMap::new();
        let mut soonest: Option<Duration> = None;
        for push in requests.iter().flat_map(|request| &request.pushes).filter(|push| kept.contains(&push.id))
        {
            let news = queues.entry(push.queue_id).or_default();
            news.stored += 1;
            if push.delay.is_zero() {
                news.lowest = Some(news.lowest.map_or(push.rank, |lowest| lowest.min(push.rank)));
            } else {
                soonest = Some(soonest.map_or(push.delay, |delay| delay.min(push.delay)));
            }
        }
        for (id, News { stored, lowest }) in queues {
            if let Some(rank) = lowest {
                self.wake.ready(id, rank);
            }
            if let Some(queue) = self.catalog.by_id(id) {
                queue.series.pushed.increment(stored);
            }
        }
        if let Some(delay) = soonest {
            self.wake.due_after(delay);
        }
        answer(requests, &kept, &stored.missing);
    }
}

/// What one statement stored in a queue.
#[derive(Default)]
struct News {
    stored: u64,
    /// The lowest rank among what is ready at once.
    lowest: Option<i16>,
}

/// Stores, again when the statement was certainly undone for the sake of another (40001, 40P01).
async fn write(pool: &PgPool, pushes: &[&Push]) -> sqlx::Result<Stored> {
    let mut tries = 0;
    loop {
        match bounded(pushes::push(pool, pushes)).await {
            Err(error) if tries < 3 && was_undone(&error) => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(rand::random_range(1..20))).await;
            }
            other => return other,
        }
    }
}

fn answer(requests: Vec<Request>, kept: &HashSet<Uuid>, missing: &[i32]) {
    for Request { pushes, reply } in requests {
        let result = if pushes.iter().any(|push| missing.contains(&push.queue_id)) {
            Err(Error::NotFound("there is no such queue".to_owned()))
        } else {
            Ok(pushes.iter().map(|push| push.id).filter(|id| kept.contains(id)).collect())
        };
        // Nobody waits any more when the client hung up: the message is stored all the same.
        drop(reply.send(result));
    }
}

/// The same failure for every request of a statement.
fn same(error: &Arc<sqlx::Error>) -> Error {
    if is_transient(error) {
        tracing::warn!(%error, "cannot store messages");
        Error::Unavailable("the database cannot serve this now".to_owned(), Duration::from_secs(1))
    } else {
        Error::internal(Arc::clone(error))
    }
}
