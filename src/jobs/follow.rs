//! Who waits for a job's next message is told of it: at once when it was said in this process, soon when it
//! was said elsewhere. Other processes send notifications, which need not arrive.
//!
//! One look at the database, several times a second while anybody waits, finds what SQL said and what no notification
//! told: it costs one statement, however many wait. What followers of one job read is read once and shared.

use super::room::{Held, Room, Share};
use super::store::broadcasts::{self, Broadcast};
use crate::worker::Wake;
use parking_lot::Mutex;
use sqlx::postgres::PgPool;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// How often the logs that are waited for are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How many messages of a job, and bytes of them, are kept for all its followers.
const RECENT: (usize, usize) = (200, 64 << 10);
/// The most messages in one read.
pub const BATCH: i64 = 1000;

/// The logs that somebody in this process waits for.
pub struct Tails {
    pool: PgPool,
    retention: Duration,
    wake: Arc<Wake>,
    /// What is read for followers, and for who polls, is bounded together.
    pub room: Room,
    followed: Mutex<HashMap<i64, Weak<Tail>>>,
    awaited: Notify,
}

/// The end of one job's log.
pub struct Tail {
    job_id: i64,
    newest: watch::Sender<i64>,
    recent: tokio::sync::Mutex<VecDeque<Arc<Broadcast>>>,
}

impl Tails {
    /// Nobody waits yet.
    pub fn new(pool: PgPool, retention: Duration, wake: Arc<Wake>) -> Self {
        Self {
            pool,
            retention,
            wake,
            room: Room::default(),
            followed: Mutex::default(),
            awaited: Notify::new(),
        }
    }

    /// Something was said about a job in this process, and is committed.
    pub fn said(&self, job_id: i64, seq: i64) {
        self.heard(job_id, seq);
        self.wake.grew(job_id, seq);
    }

    /// Something was said about a job, here or elsewhere.
    pub fn heard(&self, job_id: i64, seq: i64) {
        if let Some(tail) = self.followed.lock().get(&job_id).and_then(Weak::upgrade) {
            tail.moved(seq);
        }
    }

    /// The end of a job's log, for as long as somebody holds it.
    pub fn follow(&self, job_id: i64) -> Arc<Tail> {
        let mut tails = self.followed.lock();
        if let Some(tail) = tails.get(&job_id).and_then(Weak::upgrade) {
            return tail;
        }
        tails.retain(|_, tail| tail.strong_count() > 0);
        let tail =
            Arc::new(Tail { job_id, newest: watch::Sender::new(0), recent: tokio::sync::Mutex::default() });
        tails.insert(job_id, Arc::downgrade(&tail));
        drop(tails);
        self.awaited.notify_one();
        tail
    }

    /// What comes after `after` in the log of `tail`, at most [`BATCH`] messages, or a MiB, at a time, for this caller.
    ///
    /// # Errors
    /// The database's.
    pub async fn read(&self, tail: &Tail, after: i64, caller: &str) -> sqlx::Result<Batch> {
        if let Some(found) = tail.known(after).await {
            return Ok(Batch { found, held: None });
        }
        // Before what is shared is locked: all followers of the job would wait for this caller's share.
        let share = self.room.share(caller).await;
        let newest = *tail.newest.borrow();
        let mut recent = tail.recent.lock().await;
        let last = recent.back().map(|broadcast| broadcast.seq);
        let covered = recent.front().is_some_and(|first| first.seq <= after + 1);
        if let (Some(last), true) = (last, covered) {
            let mut held = None;
            if last < newest {
                let more;
                (more, held) = self.fetch(tail, last, share).await?;
                recent.extend(more);
            }
            let found = recent.iter().filter(|broadcast| broadcast.seq > after).cloned().collect();
            shorten(&mut recent);
            return Ok(Batch { found, held });
        }
        if last.is_some() {
            // Too far behind for what is shared: it reads alone.
            drop(recent);
            let (found, held) = self.fetch(tail, after, share).await?;
            return Ok(Batch { found, held });
        }
        // The first: the others wait for what it finds.
        let (found, held) = self.fetch(tail, after, share).await?;
        recent.extend(found.iter().cloned());
        shorten(&mut recent);
        Ok(Batch { found, held })
    }

    /// Reads the log. Who holds memory for what it has read comes only when that is sent, so nobody waits in a circle.
    async fn fetch(
        &self,
        tail: &Tail,
        after: i64,
        share: Option<Share>,
    ) -> sqlx::Result<(Vec<Arc<Broadcast>>, Option<Arc<Held>>)> {
        let held = match share {
            Some(share) => self.room.enter_by(share).await,
            None => None,
        };
        let found = broadcasts::after(&self.pool, tail.job_id, after, self.retention, BATCH).await?;
        let held = held.map(|held| held.keep(broadcasts::size(&found)));
        Ok((found.into_iter().map(Arc::new).collect(), held))
    }

    /// Looks at the logs that are waited for, until `stop`.
    pub async fn look(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let awaited: Vec<Arc<Tail>> = {
                let mut tails = self.followed.lock();
                tails.retain(|_, tail| tail.strong_count() > 0);
                tails.values().filter_map(Weak::upgrade).collect()
            };
            if awaited.is_empty() {
                stop.run_until_cancelled(self.awaited.notified()).await;
                continue;
            }
            let jobs: Vec<i64> = awaited.iter().map(|tail| tail.job_id).collect();
            match broadcasts::heads(&self.pool, &jobs).await {
                Ok(heads) => {
                    let heads: HashMap<i64, i64> = heads.into_iter().collect();
                    for tail in awaited {
                        if let Some(seq) = heads.get(&tail.job_id) {
                            tail.moved(*seq);
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot look for new broadcasts; trying again"),
            }
            stop.run_until_cancelled(tokio::time::sleep(LOOK)).await;
        }
    }
}

/// What was read for one follower.
#[derive(Debug)]
pub struct Batch {
    /// The messages.
    pub found: Vec<Arc<Broadcast>>,
    /// The memory that they take, to be held until they are sent; none for what is shared anyway.
    pub held: Option<Arc<Held>>,
}

/// Leaves of what is shared what is near the end, within bounds.
fn shorten(recent: &mut VecDeque<Arc<Broadcast>>) {
    let (mut number, mut bytes) = (0, 0);
    let kept = recent.iter().rev().take_while(|broadcast| {
        number += 1;
        bytes += broadcast.message.0.get().len();
        number <= RECENT.0 && bytes <= RECENT.1
    });
    let surplus = recent.len() - kept.count();
    recent.drain(..surplus);
}

impl Tail {
    /// The job.
    pub fn job_id(&self) -> i64 {
        self.job_id
    }

    /// What comes after `after`, if all of it is shared already.
    async fn known(&self, after: i64) -> Option<Vec<Arc<Broadcast>>> {
        let newest = *self.newest.borrow();
        let recent = self.recent.lock().await;
        let (first, last) = (recent.front()?.seq, recent.back()?.seq);
        let is_known = first <= after + 1 && last >= newest;
        is_known.then(|| recent.iter().filter(|broadcast| broadcast.seq > after).cloned().collect())
    }

    /// Changes whenever the log has grown since.
    pub fn news(&self) -> watch::Receiver<i64> {
        self.newest.subscribe()
    }

    fn moved(&self, seq: i64) {
        self.newest.send_if_modified(|newest| {
            let grows = seq > *newest;
            *newest = seq.max(*newest);
            grows
        });
    }
}
