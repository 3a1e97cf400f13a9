//! The engine: what is claimed runs, ends once, and never twice at a time, whatever dies in between.

mod cancelled;
mod changes;
mod clock;
mod duties;
mod fence;
mod idle;
pub(crate) mod lost_answers;
mod order;
mod poison;
mod reclaim;
mod refused;
mod retention;
mod room;
mod shares;
mod upkeep;

use crate::support::app::TestApp;
use crate::support::eventually;
use futures::future::BoxFuture;
use parking_lot::{Condvar, Mutex};
use postrider::{Failure, Message};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;
use uuid::Uuid;

pub(crate) type Handled = BoxFuture<'static, Result<Value, Failure>>;

/// The definition of a queue whose handler is the native one called `work`.
pub(crate) fn work(options: impl Into<Value>) -> Value {
    json!({ "handler": { "kind": "native", "name": "work" }, "options": options.into() })
}

/// One attempt that a handler has begun.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    id: Uuid,
    request: Value,
}

impl Begun {
    fn of(message: &Message) -> Self {
        let request = serde_json::from_str(message.request.get()).unwrap();
        Self { id: message.id, request }
    }
}

/// A handler whose attempts wait to be let through, and that knows what it has run.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inside>);

struct Inside {
    permits: Semaphore,
    begun: Mutex<Vec<Begun>>,
    running: AtomicUsize,
    most: AtomicUsize,
}

/// An attempt that runs, until it is dropped.
struct Running(Arc<Inside>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Gate {
    /// Lets nobody through.
    pub(crate) fn shut() -> Self {
        Self(Arc::new(Inside {
            permits: Semaphore::new(0),
            begun: Mutex::default(),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }))
    }

    /// Lets everybody through.
    fn open() -> Self {
        let gate = Self::shut();
        gate.open_up();
        gate
    }

    /// Lets `count` attempts through.
    pub(crate) fn let_through(&self, count: usize) {
        self.0.permits.add_permits(count);
    }

    /// From now on lets everybody through.
    pub(crate) fn open_up(&self) {
        self.0.permits.close();
    }

    /// The attempts so far, in the order in which they began.
    pub(crate) fn begun(&self) -> Vec<Begun> {
        self.0.begun.lock().clone()
    }

    /// How often each message was begun.
    fn runs(&self) -> HashMap<Uuid, usize> {
        let mut runs = HashMap::new();
        for begun in self.0.begun.lock().iter() {
            *runs.entry(begun.id).or_insert(0) += 1;
        }
        runs
    }

    fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    /// The most that ran at one time.
    fn most(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }

    pub(crate) async fn until_running(&self, count: usize) {
        eventually(&format!("{count} run"), async || self.running() == count).await;
    }

    /// The handler: it ends with the number of its attempt.
    pub(crate) fn handler(&self) -> impl Fn(Message) -> Handled + Send + Sync + 'static {
        let inside = Arc::clone(&self.0);
        move |message| {
            let inside = Arc::clone(&inside);
            Box::pin(async move {
                inside.begun.lock().push(Begun::of(&message));
                let running = inside.running.fetch_add(1, Ordering::SeqCst) + 1;
                inside.most.fetch_max(running, Ordering::SeqCst);
                let _running = Running(Arc::clone(&inside));
                if let Ok(permit) = inside.permits.acquire().await {
                    permit.forget();
                }
                Ok(json!(message.attempt))
            })
        }
    }
}

/// A handler that cannot be stopped: it blocks its thread until it is released, as a process that was
/// stopped and goes on would.
#[derive(Clone, Default)]
struct Stuck(Arc<(Mutex<(usize, bool)>, Condvar)>);

impl Stuck {
    fn running(&self) -> usize {
        self.0.0.lock().0
    }

    fn release(&self) {
        self.0.0.lock().1 = true;
        self.0.1.notify_all();
    }

    fn handler(
        &self,
        end: fn() -> Result<Value, Failure>,
    ) -> impl Fn(Message) -> Handled + Send + Sync + 'static {
        let inside = Arc::clone(&self.0);
        move |_| {
            let inside = Arc::clone(&inside);
            Box::pin(async move {
                tokio::task::block_in_place(|| {
                    let mut state = inside.0.lock();
                    state.0 += 1;
                    inside.1.wait_while(&mut state, |(_, released)| !*released);
                    state.0 -= 1;
                });
                end()
            })
        }
    }
}

/// The single value that a question has.
pub(crate) async fn ask<T>(db: &mut PgConnection, question: &'static str) -> T
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    sqlx::query_scalar(question).fetch_one(db).await.unwrap()
}

/// Does something to the database that no route does.
async fn act(db: &mut PgConnection, statement: &'static str) -> u64 {
    sqlx::raw_sql(statement).execute(db).await.unwrap().rows_affected()
}

/// Pushes an array of messages, which must all be accepted; returns their ids.
async fn push_all(app: &TestApp, path: &str, messages: &[Value]) -> Vec<String> {
    let mut ids = Vec::new();
    for messages in messages.chunks(1000) {
        let response = app.post(path, &json!(messages)).await;
        assert_eq!(response.status(), 201);
        let pushed: Vec<Value> = response.json().await.unwrap();
        ids.extend(pushed.iter().map(|message| message["id"].as_str().unwrap().to_owned()));
    }
    ids
}

/// Waits until a message has ended, and returns it.
async fn ended(app: &TestApp, queue: &str, id: &str) -> Value {
    let mut message = Value::Null;
    eventually("the message ends", async || {
        message = app.message(queue, id).await;
        message["status"] == "COMPLETE" || message["status"] == "ERROR"
    })
    .await;
    message
}
