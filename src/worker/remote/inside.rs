//! What is inside a waiting room: the lines, and the answers to those who stand there.

use super::Remote;
use super::askers::Askers;
use super::handed::{Handed, Means};
use super::line::{Lines, Waiter, Wish};
use crate::worker::store::Given;
use crate::worker::wake::Ear;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot::Sender;
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

/// What the room, its loop and those who ask share.
pub(super) struct Inside<R: Remote> {
    pub(super) means: Arc<Means<R>>,
    pub(super) ear: Arc<Ear>,
    pub(super) lines: Mutex<Lines<Sender<Answer<R>>>>,
    pub(super) askers: Mutex<Askers>,
}

impl<R: Remote> Inside<R> {
    /// The lanes to look at, and whether some are not looked at any more since nobody has come for so many looks.
    pub(super) fn watched(&self, patience: u32) -> (Vec<i32>, bool) {
        let mut waiting = self.lines.lock();
        let (lanes, gone) = waiting.watched(patience);
        for lane in &gone {
            self.means.wake.unwatch(*lane);
        }
        (lanes, !gone.is_empty())
    }

    /// Closes a line, and answers all who stand there.
    pub(super) fn dissolve(&self, lane: i32, with: impl Fn() -> Answer<R>) {
        let waiting = {
            let mut lines = self.lines.lock();
            self.means.wake.unwatch(lane);
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
        &self,
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
            let handed = Handed::new(share, until, Arc::clone(&self.means));
            let waiter = self.lines.lock().leave(wish.lane, *number);
            if let Some(waiter) = waiter {
                drop(waiter.reply.send(Answer::Handed(handed)));
            }
        }
    }
}

/// Gives the same answer to all of these; who has left needs none.
pub(super) fn answer<R: Remote>(waiting: Vec<Waiter<Sender<Answer<R>>>>, with: impl Fn() -> Answer<R>) {
    for waiter in waiting {
        drop(waiter.reply.send(with()));
    }
}
