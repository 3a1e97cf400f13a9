//! Enqueues, publishes and broadcasts from a Rust application, in a transaction of its own: what it writes and what it
//! asks for commit together, or not at all.
//!
//! Every call is one statement: one of the SQL functions `enqueue`, `enqueue_many`, `publish` and `broadcast`, with their
//! rules and their rights. They ring for a worker, who hears it when the transaction commits; nobody needs to be woken by
//! hand. This is all that a program needs which only writes: it runs no part of Postrider itself.

use crate::queues::native::Message;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::{PgArguments, PgConnection, Postgres};
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
    enqueue: Call,
    enqueue_many: Call,
    publish: Call,
    broadcast: Arc<str>,
    /// What it writes comes of this.
    behalf: Option<Arc<Behalf>>,
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
        let call = |call: &str, parameters| Call::new(&format!("\"{schema}\".{call}"), parameters);
        let times = "make_interval(secs => $3), $4, $5";
        Self {
            enqueue: call(&format!("enqueue($1, $2::json, {times}, $6, $7, $8)"), 8),
            enqueue_many: call(&format!("enqueue_many($1, $2::json[], {times})"), 5),
            publish: call("publish($1, $2, $3::json)", 3),
            broadcast: format!("SELECT \"{schema}\".broadcast($1, $2::jsonb)").into(),
            behalf: None,
        }
    }

    /// The same instance; what is written comes of this message: its handler's trace goes on in it, and it is known by the
    /// request that the message comes of.
    #[must_use]
    pub fn on_behalf_of(&self, message: &Message) -> Self {
        let request_id = message.request_id().unwrap_or_default().to_owned();
        let traceparent = message.traceparent().unwrap_or_default();
        Self { behalf: Some(Arc::new(Behalf { traceparent, request_id })), ..self.clone() }
    }

    /// The same instance; what is written is a part of the trace of this W3C `traceparent`. One that breaks the
    /// specification counts as none.
    #[must_use]
    pub fn within_trace(&self, traceparent: &str) -> Self {
        let former = self.behalf.as_deref().cloned().unwrap_or_default();
        let behalf = Behalf { traceparent: traceparent.to_owned(), ..former };
        Self { behalf: Some(Arc::new(behalf)), ..self.clone() }
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
        let query = sqlx::query(AssertSqlSafe(self.statement(&self.enqueue)))
            .bind(queue)
            .bind(text(payload)?)
            .bind(options.delay.map(|delay| delay.as_secs_f64()))
            .bind(options.run_at)
            .bind(options.priority)
            .bind(options.idempotency_key.as_deref())
            .bind(options.key.as_deref())
            .bind(options.unique.as_deref());
        self.behalf(query).fetch_one(db).await?.try_get(0)
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
        let query = sqlx::query(AssertSqlSafe(self.statement(&self.enqueue_many)))
            .bind(queue)
            .bind(payloads)
            .bind(options.delay.map(|delay| delay.as_secs_f64()))
            .bind(options.run_at)
            .bind(options.priority);
        self.behalf(query).fetch_one(db).await?.try_get(0)
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
        let query = sqlx::query(AssertSqlSafe(self.statement(&self.publish)))
            .bind(store)
            .bind(message)
            .bind(text(payload)?);
        self.behalf(query).fetch_one(db).await?.try_get(0)
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

/// A call of a function.
#[derive(Debug, Clone)]
struct Call {
    plain: Arc<str>,
    /// The same on behalf of something. What it comes of are settings of the transaction, which the function reads; they
    /// are put back in the same statement, for what the application writes by itself.
    on_behalf: Arc<str>,
}

impl Call {
    /// A call with so many parameters; those of what it comes of follow them.
    fn new(call: &str, parameters: usize) -> Self {
        let (trace, request) = (parameters + 1, parameters + 2);
        let on_behalf = format!(
            "WITH former AS MATERIALIZED (SELECT current_setting('postrider.traceparent', true) AS trace, \
             current_setting('postrider.request_id', true) AS request), \
             said AS MATERIALIZED (SELECT former.*, set_config('postrider.traceparent', ${trace}, true) AS t, \
             set_config('postrider.request_id', ${request}, true) AS r FROM former), \
             made AS MATERIALIZED (SELECT said.*, {call} AS made FROM said WHERE t IS NOT NULL AND r IS NOT NULL), \
             after AS MATERIALIZED (SELECT made, set_config('postrider.traceparent', coalesce(trace, ''), true), \
             set_config('postrider.request_id', coalesce(request, ''), true) FROM made) \
             SELECT made FROM after"
        );
        Self { plain: format!("SELECT {call}").into(), on_behalf: on_behalf.into() }
    }
}

/// What the calls of a client come of; an empty text is none.
#[derive(Debug, Clone, Default)]
struct Behalf {
    traceparent: String,
    request_id: String,
}

type Query<'a> = sqlx::query::Query<'a, Postgres, PgArguments>;

impl Client {
    fn statement<'a>(&'a self, call: &'a Call) -> &'a str {
        if self.behalf.is_some() { &call.on_behalf } else { &call.plain }
    }

    /// Binds what the call comes of, behind its own parameters.
    fn behalf<'a>(&'a self, query: Query<'a>) -> Query<'a> {
        match &self.behalf {
            Some(behalf) => query.bind(&*behalf.traceparent).bind(&*behalf.request_id),
            None => query,
        }
    }
}

fn text(payload: &(impl Serialize + ?Sized)) -> sqlx::Result<String> {
    serde_json::to_string(payload).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}
