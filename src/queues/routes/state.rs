//! What all routes of the queues work with, and the queue that a caller means.

use crate::auth::{Caller, Verifier};
use crate::error::Result;
use crate::http::body::BodyLimits;
use crate::queues::access::{Access, no_message};
use crate::queues::catalog::Queue;
use crate::queues::outcome::Outcome;
use crate::queues::remote::RemoteMessages;
use crate::queues::roles;
use crate::queues::runners::Runners;
use crate::seal::Sealer;
use crate::worker::remote::WaitingRoom;
use crate::worker::{Settler, Wake};
use axum::extract::FromRef;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What the routes of the queues work with; cheap to clone, as every request does.
#[derive(Clone)]
pub struct Queues(Arc<Parts>);

impl Queues {
    /// The state of the routes.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for Queues {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The parts of [`Queues`].
pub struct Parts {
    /// The queues themselves.
    pub access: Access,
    /// Where the ends of remote attempts go.
    pub settler: Settler<Outcome>,
    /// Where remote workers wait.
    pub waiting: WaitingRoom<RemoteMessages>,
    /// The bell of the engine.
    pub wake: Arc<Wake>,
    /// The handlers, to check one at upload.
    pub runners: Arc<Runners>,
    /// Seals the secrets of handlers; absent without a key.
    pub sealer: Option<Arc<Sealer>>,
    /// Verifies tokens.
    pub verifier: Arc<Verifier>,
    /// How long a remote worker's lease lives without a heartbeat.
    pub lease: Duration,
    /// The limits of a body.
    pub limits: BodyLimits,
}

impl FromRef<Queues> for Arc<Verifier> {
    fn from_ref(queues: &Queues) -> Self {
        Arc::clone(&queues.verifier)
    }
}

impl Queues {
    /// The queue, for a caller who may push, read and delete.
    pub(super) async fn queue_for(&self, name: &str, caller: &Caller) -> Result<Arc<Queue>> {
        let queue = self.access.queue(name).await?;
        roles::require_push(&queue.definition.roles, name, caller)?;
        Ok(queue)
    }

    /// The queue, for a caller who may claim and settle its messages.
    pub(super) async fn queue_for_worker(&self, name: &str, caller: &Caller) -> Result<Arc<Queue>> {
        let queue = self.access.queue(name).await?;
        roles::require_work(&queue.definition.roles, name, caller)?;
        Ok(queue)
    }

    /// The queue, for a caller who may read its messages: as who uses it, or as who administers it.
    pub(super) async fn queue_for_reader(&self, name: &str, caller: &Caller) -> Result<Arc<Queue>> {
        let queue = self.access.queue(name).await?;
        if roles::require_admin(caller).is_err() {
            roles::require_push(&queue.definition.roles, name, caller)?;
        }
        Ok(queue)
    }

    /// The queue, for a caller who may administer.
    pub(super) async fn queue_for_admin(&self, name: &str, caller: &Caller) -> Result<Arc<Queue>> {
        let queue = self.access.queue(name).await?;
        roles::require_admin(caller)?;
        Ok(queue)
    }

    /// A remote worker's message has ended: where only so many may be claimed at once, there is room for another.
    pub(super) fn freed(&self, queue: &Queue) {
        if queue.definition.options.concurrency.is_some() {
            self.wake.freed(queue.id);
        }
    }

    /// Tells this process and the others that a definition changed. Returns when this process knows.
    pub(in crate::queues) async fn changed(&self) -> Result<()> {
        self.access.refresh().await?;
        self.wake.look_everywhere();
        Ok(())
    }
}

/// The id in a path; what is no id names no message: 404.
pub(super) fn message_id(text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| no_message())
}
