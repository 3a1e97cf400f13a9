//! The way in: concurrent pushes of one process share a statement, and each is answered after its commit.
//!
//! A group commit without a timer: while one statement is under way the next pushes queue up, and go
//! together when it is done. Under a light load a push waits for nobody.

pub mod answer;
pub mod identified;
pub(super) mod request;
mod sift;
mod stored;

use super::catalog::Catalog;
use super::held::Room;
use super::store::pushes::{self, Push, Stored};
use crate::db::{self, bounded};
use crate::error::{Error, Result, is_held, is_transient, was_cut_off, was_undone};
use crate::worker::Wake;
use crate::worker::batch::Size;
use answer::{Batch, Done, Pushed};
use identified::Waits;
use request::{Request, flat, refuse_all, shared, unavailable};
use sqlx::postgres::PgPool;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// What the key of a single push is for, see [`crate::http::idempotency::Key`].
pub const SINGLE: &str = "push";

/// The most messages in one statement, ...
const BATCH: usize = 1000;
/// ... and the most bytes, unless one request has more.
const BYTES: usize = 8 << 20;
/// The most requests that wait; past it a push is refused at once rather than late.
const WAITING: usize = 8192;

/// How long one key is waited for when each is claimed by itself.
const PATIENCE: Duration = Duration::from_millis(2);
/// The values of many requests are waited for together, no longer than this: another process may be storing the same.
const TOGETHER: Waits = Waits { patience: Duration::from_millis(20), apart: false };
/// Between two tries of a lock that is in the way.
const PAUSE: Duration = Duration::from_millis(50);

/// Where pushes go.
#[derive(Debug, Clone)]
pub struct Inbox {
    requests: mpsc::Sender<Request>,
    /// Pushes with idempotency keys go apart: their statement is another, and some may have to wait, see
    /// [`super::held`].
    keyed: mpsc::Sender<Request>,
    /// So do those that have keys of their own or values.
    identified: mpsc::Sender<Request>,
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
        let (identified, received_identified) = mpsc::channel(WAITING);
        let (room, waiters) = Room::new();
        let (own_room, own_waiters) = Room::new();
        let (doubts, doubted) = mpsc::unbounded_channel();
        let plain = Loop { pool, wake, catalog, is_identified: false, room: None, doubts: None };
        let with_keys = Loop { room: Some(room), ..plain.clone() };
        let sieve = Loop { is_identified: true, room: Some(own_room), ..plain.clone() };
        let with_values = Loop { doubts: Some(doubts), ..sieve.clone() };
        // Without a door of its own: the room is empty when nobody can come in any more.
        let one_by_one = Loop { is_identified: true, ..plain.clone() };
        let loops = futures::future::join5(
            plain.clone().run(received),
            with_keys.run(received_keyed),
            waiters.run(move |requests| {
                let plain = plain.clone();
                async move {
                    // They have waited already.
                    let Apart { mut held, waiting } = plain.apart(requests, &mut Some(Duration::ZERO)).await;
                    held.extend(waiting);
                    held
                }
            }),
            Box::pin(futures::future::join(with_values.run(received_identified), sieve.sift(doubted))),
            own_waiters.run(move |requests| {
                let one_by_one = one_by_one.clone();
                async move { one_by_one.one_by_one(requests).await }
            }),
        );
        (Self { requests, keyed, identified }, async move { _ = loops.await })
    }

    /// Stores messages in one transaction; says which were stored, and whose values others hold: not those whose
    /// idempotency key was used before. Only the first of them may lead, and the others follow it.
    ///
    /// # Errors
    /// 404 when a queue is gone, 503 when too many pushes wait or the database cannot be reached. After a
    /// 503 a message may have been stored all the same: its answer was lost.
    pub async fn push(&self, pushes: Vec<Push>) -> Result<Done> {
        self.send(pushes, None).await
    }

    /// As [`Inbox::push`], for a batch that is answered `answers`; `is_atomic` if all of it is stored or nothing, should a
    /// value be held.
    ///
    /// # Errors
    /// As [`Inbox::push`].
    pub async fn push_batch(
        &self,
        pushes: Vec<Push>,
        answers: Vec<Pushed>,
        is_atomic: bool,
    ) -> Result<(Done, Arc<Batch>)> {
        let batch = Arc::new(Batch { answers, is_atomic });
        let done = self.send(pushes, Some(Arc::clone(&batch))).await?;
        Ok((done, batch))
    }

    async fn send(&self, pushes: Vec<Push>, batch: Option<Arc<Batch>>) -> Result<Done> {
        let (reply, answer) = oneshot::channel();
        let busy =
            || Error::Unavailable("too many messages are on their way in".to_owned(), Duration::from_secs(1));
        let inbox = if pushes.iter().any(Push::is_identified) {
            &self.identified
        } else if pushes.iter().any(|push| push.key.is_some()) {
            &self.keyed
        } else {
            &self.requests
        };
        #[cfg(feature = "planted-bugs")]
        let stored = pushes.iter().map(|push| push.id).collect();
        inbox
            .try_send(Request { pushes: Arc::new(pushes), batch, reply, since: Instant::now() })
            .map_err(|_| busy())?;
        #[cfg(feature = "planted-bugs")]
        if crate::planted::has(crate::planted::Bug::AnswerBeforeCommit) {
            return Ok(Done { stored, ..Done::default() });
        }
        answer
            .await
            .map_err(|_| Error::Unavailable("the server is stopping".to_owned(), Duration::from_secs(1)))?
    }
}

/// What stores the requests of one process.
#[derive(Clone)]
struct Loop {
    pool: PgPool,
    wake: Arc<Wake>,
    catalog: Arc<Catalog>,
    /// Whether its pushes have keys of their own or values.
    is_identified: bool,
    /// Where those wait whose keys or values are held.
    room: Option<Room>,
    /// Where those go of which some wait for values, see [`sift`].
    doubts: Option<mpsc::UnboundedSender<Vec<Request>>>,
}

/// A lock that a statement has waited for in vain: for so long. Who came meanwhile has waited for it too, so it is only
/// tried from then on, until each has waited as long.
type Jam = Option<Duration>;

impl Loop {
    async fn run(self, mut received: mpsc::Receiver<Request>) {
        let mut size = Size::new(BATCH, BYTES);
        let mut jam: Jam = None;
        let mut requests = Vec::new();
        loop {
            if let Some(longest) = jam {
                if !requests.is_empty() {
                    tokio::time::sleep(PAUSE).await;
                }
                while requests.len() < WAITING
                    && let Ok(request) = received.try_recv()
                {
                    requests.push(request);
                }
                let is_over = |request: &mut Request| request.since.elapsed() >= longest;
                requests.extract_if(.., is_over).for_each(|request| request.refuse(unavailable()));
            }
            if requests.is_empty() {
                // Nobody waits: who comes finds out anew.
                jam = None;
                if received.recv_many(&mut requests, BATCH).await == 0 {
                    return;
                }
            }
            let mut still = Vec::new();
            let mut batch: Vec<Request> = Vec::new();
            let (mut messages, mut bytes) = (0, 0);
            for request in requests.drain(..) {
                // A request of many messages may not carry others over the bound with it.
                let (count, weight) = (request.pushes.len(), request.weight());
                if messages > 0 && !size.has_room(messages + count.saturating_sub(1), bytes, weight) {
                    still.extend(self.store(std::mem::take(&mut batch), &mut size, &mut jam).await);
                    (messages, bytes) = (0, 0);
                }
                (messages, bytes) = (messages + count, bytes + weight);
                batch.push(request);
            }
            still.extend(self.store(batch, &mut size, &mut jam).await);
            requests = still;
        }
    }

    /// Stores the requests in one statement. If the database refuses it, or does not do it in time, each half in its
    /// own, so that one bad message does not fail its neighbours, nor one that takes long. Those whose keys somebody
    /// else holds wait in their room. Returns those that have to wait on for a lock.
    async fn store(&self, mut requests: Vec<Request>, size: &mut Size, jam: &mut Jam) -> Vec<Request> {
        if let Some(room) = &self.room {
            requests.extract_if(.., |request| room.knows(request)).for_each(|request| room.admit(request));
        }
        let mut parts: Vec<Vec<Request>> = Vec::new();
        if self.is_identified {
            parts.extend(requests.extract_if(.., |request| request.is_atomic()).map(|request| vec![request]));
        }
        parts.push(requests);
        let mut still = Vec::new();
        while let Some(mut requests) = parts.pop() {
            if requests.is_empty() {
                continue;
            }
            let began = Instant::now();
            let error = match self.write(&requests, jam.is_some(), TOGETHER).await {
                Ok(stored) => {
                    size.took(began.elapsed());
                    *jam = None;
                    self.stored(requests, &stored);
                    continue;
                }
                Err(error) => error,
            };
            if let Some(doubts) = self.doubts.as_ref().filter(|_| is_held(&error)) {
                // Who comes now does not wait until it is known whose values are held.
                _ = doubts.send(requests);
                continue;
            }
            if let Some(room) = self.room.as_ref().filter(|_| is_held(&error)) {
                let Apart { held, waiting } = self.apart(requests, jam).await;
                for request in held {
                    room.admit(request);
                }
                still.extend(waiting);
                continue;
            }
            if is_held(&error) {
                still.extend(wait_on(requests, error, began.elapsed(), jam));
                continue;
            }
            // Of a statement that was cut off nothing is stored. Of one whose answer did not come nobody knows.
            let was_cut_off = was_cut_off(&error);
            if was_cut_off {
                size.failed();
            }
            if requests.len() > 1 && (was_cut_off || !is_transient(&error)) {
                let second = requests.split_off(requests.len() / 2);
                parts.extend([second, requests]);
            } else if requests.len() > 1 {
                refuse_all(requests, error);
            } else if let Some(last) = requests.pop() {
                last.refuse(error.into());
            }
        }
        still
    }

    /// Stores, again when the statement was certainly undone for the sake of another (40001, 40P01). Where a lock is in
    /// the way (`is_jammed`), it is waited for only a moment.
    async fn write(&self, requests: &[Request], is_jammed: bool, waits: Waits) -> sqlx::Result<Stored> {
        let mut tries = 0;
        loop {
            let stored = if self.is_identified {
                identified::write(&self.pool, requests, waits).await
            } else if is_jammed {
                let pushes = shared(requests);
                db::transaction::<_, sqlx::Error, _>(&self.pool, move |tx| {
                    Box::pin(async move {
                        sqlx::query!("SET LOCAL lock_timeout = '50ms'").execute(&mut *tx).await?;
                        pushes::push(tx, &flat(&pushes)).await
                    })
                })
                .await
            } else {
                let together: Vec<&Push> = requests.iter().flat_map(|request| &*request.pushes).collect();
                bounded(pushes::push(&self.pool, &together)).await
            };
            match stored {
                Err(error) if tries < 3 && was_undone(&error) => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(rand::random_range(1..20))).await;
                }
                other => return other,
            }
        }
    }

    /// Stores the requests in one transaction, claiming key by key; returns those whose keys are held, about which
    /// nothing is known yet, or all that have to wait on for a lock of another kind.
    async fn apart(&self, requests: Vec<Request>, jam: &mut Jam) -> Apart {
        let (began, pushes, is_jammed) = (Instant::now(), shared(&requests), jam.is_some());
        let written = db::transaction::<_, sqlx::Error, _>(&self.pool, move |tx| {
            Box::pin(async move {
                if is_jammed {
                    sqlx::query!("SET LOCAL lock_timeout = '50ms'").execute(&mut *tx).await?;
                }
                pushes::push_apart(tx, &flat(&pushes), PATIENCE).await
            })
        });
        match written.await {
            Ok(stored) => {
                let is_held = |request: &Request| {
                    request.pushes.first().is_some_and(|push| stored.held.contains(&push.id))
                };
                let (held, done) = requests.into_iter().partition(is_held);
                *jam = None;
                self.stored(done, &stored);
                Apart { held, waiting: Vec::new() }
            }
            Err(error) if is_held(&error) => {
                Apart { held: Vec::new(), waiting: wait_on(requests, error, began.elapsed(), jam) }
            }
            Err(error) => {
                refuse_all(requests, error);
                Apart { held: Vec::new(), waiting: Vec::new() }
            }
        }
    }
}

/// What became of requests that were stored key by key, and are not done.
struct Apart {
    /// Those whose keys are held.
    held: Vec<Request>,
    /// Those that wait on for another lock.
    waiting: Vec<Request>,
}

/// After a lock was waited for in vain, for so long: who waited for it as long as one waits is refused, and the others
/// wait on.
fn wait_on(requests: Vec<Request>, error: sqlx::Error, waited: Duration, jam: &mut Jam) -> Vec<Request> {
    if jam.is_some() {
        return requests;
    }
    *jam = Some(waited);
    refuse_all(requests, error);
    Vec::new()
}
