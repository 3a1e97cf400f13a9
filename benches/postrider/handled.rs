//! What was handled: how many, with somebody who waits for the count; and when each began.

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use postrider::{Handler, Message};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use uuid::Uuid;

/// How long nothing may be handled before it counts as stuck.
const STUCK: Duration = Duration::from_mins(1);

/// How many messages were handled.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    count: AtomicUsize,
    awaited: AtomicUsize,
    reached: Notify,
}

impl Counter {
    /// A native handler that does nothing but count. What it gives is what the document's handler gives.
    pub(super) fn handler(&self) -> impl Handler + use<> {
        let counter = self.clone();
        move |_: Message| {
            counter.count_one();
            std::future::ready(Ok(json!({ "result": "value" })))
        }
    }

    /// One more was handled.
    pub(super) fn count_one(&self) {
        let count = self.0.count.fetch_add(1, Ordering::AcqRel) + 1;
        if count == self.0.awaited.load(Ordering::Acquire) {
            self.0.reached.notify_one();
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
    }

    /// Waits until so many were handled; returns when that was.
    ///
    /// # Errors
    /// Nothing was handled for a minute.
    pub(super) async fn reaches(&self, count: usize) -> anyhow::Result<Instant> {
        self.0.awaited.store(count, Ordering::Release);
        loop {
            let before = self.count();
            if before >= count {
                return Ok(Instant::now());
            }
            let waited = tokio::time::timeout(STUCK, self.0.reached.notified()).await;
            if waited.is_err() && self.count() == before {
                bail!("stuck: {before} of {count} messages are handled");
            }
        }
    }
}

/// When each message began to be handled.
#[derive(Debug, Clone, Default)]
pub(super) struct Starts(Arc<Mutex<HashMap<Uuid, Instant>>>);

impl Starts {
    /// A native handler that does nothing but note the time.
    pub(super) fn handler(&self) -> impl Handler + use<> {
        let starts = self.clone();
        move |message: Message| {
            starts.0.lock().insert(message.id, Instant::now());
            std::future::ready(Ok(json!({ "result": "value" })))
        }
    }

    /// When this message began.
    pub(super) fn of(&self, id: Uuid) -> anyhow::Result<Instant> {
        self.0.lock().get(&id).copied().context("a message was not handled")
    }
}
