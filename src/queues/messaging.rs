//! `messagingService` of JavaScript handlers: this server's queues, under the rights of the handler's own.
//!
//! A handler acts for its queue, not for whoever pushed the message: it may use its own queue, and every
//! queue that the role `<its name>_writer` opens.

use super::access::{Access, check};
use super::catalog::Queue;
use super::identity::Identity;
use super::javascript::ServiceError;
use super::javascript::services::{Answer, Messaging};
use super::roles;
use super::routes::Message;
use super::runners::MessagingFor;
use super::store::{self, pushes::Push};
use super::uniqueness::Verdict;
use crate::auth::role;
use crate::error::Error;
use crate::traces::Origin;
use futures::future::{BoxFuture, FutureExt as _};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The messaging service of one queue's handler.
pub struct OfQueue {
    access: Access,
    name: String,
    /// What is handled, of which comes what is pushed.
    origin: Origin,
}

impl OfQueue {
    /// For the handler of each queue, whose pushes come of what it handles.
    pub fn of_each(access: Access) -> MessagingFor {
        Arc::new(move |queue: &Queue, origin| {
            Arc::new(Self { access: access.clone(), name: queue.name.clone(), origin })
        })
    }

    /// The queue, if the handler's queue may use it.
    async fn reach(&self, name: &str) -> Result<Arc<Queue>, ServiceError> {
        let queue = self.access.queue(name).await.map_err(refused)?;
        let own = role::queue_writer(&self.name);
        if name == self.name || roles::may_push(&queue.definition.roles, name, |role| role == own) {
            return Ok(queue);
        }
        let words =
            format!("the queue {} may not use the queue {name}: its roles must name {own}", self.name);
        Err(ServiceError::new(words))
    }
}

impl Messaging for OfQueue {
    fn queue_message<'a>(
        &'a self,
        queue: &'a str,
        message: &'a RawValue,
        identity: Identity,
    ) -> BoxFuture<'a, Result<String, ServiceError>> {
        async move {
            let queue = self.reach(queue).await?;
            let parsed = crate::http::body::parse(message.get().as_bytes()).map_err(refused)?;
            let options = &queue.definition.options;
            let unique = identity.value(options.unique.as_ref(), &parsed.raw).map_err(refused)?;
            check(&queue, &parsed.raw).await.map_err(refused)?;
            let id = self.access.db.ids.next();
            let rank = -options.priority;
            let push = Push {
                queue_id: queue.id,
                id,
                request: parsed.raw,
                rank,
                delay: Duration::ZERO,
                key: None,
                own_key: identity.own_key,
                unique,
                origin: self.origin.clone(),
            };
            let done = self.access.inbox.push(vec![push]).await.map_err(refused)?;
            match done.told.get(&id) {
                Some(told) if told.what == Verdict::Rejected => Err(refused(told.refusal())),
                Some(told) => Ok(told.message.to_string()),
                None => Ok(id.to_string()),
            }
        }
        .boxed()
    }

    fn get_message<'a>(&'a self, queue: &'a str, id: &'a str) -> BoxFuture<'a, Answer> {
        async move {
            let queue = self.reach(queue).await?;
            let row = store::messages::get(&self.access.db.api, queue.id, parse(id)?).await;
            let row = row.map_err(|error| refused(error.into()))?.ok_or_else(no_message)?;
            serde_json::value::to_raw_value(&Message::of(&queue.name, row))
                .map_err(|_| ServiceError::new("the message cannot become JSON"))
        }
        .boxed()
    }

    fn delete_message<'a>(&'a self, queue: &'a str, id: &'a str) -> BoxFuture<'a, Result<(), ServiceError>> {
        async move {
            let queue = self.reach(queue).await?;
            self.access.delete(&queue, parse(id)?).await.map_err(refused)
        }
        .boxed()
    }
}

fn parse(id: &str) -> Result<Uuid, ServiceError> {
    Uuid::try_parse(id).map_err(|_| no_message())
}

fn no_message() -> ServiceError {
    ServiceError { status: Some(404), ..ServiceError::new("there is no such message in this queue") }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn refused(error: Error) -> ServiceError {
    let status = Some(error.status().as_u16());
    let mut said = error.to_string();
    if let Error::Invalid(_, violations) = &error
        && let Some(first) = violations.first()
    {
        said = format!("{said}: {} {}", first.pointer, first.message);
    }
    ServiceError { status, ..ServiceError::new(said) }
}
