//! Where remote workers wait.

use super::line::{Lines, Waiter, Wish};
use super::looker::{LONGEST_LOOK, Looker};
use super::{Handed, Remote};
use crate::worker::store::Given;
use crate::worker::wake::{Ear, Wake};
use parking_lot::Mutex;
use sqlx::postgres::PgPool;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot::{self, Sender};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// What somebody who asked gets.
pub enum Answer<R: Remote> {
    /// Items.
    Handed(Handed<R>),
    /// There was nothing, for as long as it waited.
    Nothing,
    /// The lane cannot be claimed from any more.
    Closed,
    /// The database could not be asked.
    Failed(Arc<sqlx::Error>),
}

/// The room of one process in which remote workers wait for one kind of work.
pub struct WaitingRoom<R: Remote> {
    inside: Arc<Inside<R>>,
}

impl<R: Remote> Clone for WaitingRoom<R> {
    fn clone(&self) -> Self {
        Self { inside: Arc::clone(&self.inside) }
    }
}

pub(super) struct Inside<R: Remote> {
    pub(super) remote: Arc<R>,
    pub(super) pool: PgPool,
    pub(super) wake: Arc<Wake>,
    pub(super) ear: Arc<Ear>,
    /// Gives back what nobody received.
    pub(super) tasks: TaskTracker,
    pub(super) lines: Mutex<Lines<Sender<Answer<R>>>>,
}

impl<R: Remote> WaitingRoom<R> {
    /// A room for what `remote` claims, on the pool of the engine. Nobody is served before [`WaitingRoom::run`].
    pub fn new(remote: R, pool: PgPool, wake: Arc<Wake>, tasks: TaskTracker) -> Self {
        let (remote, ear) = (Arc::new(remote), wake.ear());
        Self { inside: Arc::new(Inside { remote, pool, wake, ear, tasks, lines: Mutex::default() }) }
    }

    /// Serves those who wait until `stop`; then all of them are told at once that there is nothing. `beat` is called
    /// whenever the loop comes round.
    pub fn run<F: Fn() + Send + Sync + 'static>(
        &self,
        stop: CancellationToken,
        beat: F,
    ) -> impl Future<Output = ()> + Send + use<R, F> {
        Looker::new(Arc::clone(&self.inside)).run(stop, beat)
    }

    /// Claims at most `most` items of a lane, waiting for the first of them if there are none. Who hangs up, and so
    /// drops this, leaves the line.
    pub async fn claim(&self, lane: i32, holder: &str, most: i32, wait: Duration) -> Answer<R> {
        let (reply, mut answer) = oneshot::channel();
        let patient = !wait.is_zero();
        let waiter = Waiter { holder: holder.to_owned(), most, patient, reply };
        let joined = {
            let mut lines = self.inside.lines.lock();
            // The next look may come too late for who waits a moment.
            let Some(joined) = lines.join(lane, waiter, wait < LONGEST_LOOK) else { return Answer::Nothing };
            if joined.is_new {
                self.inside.wake.watch(lane, &self.inside.ear);
            }
            joined
        };
        let _place = Place { inside: &self.inside, lane, number: joined.number };
        if joined.look {
            self.inside.ear.ring();
        }
        if !patient {
            return answer.await.unwrap_or(Answer::Nothing);
        }
        if let Ok(answer) = tokio::time::timeout(wait, &mut answer).await {
            return answer.unwrap_or(Answer::Nothing);
        }
        answer.close();
        // It may have come at the last moment.
        answer.try_recv().unwrap_or(Answer::Nothing)
    }
}

impl<R: Remote> Inside<R> {
    /// The lanes to look at, and whether some are not looked at any more since nobody has come for so many looks.
    pub(super) fn watched(&self, patience: u32) -> (Vec<i32>, bool) {
        let mut waiting = self.lines.lock();
        let (lanes, gone) = waiting.watched(patience);
        for lane in &gone {
            self.wake.unwatch(*lane);
        }
        (lanes, !gone.is_empty())
    }

    /// Closes a line, and answers all who stand there.
    pub(super) fn dissolve(&self, lane: i32, with: impl Fn() -> Answer<R>) {
        let waiting = {
            let mut lines = self.lines.lock();
            self.wake.unwatch(lane);
            lines.dissolve(lane)
        };
        answer(waiting, with);
    }

    /// Tells everybody that there is nothing, those who come from now on included.
    pub(super) fn send_home(&self) {
        let waiting = self.lines.lock().close();
        answer(waiting, || Answer::Nothing);
    }

    /// Gives each its share. What belongs to somebody who has left goes back.
    pub(super) fn hand_out(
        self: &Arc<Self>,
        wish: &Wish,
        given: Vec<Given>,
        until: Instant,
        items: &mut HashMap<Uuid, R::Item>,
    ) {
        let mut given = given.into_iter().peekable();
        let mut last = 0;
        for (number, _, most) in &wish.shares {
            last += i64::from(*most);
            let mut share = Vec::new();
            while let Some(given) = given.next_if(|given| given.place <= last) {
                let item = items.remove(&given.claim.lease);
                share.extend(item.map(|item| (given.claim, item)));
            }
            if share.is_empty() {
                continue;
            }
            let handed = Handed::new(share, until, Arc::clone(self));
            let waiter = self.lines.lock().leave(wish.lane, *number);
            if let Some(waiter) = waiter {
                drop(waiter.reply.send(Answer::Handed(handed)));
            }
        }
    }
}

/// Somebody's place in a line, left when it is dropped.
struct Place<'a, R: Remote> {
    inside: &'a Inside<R>,
    lane: i32,
    number: u64,
}

impl<R: Remote> Drop for Place<'_, R> {
    fn drop(&mut self) {
        self.inside.lines.lock().leave(self.lane, self.number);
    }
}

/// Gives the same answer to all of these; who has left needs none.
pub(super) fn answer<R: Remote>(waiting: Vec<Waiter<Sender<Answer<R>>>>, with: impl Fn() -> Answer<R>) {
    for waiter in waiting {
        drop(waiter.reply.send(with()));
    }
}
