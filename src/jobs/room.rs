//! How much of the logs is in memory for readers at a time, from the read to the last byte on its way.
//!
//! A read takes a place for as much as it may find, keeps as much as it found, and returns that when its bytes are
//! sent: so a hundred readers of large messages take turns, and one who takes nothing of an answer holds what it was
//! read for until its connection is given up. However many connections a caller has, it holds no more than its share:
//! the others have theirs.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most bytes of messages in one read; a single message may be larger.
pub const READ: u32 = 1 << 20;
/// Bytes of all reads together, ...
const ALL: u32 = 12 * READ;
/// ... and of those of one caller.
const SHARE: u32 = ALL / 3;
/// What is counted in.
const UNIT: u32 = 1 << 10;

/// The memory for reads of logs.
#[derive(Debug, Clone)]
pub struct Room {
    all: Arc<Semaphore>,
    /// The shares of those who hold or wait for something.
    shares: Arc<Mutex<HashMap<String, Weak<Semaphore>>>>,
}

/// A place in the share of a caller, for one read.
#[derive(Debug)]
pub struct Share(OwnedSemaphorePermit);

/// Memory that a read holds; given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    all: OwnedSemaphorePermit,
    share: OwnedSemaphorePermit,
}

impl Default for Room {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new((ALL / UNIT) as usize)), shares: Arc::default() }
    }
}

impl Room {
    /// Memory for one read of this caller, once there is some; who waits longest gets it first. Who waits for its own
    /// share stands in nobody's way.
    pub async fn enter(&self, caller: &str) -> Option<Held> {
        let share = self.share(caller).await?;
        self.enter_by(share).await
    }

    /// A place in the share of this caller, once there is one. Nothing that others wait for may be held meanwhile.
    pub async fn share(&self, caller: &str) -> Option<Share> {
        // It is never closed.
        self.share_of(caller).acquire_many_owned(READ / UNIT).await.ok().map(Share)
    }

    /// Memory for the read that this place is for.
    pub async fn enter_by(&self, Share(share): Share) -> Option<Held> {
        let all = Arc::clone(&self.all).acquire_many_owned(READ / UNIT).await.ok()?;
        Some(Held { all, share })
    }

    /// Memory for one read of this caller, if there is some and nobody waits for it.
    pub fn try_enter(&self, caller: &str) -> Option<Held> {
        let share = self.share_of(caller).try_acquire_many_owned(READ / UNIT).ok()?;
        let all = Arc::clone(&self.all).try_acquire_many_owned(READ / UNIT).ok()?;
        Some(Held { all, share })
    }

    fn share_of(&self, caller: &str) -> Arc<Semaphore> {
        let mut shares = self.shares.lock();
        if let Some(share) = shares.get(caller).and_then(Weak::upgrade) {
            return share;
        }
        if shares.len() == shares.capacity() {
            shares.retain(|_, share| share.strong_count() > 0);
        }
        let share = Arc::new(Semaphore::new((SHARE / UNIT) as usize));
        shares.insert(caller.to_owned(), Arc::downgrade(&share));
        share
    }
}

impl Held {
    /// Keeps as much as was found, to be shared by all that is made of it.
    pub fn keep(mut self, bytes: usize) -> Arc<Self> {
        let surplus = ((READ / UNIT) as usize).saturating_sub(bytes / UNIT as usize + 1);
        drop((self.all.split(surplus), self.share.split(surplus)));
        Arc::new(self)
    }
}

/// Bytes on their way to a reader, for which `held` is held until they are sent.
pub fn hold(bytes: Vec<u8>, held: Option<Arc<Held>>) -> Bytes {
    struct Holding(Vec<u8>, #[expect(dead_code, reason = "dropped with the bytes")] Option<Arc<Held>>);

    impl AsRef<[u8]> for Holding {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Holding(bytes, held))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Readers who hold all there is, each with one read.
    fn crowd(room: &Room) -> Vec<Held> {
        (0..ALL / READ).map(|n| room.try_enter(&n.to_string()).unwrap()).collect()
    }

    #[test]
    fn a_read_holds_what_it_found_until_its_bytes_are_gone() {
        let room = Room::default();
        let mut held = crowd(&room);
        assert!(room.try_enter("ann").is_none());
        // A small one leaves nearly all of its place; one that is as large as may be leaves nothing.
        let small = held.pop().unwrap().keep(100);
        let large = held.pop().unwrap().keep(READ as usize);
        assert!(room.try_enter("ann").is_none());
        let sent = hold(b"x".to_vec(), Some(small));
        let part = sent.clone();
        drop(sent);
        assert!(room.try_enter("ann").is_none());
        drop(part);
        assert!(room.try_enter("ann").is_some());
        drop((large, held));
    }

    #[tokio::test]
    async fn a_caller_holds_its_share_and_stands_in_nobodys_way_while_it_waits_for_more() {
        let room = Room::default();
        let mut held: Vec<Held> = Vec::new();
        while let Some(one) = room.try_enter("greedy") {
            held.push(one);
        }
        assert_eq!(held.len(), (SHARE / READ) as usize);
        let more = room.enter("greedy");
        tokio::pin!(more);
        assert!(futures::poll!(&mut more).is_pending());
        assert!(futures::FutureExt::now_or_never(room.enter("ann")).is_some());
        // What a small read leaves of its place is its caller's again.
        let small = held.pop().unwrap().keep(100);
        assert!(futures::poll!(&mut more).is_pending());
        drop(small);
        assert!(futures::poll!(&mut more).is_ready());
    }

    #[test]
    fn a_share_is_forgotten_with_the_last_who_holds_some_of_it() {
        let room = Room::default();
        for n in 0..1000 {
            drop(room.try_enter(&n.to_string()).unwrap());
        }
        assert!(room.shares.lock().len() < 10);
    }
}
