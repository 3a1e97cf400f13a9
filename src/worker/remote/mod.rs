//! Claims for remote workers: programs that ask over HTTP for items of a lane, and may wait until there are some.
//!
//! Whoever asks waits in the lane's line, in a [`WaitingRoom`] of this process, and one task looks for all of them:
//! its claim takes for as many as stand there, and hands out in their order. So a thousand that wait for an empty
//! lane cost what one costs, and one push wakes one of them. Nothing is held meanwhile: neither a connection nor a
//! transaction.
//!
//! ```text
//!   ask ──▶ line (FIFO) ──┐  a push here rings; others' pushes, and SQL's, a look finds
//!   ask ──▶ line ─────────┼─▶ one claim for all ──▶ handed out ──▶ the answer, or given back at once
//! ```
//!
//! What is handed out to somebody who has hung up goes back as if it had not been claimed: its attempt does not
//! count, and the next in the line gets it.

mod askers;
mod handed;
mod inside;
mod line;
mod looker;
mod room;

pub use handed::Handed;
pub use inside::Answer;
pub use room::WaitingRoom;

use super::Claim;
use sqlx::postgres::PgConnection;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// One kind of work that remote workers claim.
pub trait Remote: Send + Sync + 'static {
    /// What a worker needs to know of an item.
    type Item: Send + 'static;

    /// Whether this lane can be claimed from now, and on which terms.
    fn standing(&self, lane: i32) -> Standing;

    /// Makes ready what was claimed, in the transaction of the claim. It waits for nobody's lock: all who wait would
    /// wait for it.
    fn take(
        &self,
        tx: &mut PgConnection,
        claims: &[Claim],
    ) -> impl Future<Output = sqlx::Result<Took<Self::Item>>> + Send;

    /// Undoes [`Remote::take`] for claims that nobody received.
    fn untake(
        &self,
        tx: &mut PgConnection,
        claims: &[Claim],
    ) -> impl Future<Output = sqlx::Result<()>> + Send;
}

/// What became of claims. One that is in neither list has ended already, or its item is gone: its lease ends here.
#[derive(Debug)]
pub struct Took<I> {
    /// Of each lease its item.
    pub items: Vec<(Uuid, I)>,
    /// Leases of items that somebody else holds at this moment: they are tried again a little later.
    pub busy: Vec<Uuid>,
}

/// Whether a lane can be claimed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Open(Terms),
    /// Not now: who waits goes on waiting.
    Paused,
    /// Not at all: who waits has to ask anew, and learns why.
    Closed,
}

/// What holds for the leases of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// How long one lives after its claim, and after each heartbeat.
    pub lease: Duration,
    /// How long one lives at most, whatever heartbeats come; `None` is without limit.
    pub timeout: Option<Duration>,
    /// How many there may be at once, over all remote workers; `None` is without limit.
    pub concurrency: Option<i32>,
    /// What is kept with each, as JSON, since it decides about the end: what the definition says now.
    pub kept: Option<Arc<str>>,
}
