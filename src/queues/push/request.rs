//! A request that is on its way in.

use super::answer::{Batch, Done};
use crate::error::{Error, Result, is_transient};
use crate::http::idempotency;
use crate::queues::identity::Unique;
use crate::queues::store::pushes::{Claim, Push, Stored};
use crate::queues::uniqueness;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use uuid::Uuid;

/// One request: its messages go in one transaction.
#[derive(Debug)]
pub(in crate::queues) struct Request {
    pub(in crate::queues) pushes: Arc<Vec<Push>>,
    /// What it is answered, if it is a batch.
    pub(in crate::queues) batch: Option<Arc<Batch>>,
    pub(in crate::queues) reply: oneshot::Sender<Result<Done>>,
    /// Since when it is on its way.
    pub(in crate::queues) since: Instant,
}

impl Request {
    pub(in crate::queues) fn weight(&self) -> usize {
        self.pushes.iter().map(|push| push.request.get().len()).sum()
    }

    /// What it may have to wait for, with its queue: its idempotency key, or the first value of its messages.
    pub(in crate::queues) fn waits_for(&self) -> Option<(i32, String)> {
        let first = self.pushes.first()?;
        if let Some(Claim::Leads { key, .. }) = &first.key {
            return Some((first.queue_id, key.key.clone()));
        }
        let value = self.pushes.iter().find_map(|push| push.unique.as_ref())?;
        Some((first.queue_id, hexadecimal(value)))
    }

    /// Whether all its messages are stored or none, should the value of one be held.
    pub(in crate::queues) fn is_atomic(&self) -> bool {
        self.batch.as_ref().is_some_and(|batch| batch.is_atomic)
    }

    /// Answers it with an error. Nobody waits any more when the client hung up.
    pub(in crate::queues) fn refuse(self, error: Error) {
        drop(self.reply.send(Err(error)));
    }

    /// Refuses it: what it waits for did not come free in time.
    pub(in crate::queues) fn refuse_held(self) {
        let is_unique = self.pushes.iter().any(|push| push.unique.is_some());
        self.refuse(if is_unique { uniqueness::held() } else { idempotency::held() });
    }

    /// Answers it with what was stored of it.
    pub(super) fn answer(self, kept: &HashSet<Uuid>, stored: &Stored) {
        let Self { pushes, reply, .. } = self;
        let result = if pushes.iter().any(|push| stored.missing.contains(&push.queue_id)) {
            Err(Error::NotFound("there is no such queue".to_owned()))
        } else {
            let ids = || pushes.iter().map(|push| push.id);
            let told = |id: Uuid| Some((id, *stored.told.get(&id)?));
            Ok(Done {
                stored: ids().filter(|id| kept.contains(id)).collect(),
                told: ids().filter_map(told).collect(),
            })
        };
        // Nobody waits any more when the client hung up: the message is stored all the same.
        drop(reply.send(result));
    }
}

fn hexadecimal(value: &Unique) -> String {
    value.digest.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn refuse_all(requests: Vec<Request>, error: sqlx::Error) {
    let shared = Arc::new(error);
    for request in requests {
        request.refuse(same(&shared));
    }
}

/// The same failure for every request of a statement.
fn same(error: &Arc<sqlx::Error>) -> Error {
    if is_transient(error) {
        tracing::warn!(%error, "cannot store messages");
        unavailable()
    } else {
        Error::internal(Arc::clone(error))
    }
}

pub(super) fn unavailable() -> Error {
    Error::Unavailable("the database cannot serve this now".to_owned(), Duration::from_secs(1))
}

pub(super) fn shared(requests: &[Request]) -> Vec<Arc<Vec<Push>>> {
    requests.iter().map(|request| Arc::clone(&request.pushes)).collect()
}

pub(super) fn flat(pushes: &[Arc<Vec<Push>>]) -> Vec<&Push> {
    pushes.iter().flat_map(|pushes| &**pushes).collect()
}
