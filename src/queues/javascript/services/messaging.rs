//! `messagingService`: the queues of this very server.

use super::answer::{Answer, nothing, unknown, value};
use super::{Args, ServiceError};
use futures::future::BoxFuture;
use serde_json::value::RawValue;

/// What a handler may do with queues, under the rights of its own queue.
pub trait Messaging: std::marker::Send + Sync {
    /// Pushes a message; returns its id.
    fn queue_message<'a>(
        &'a self,
        queue: &'a str,
        message: &'a RawValue,
    ) -> BoxFuture<'a, Result<String, ServiceError>>;

    /// Reads a message: the six keys, as JSON.
    fn get_message<'a>(&'a self, queue: &'a str, id: &'a str) -> BoxFuture<'a, Answer>;

    /// Deletes a message.
    fn delete_message<'a>(&'a self, queue: &'a str, id: &'a str) -> BoxFuture<'a, Result<(), ServiceError>>;
}

/// `queueMessage(queue, message)` → id, `getMessage(queue, id)`, `deleteMessage(queue, id)` → `null`.
pub(super) async fn call(messaging: &dyn Messaging, method: &str, args: &Args) -> Answer {
    let queue = args.text(0, "queue")?;
    match method {
        "queueMessage" => {
            // Any JSON value may be a message, null too.
            let message = args.optional(1).unwrap_or(RawValue::NULL);
            value(&messaging.queue_message(&queue, message).await?)
        }
        "getMessage" => messaging.get_message(&queue, &args.text(1, "id")?).await,
        "deleteMessage" => {
            messaging.delete_message(&queue, &args.text(1, "id")?).await?;
            Ok(nothing())
        }
        _ => Err(unknown("messagingService", method)),
    }
}
