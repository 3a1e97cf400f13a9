//! A native handler that a test lets through, message by message.

use super::eventually;
use postrider::{Failure, Message};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// Messages wait at it until they are let through; each result is the attempt with the message.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    arrived: Arc<AtomicUsize>,
}

impl Gate {
    pub(crate) fn closed() -> Self {
        Self { places: Arc::new(Semaphore::new(0)), arrived: Arc::default() }
    }

    /// Lets this many messages through, those that wait and those that come.
    pub(crate) fn pass(&self, messages: usize) {
        self.places.add_permits(messages);
    }

    /// Waits until so many messages have come to it in all.
    pub(crate) async fn reached_by(&self, messages: usize) {
        eventually("they come to the gate", async || self.arrived.load(Ordering::SeqCst) >= messages).await;
    }

    /// The handler.
    pub(crate) fn handler(
        &self,
    ) -> impl Fn(Message) -> futures::future::BoxFuture<'static, Result<Value, Failure>> + Send + Sync + 'static
    {
        let gate = self.clone();
        move |message| {
            let gate = gate.clone();
            Box::pin(async move {
                gate.arrived.fetch_add(1, Ordering::SeqCst);
                gate.places.acquire().await.unwrap().forget();
                Ok(json!({ "attempt": message.attempt, "message": message.json::<Value>()? }))
            })
        }
    }
}
