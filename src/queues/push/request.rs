//! A request that is on its way in.

use crate::error::{Error, Result};
use crate::queues::store::pushes::{Claim, Push};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;
use uuid::Uuid;

/// One request: its messages go in one transaction.
#[derive(Debug)]
pub(in crate::queues) struct Request {
    pub(in crate::queues) pushes: Arc<Vec<Push>>,
    pub(in crate::queues) reply: oneshot::Sender<Result<HashSet<Uuid>>>,
    /// Since when it is on its way.
    pub(in crate::queues) since: Instant,
}

impl Request {
    pub(in crate::queues) fn weight(&self) -> usize {
        self.pushes.iter().map(|push| push.request.get().len()).sum()
    }

    /// Its idempotency key, with its queue.
    pub(in crate::queues) fn key(&self) -> Option<(i32, String)> {
        let first = self.pushes.first()?;
        match &first.key {
            Some(Claim::Leads { key, .. }) => Some((first.queue_id, key.key.clone())),
            _ => None,
        }
    }

    /// Answers it with an error. Nobody waits any more when the client hung up.
    pub(in crate::queues) fn refuse(self, error: Error) {
        drop(self.reply.send(Err(error)));
    }
}
