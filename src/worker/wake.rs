//! Tells the claim loop that there is work: here at once, in other processes by a notification after the
//! commit. Both only save time; what is there is found by polling too.

use super::Settled;
use parking_lot::Mutex;
use sqlx::postgres::{PgListener, PgPool};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// At most this often does one process notify the others.
const NOTIFY_PAUSE: Duration = Duration::from_millis(40);

/// What happened since the claim loop last looked.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Lanes in which something became ready, with its lowest rank.
    pub(super) ready: HashMap<i32, i16>,
    /// When something scheduled here becomes due.
    pub(super) due: Option<Instant>,
    /// Whether to look at the database without waiting.
    pub(super) look: bool,
}

/// The bell of one process. Cheap to ring.
#[derive(Debug, Default)]
pub struct Wake {
    news: Mutex<News>,
    bell: Notify,
    abroad: Notify,
    others: AtomicI64,
    starving: AtomicBool,
    /// Lanes that someone outside waits for: claims over HTTP.
    watched: Mutex<HashMap<i32, Weak<Notify>>>,
}

impl Wake {
    /// Items of `rank` became ready in `lane`; called after their commit.
    pub fn ready(&self, lane: i32, rank: i16) {
        {
            let mut news = self.news.lock();
            news.ready.entry(lane).and_modify(|lowest| *lowest = rank.min(*lowest)).or_insert(rank);
        }
        self.bell.notify_one();
        if let Some(watched) = self.watched.lock().get(&lane).and_then(Weak::upgrade) {
            watched.notify_waiters();
        }
        if self.others.load(Ordering::Relaxed) > 0 {
            self.abroad.notify_one();
        }
    }

    /// A bell that rings whenever something becomes ready in `lane`, for as long as someone holds it.
    pub fn watch(&self, lane: i32) -> Arc<Notify> {
        let mut watched = self.watched.lock();
        if let Some(bell) = watched.get(&lane).and_then(Weak::upgrade) {
            return bell;
        }
        watched.retain(|_, bell| bell.strong_count() > 0);
        let bell = Arc::new(Notify::new());
        watched.insert(lane, Arc::downgrade(&bell));
        bell
    }

    /// Something was scheduled that becomes due after this time; called after its commit.
    pub fn due_after(&self, after: Duration) {
        let at = Instant::now() + after;
        {
            let mut news = self.news.lock();
            news.due = Some(news.due.map_or(at, |due| due.min(at)));
        }
        self.bell.notify_one();
    }

    /// What a settlement made is there; called after its commit.
    pub(super) fn settled(&self, settled: &Settled) {
        for again in &settled.again {
            if again.after.is_zero() {
                self.ready(again.lane, again.rank);
            } else {
                self.due_after(again.after);
            }
        }
        for lane in &settled.woken {
            self.ready(*lane, 0);
        }
        if let Some(after) = settled.soonest {
            self.due_after(after);
        }
    }

    /// Definitions changed, or another process has news: look at the database now.
    pub fn look(&self) {
        self.news.lock().look = true;
        self.bell.notify_one();
    }

    /// As [`Wake::look`], and the other processes too.
    pub fn look_everywhere(&self) {
        self.look();
        self.abroad.notify_one();
    }

    /// Room was made for one more item.
    pub(super) fn room(&self) {
        if self.starving.load(Ordering::Relaxed) {
            self.bell.notify_one();
        }
    }

    pub(super) fn set_starving(&self, starving: bool) {
        self.starving.store(starving, Ordering::Relaxed);
    }

    pub(super) fn set_others(&self, others: i64) {
        self.others.store(others, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> News {
        std::mem::take(&mut *self.news.lock())
    }

    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Passes on what happens here to the other processes, many events in one notification.
    pub(super) async fn notify_others(&self, pool: &PgPool, channel: &str, stop: &CancellationToken) {
        while stop.run_until_cancelled(self.abroad.notified()).await.is_some() {
            if let Err(error) = notify(pool, channel, "").await {
                tracing::debug!(%error, "cannot notify other processes; they poll");
            }
            stop.run_until_cancelled(tokio::time::sleep(NOTIFY_PAUSE)).await;
        }
    }

    /// Hears the other processes. Behind a transaction-mode pooler nothing is heard, and polling does it all.
    pub(super) async fn listen(
        &self,
        pool: &PgPool,
        channel: &str,
        stopped: impl Fn(Uuid),
        stop: &CancellationToken,
    ) {
        let mut pause = Duration::from_millis(250);
        while !stop.is_cancelled() {
            let heard = async {
                let mut listener = PgListener::connect_with(pool).await?;
                listener.listen(channel).await?;
                // What came before the connection was there, the next look finds.
                self.look();
                loop {
                    match listener.try_recv().await? {
                        None => self.look(),
                        Some(note) if note.payload().is_empty() => self.look(),
                        Some(note) => drop(note.payload().parse().map(&stopped)),
                    }
                }
            };
            let Some(ended) = stop.run_until_cancelled(heard).await else { return };
            let ended: sqlx::Result<()> = ended;
            if let Err(error) = ended {
                tracing::debug!(%error, "cannot listen for other processes; polling goes on");
            }
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(30));
        }
    }
}

/// The channel of one instance.
pub(super) fn channel(schema: &str) -> String {
    format!("{schema}_postrider")
}

/// Sends one notification; an empty payload means "look", an id means "this item's end is not wanted".
pub(super) async fn notify(pool: &PgPool, channel: &str, payload: &str) -> sqlx::Result<()> {
    sqlx::query!("SELECT pg_notify($1, $2)", channel, payload).execute(pool).await?;
    Ok(())
}
