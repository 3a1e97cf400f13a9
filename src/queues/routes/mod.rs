//! The queues over HTTP: each route is declared once, with its description.
//!
//! The order of checks is the same everywhere: 401 token, 404 queue, 403 role, then the body (413, 415,
//! 400), then the schema (422).

mod admin;
mod batch;
mod claim;
mod definitions;
mod heartbeat;
mod messages;
mod remote;
mod view;

pub use view::{FullMessage, HistoryEntry, Message};

use super::access::{Access, no_message};
use super::catalog::Queue;
use super::outcome::Outcome;
use super::remote::RemoteMessages;
use super::roles;
use super::runners::Runners;
use crate::auth::{Caller, Verifier};
use crate::error::Result;
use crate::http::body::BodyLimits;
use crate::worker::remote::WaitingRoom;
use crate::worker::{Settler, Wake};
use axum::extract::FromRef;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
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

/// How the reference groups the routes.
#[derive(utoipa::OpenApi)]
#[openapi(tags(
    (name = "queue messages", description = "Push, read and delete messages"),
    (name = "queue definitions", description = "What a queue takes, and what handles it"),
    (name = "queue workers", description = "Claim, keep and end messages from any program: the handler `worker`"),
    (name = "queue administration", description = "List, pause, run again"),
))]
struct Groups;

/// All routes of the queues.
pub fn routes() -> OpenApiRouter<Queues> {
    OpenApiRouter::with_openapi(Groups::openapi())
        .routes(routes!(messages::push, admin::list))
        .routes(routes!(batch::push_batch))
        .routes(routes!(messages::get, messages::delete))
        .routes(routes!(definitions::list_queues))
        .routes(routes!(definitions::put_queue, definitions::get_queue, definitions::delete_queue))
        .routes(routes!(definitions::put_handler))
        .routes(routes!(admin::pause))
        .routes(routes!(admin::resume))
        .routes(routes!(admin::retry))
        .routes(routes!(admin::retry_many))
        .routes(routes!(claim::claim))
        .routes(routes!(heartbeat::heartbeat))
        .routes(routes!(remote::complete))
        .routes(routes!(remote::fail))
}

impl Queues {
    /// The queue, for a caller who may push, read and delete.
    async fn queue_for(&self, name: &str, caller: &Caller) -> Result<Arc<Queue>> {
        let queue = self.access.queue(name).await?;
        roles::require_push(&queue.definition.roles, name, caller)?;
        Ok(queue)
    }

    /// The queue, for a caller who may claim and settle its messages.
    async fn queue_for_worker(&self, name: &str, caller: &Caller) -> Result<Arc<Queue>> {
        let queue = self.access.queue(name).await?;
        roles::require_work(&queue.definition.roles, name, caller)?;
        Ok(queue)
    }

    /// The queue, for a caller who may administer.
    async fn queue_for_admin(&self, name: &str, caller: &Caller) -> Result<Arc<Queue>> {
        let queue = self.access.queue(name).await?;
        roles::require_admin(caller)?;
        Ok(queue)
    }

    /// A remote worker's message has ended: where only so many may be claimed at once, there is room for another.
    fn freed(&self, queue: &Queue) {
        if queue.definition.options.concurrency.is_some() {
            self.wake.freed(queue.id);
        }
    }

    /// Tells this process and the others that a definition changed. Returns when this process knows.
    pub(super) async fn changed(&self) -> Result<()> {
        self.access.refresh().await?;
        self.wake.look_everywhere();
        Ok(())
    }
}

/// The id in a path; what is no id names no message: 404.
fn message_id(text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| no_message())
}
