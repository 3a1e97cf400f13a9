//! `messagingService`: the queues of this very server.

use super::answer::{Answer, nothing, unknown, value};
use super::{Args, ServiceError};
use crate::http::json_text::{members, to_string, to_value};
use crate::queues::identity::Identity;
use futures::future::BoxFuture;
use serde_json::Value;
use serde_json::value::RawValue;

/// What a handler may do with queues, under the rights of its own queue.
pub trait Messaging: std::marker::Send + Sync {
    /// Pushes a message; returns the id of it, or of the one that holds its value.
    fn queue_message<'a>(
        &'a self,
        queue: &'a str,
        message: &'a RawValue,
        identity: Identity,
    ) -> BoxFuture<'a, Result<String, ServiceError>>;

    /// Reads a message: the six keys, as JSON.
    fn get_message<'a>(&'a self, queue: &'a str, id: &'a str) -> BoxFuture<'a, Answer>;

    /// Deletes a message.
    fn delete_message<'a>(&'a self, queue: &'a str, id: &'a str) -> BoxFuture<'a, Result<(), ServiceError>>;
}

/// `queueMessage(queue, message, {key, unique})` → id, `getMessage(queue, id)`, `deleteMessage(queue, id)` → `null`.
pub(super) async fn call(messaging: &dyn Messaging, method: &str, args: &Args) -> Answer {
    let queue = args.text(0, "queue")?;
    match method {
        "queueMessage" => {
            // Any JSON value may be a message, null too.
            let message = args.optional(1).unwrap_or(RawValue::NULL);
            value(&messaging.queue_message(&queue, message, identity(args.optional(2))?).await?)
        }
        "getMessage" => messaging.get_message(&queue, &args.text(1, "id")?).await,
        "deleteMessage" => {
            messaging.delete_message(&queue, &args.text(1, "id")?).await?;
            Ok(nothing())
        }
        _ => Err(unknown("messagingService", method)),
    }
}

/// The options of a push: `{key, unique}`. A number will do, as for an identifier.
fn identity(options: Option<&RawValue>) -> Result<Identity, ServiceError> {
    let Some(options) = options else { return Ok(Identity::default()) };
    let members = members(options).ok_or_else(|| ServiceError::new("the argument options is no object"))?;
    let mut identity = Identity::default();
    for (name, value) in members {
        let label = match to_string(name).as_deref() {
            Some("key") => &mut identity.own_key,
            Some("unique") => &mut identity.given,
            _ => {
                return Err(ServiceError::new(
                    "the argument options may have key and unique, and nothing else",
                ));
            }
        };
        *label = match to_value(value.get()) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(_) => return Err(ServiceError::new("key and unique are texts")),
        };
    }
    let Identity { own_key, given } = identity;
    Identity::of(own_key, given).map_err(|error| ServiceError::new(error.to_string()))
}
