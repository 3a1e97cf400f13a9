//! How much of the logs is in memory for readers at a time, from the read to the last byte on its way.
//!
//! A read takes a place for as much as it may find, keeps as much as it found, and returns that when its bytes are
//! sent: so a hundred readers of large messages take turns, and one who takes nothing of an answer holds what it was
//! read for until its connection is given up.

use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most bytes of messages in one read; a single message may be larger.
pub const READ: u32 = 1 << 20;
/// Bytes of all reads together.
const ALL: u32 = 12 * READ;
/// What is counted in.
const UNIT: u32 = 1 << 10;

/// The memory for reads of logs.
#[derive(Debug, Clone)]
pub struct Room(Arc<Semaphore>);

/// Memory that a read holds; given back when it is dropped.
#[derive(Debug)]
pub struct Held(OwnedSemaphorePermit);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new((ALL / UNIT) as usize)))
    }
}

impl Room {
    /// Memory for one read, once there is some; who waits longest gets it first.
    pub async fn enter(&self) -> Option<Held> {
        // It is never closed.
        Arc::clone(&self.0).acquire_many_owned(READ / UNIT).await.ok().map(Held)
    }

    /// Memory for one read, if there is some and nobody waits for it.
    pub fn try_enter(&self) -> Option<Held> {
        Arc::clone(&self.0).try_acquire_many_owned(READ / UNIT).ok().map(Held)
    }
}

impl Held {
    /// Keeps as much as was found, to be shared by all that is made of it.
    pub fn keep(mut self, bytes: usize) -> Arc<Self> {
        let surplus = ((READ / UNIT) as usize).saturating_sub(bytes / UNIT as usize + 1);
        drop(self.0.split(surplus));
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

    #[test]
    fn a_read_holds_what_it_found_until_its_bytes_are_gone() {
        let room = Room::default();
        let places = (ALL / READ) as usize;
        let mut held: Vec<Held> = (0..places).map(|_| room.try_enter().unwrap()).collect();
        assert!(room.try_enter().is_none());
        // A small one leaves nearly all of its place; one that is as large as may be leaves nothing.
        let small = held.pop().unwrap().keep(100);
        let large = held.pop().unwrap().keep(READ as usize);
        assert!(room.try_enter().is_none());
        let sent = hold(b"x".to_vec(), Some(small));
        let part = sent.clone();
        drop(sent);
        assert!(room.try_enter().is_none());
        drop(part);
        assert!(room.try_enter().is_some());
        drop((large, held));
    }
}
