//! A native handler that a test lets through, message by message.

use postrider::queues::native::{Failure, Message};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Messages wait at it until they are let through; each result is the attempt with the message.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets this many messages through, those that wait and those that come.
    pub(crate) fn pass(&self, messages: usize) {
        self.0.add_permits(messages);
    }

    /// The handler.
    pub(crate) fn handler(
        &self,
    ) -> impl Fn(Message) -> futures::future::BoxFuture<'static, Result<Value, Failure>> + Send + Sync + 'static
    {
        let gate = Arc::clone(&self.0);
        move |message| {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                Ok(json!({ "attempt": message.attempt, "message": message.json::<Value>()? }))
            })
        }
    }
}
