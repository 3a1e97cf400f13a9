//! Enqueues, publishes and broadcasts from a Rust application, in a transaction of its own: what it writes and what it
//! asks for commit together, or not at all.
//!
//! Every call is one statement: one of the SQL functions `enqueue`, `enqueue_many`, `publish` and `broadcast`, with their
//! rules and their rights. They ring for a worker, who hears it when the transaction commits; nobody needs to be woken by
//! hand. This is all that a program needs which only writes: it runs no part of Postrider itself.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// An instance, as an application that shares its database sees it.
///
/// ```no_run
/// # async fn run(pool: sqlx::PgPool) -> sqlx::Result<()> {
/// use postrider::client::{Client, Options};
/// use std::time::Duration;
///
/// let postrider = Client::default();
/// let mut tx = pool.begin().await?;
/// sqlx::query("INSERT INTO orders (id) VALUES (7)").execute(&mut *tx).await?;
/// postrider.enqueue(&mut tx, "receipts", &serde_json::json!({ "order": 7 }), &Options::default()).await?;
/// let later = Options { delay: Some(Duration::from_secs(3600)), ..Options::default() };
/// postrider.enqueue(&mut tx, "reminders", &serde_json::json!({ "order": 7 }), &later).await?;
/// postrider.publish(&mut tx, "shop", "order:new", &serde_json::json!({ "id": 7 })).await?;
/// tx.commit().await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    enqueue: Arc<str>,
    enqueue_many: Arc<str>,
    publish: Arc<str>,
    broadcast: Arc<str>,
}

/// When a message runs, and what makes it the same as another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Not before so long after the call, by the database's clock. Not together with `run_at`.
    pub delay: Option<Duration>,
    /// Not before this time. Not together with `delay`.
    pub run_at: Option<DateTime<Utc>>,
    /// From -100 to 100; higher goes first. Absent, the queue's.
    pub priority: Option<i32>,
    /// The same key and payload again, within a day: the same message, and its id is returned. Another payload is an
    /// error.
    pub idempotency_key: Option<String>,
    /// What the application calls the message, to find it by: 1 to 255 characters. Several may have the same.
    pub key: Option<String>,
    /// The value that is to be unique, in the place of the one that the queue's `options.unique` finds: 1 to 255 characters.
    pub unique: Option<String>,
}

impl Default for Client {
    /// The instance in the schema `postrider`.
    fn default() -> Self {
        Self::in_schema("postrider")
    }
}

impl Client {
    /// The instance in another schema: its `POSTRIDER_DATABASE_SCHEMA`. What the connection's search path says does not
    /// matter.
    pub fn in_schema(schema: &str) -> Self {
        let schema = schema.replace('"', "\"\"");
        let call = |call: &str| format!("SELECT \"{schema}\".{call}").into();
        let times = "make_interval(secs => $3), $4, $5";
        Self {
            enqueue: call(&format!("enqueue($1, $2::json, {times}, $6, $7, $8)")),
            enqueue_many: call(&format!("enqueue_many($1, $2::json[], {times})")),
            publish: call("publish($1, $2, $3::json)"),
            broadcast: call("broadcast($1, $2::jsonb)"),
        }
    }

    /// Enqueues a message; returns its id, or that of the message which holds its value, where the queue's messages are
    /// unique.
    ///
    /// # Errors
    /// The payload cannot be written as JSON ([`sqlx::Error::Encode`]), or PostgreSQL refuses: the queue is not there,
    /// the options are out of their range, the key is another payload's, another message holds the value and the queue
    /// rejects (SQLSTATE 23505), the role may not.
    pub async fn enqueue(
        &self,
        db: &mut PgConnection,
        queue: &str,
        payload: &(impl Serialize + ?Sized),
        options: &Options,
    ) -> sqlx::Result<Uuid> {
        sqlx::query(AssertSqlSafe(&*self.enqueue))
            .bind(queue)
            .bind(text(payload)?)
            .bind(options.delay.map(|delay| delay.as_secs_f64()))
            .bind(options.run_at)
            .bind(options.priority)
            .bind(options.idempotency_key.as_deref())
            .bind(options.key.as_deref())
            .bind(options.unique.as_deref())
            .fetch_one(db)
            .await?
            .try_get(0)
    }

    /// Enqueues a message for each payload, by one set-based statement; returns their ids in the order of the payloads.
    ///
    /// # Errors
    /// As [`Client::enqueue`]; also when the options have a key or a value, which is that of one message: for many, the SQL
    /// function takes arrays.
    pub async fn enqueue_many<T: Serialize>(
        &self,
        db: &mut PgConnection,
        queue: &str,
        payloads: &[T],
        options: &Options,
    ) -> sqlx::Result<Vec<Uuid>> {
        if options.idempotency_key.is_some() || options.key.is_some() || options.unique.is_some() {
            return Err(sqlx::Error::Encode("a key or a unique value is that of one message".into()));
        }
        let payloads = payloads.iter().map(text).collect::<sqlx::Result<Vec<String>>>()?;
        sqlx::query(AssertSqlSafe(&*self.enqueue_many))
            .bind(queue)
            .bind(payloads)
            .bind(options.delay.map(|delay| delay.as_secs_f64()))
            .bind(options.run_at)
            .bind(options.priority)
            .fetch_one(db)
            .await?
            .try_get(0)
    }

    /// Publishes a message such as `order:new` in a store of the hub; returns its id. The payload is an object.
    ///
    /// # Errors
    /// As [`Client::enqueue`]: also when `message` is no message key, or the payload no object.
    pub async fn publish(
        &self,
        db: &mut PgConnection,
        store: &str,
        message: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> sqlx::Result<Uuid> {
        sqlx::query(AssertSqlSafe(&*self.publish))
            .bind(store)
            .bind(message)
            .bind(text(payload)?)
            .fetch_one(db)
            .await?
            .try_get(0)
    }

    /// Says something about a job to all who follow it: a status, as a string or as an object with `status` and more.
    /// Returns the number of the message in the job's log.
    ///
    /// The job's row stays locked until the transaction ends: what its worker says waits for that.
    ///
    /// # Errors
    /// As [`Client::enqueue`]: also when the job is not there or is over, or the status is none of its type's.
    pub async fn broadcast(
        &self,
        db: &mut PgConnection,
        job: i64,
        status: &(impl Serialize + ?Sized),
    ) -> sqlx::Result<i64> {
        sqlx::query(AssertSqlSafe(&*self.broadcast))
            .bind(job)
            .bind(text(status)?)
            .fetch_one(db)
            .await?
            .try_get(0)
    }
}

fn text(payload: &(impl Serialize + ?Sized)) -> sqlx::Result<String> {
    serde_json::to_string(payload).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}
