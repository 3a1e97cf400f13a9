//! Postrider in the test's own process, on a database of its own, spoken to over HTTP.

use super::server::{BINARY, server};
use axum::http::{Method, StatusCode};
use postrider::Config;
use postrider::internals::auth;
use postrider::migrate;
use postrider::{App, Parts, Server};
use reqwest::Response;
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::OnceCell;

/// The secret that the tests' tokens are signed with.
pub(crate) const SECRET: &str = "a secret of the tests, at least 32 bytes long";

/// The schema of every test's instance.
const SCHEMA: &str = "postrider";

static TEMPLATE: OnceCell<&str> = OnceCell::const_new();

/// A database with every migration in it, of this test alone.
pub(crate) async fn database() -> PgConnectOptions {
    let server = server().await;
    let template = TEMPLATE
        .get_or_init(|| async {
            server.create_database("migrated", "template1").await;
            migrate(&server.connect_options("migrated"), SCHEMA).await.unwrap();
            "migrated"
        })
        .await;
    let name = format!("test_{}", uuid::Uuid::now_v7().simple());
    server.create_database(&name, template).await;
    server.connect_options(&name)
}

/// Settings for a test: `change` as they would stand in the environment.
pub(crate) fn config(change: &[(&str, &str)]) -> Config {
    let mut settings: HashMap<&str, &str> = HashMap::from([
        ("POSTRIDER_LISTEN", "127.0.0.1:0"),
        ("POSTRIDER_JWT_SECRET", SECRET),
        ("POSTRIDER_EXAMPLES", "false"),
        ("POSTRIDER_ALLOW_NETWORKS", "127.0.0.0/8"),
        ("POSTRIDER_SECRET_KEY", "a key of the tests of at least 32 characters"),
    ]);
    settings.extend(change.iter().copied());
    Config::from_lookup(|name| settings.get(name).map(|value| (*value).to_owned())).unwrap()
}

/// A running instance.
pub(crate) struct TestApp {
    pub(crate) server: Server,
    pub(crate) url: String,
    pub(crate) database: PgConnectOptions,
    config: Config,
    client: reqwest::Client,
}

impl TestApp {
    /// An instance on a new database.
    pub(crate) async fn start() -> Self {
        Self::with(&[], |app| app).await
    }

    /// An instance on a new database, with these settings, and native handlers that `build` registers.
    pub(crate) async fn with(change: &[(&str, &str)], build: impl FnOnce(App) -> App) -> Self {
        Self::on(database().await, change, build).await
    }

    /// One more instance on a database.
    pub(crate) async fn on(
        database: PgConnectOptions,
        change: &[(&str, &str)],
        build: impl FnOnce(App) -> App,
    ) -> Self {
        let config = config(change);
        let app = build(App::new(config.clone()).javascript(BINARY));
        let server = app.start(&database, Parts::Everything).await.unwrap();
        let url = format!("http://{}", server.address().unwrap());
        Self { server, url, database, config, client: reqwest::Client::new() }
    }

    /// A token with these roles.
    pub(crate) fn token(&self, roles: &[&str]) -> String {
        self.token_of("tester", roles)
    }

    /// A token of this subject with these roles.
    pub(crate) fn token_of(&self, subject: &str, roles: &[&str]) -> String {
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        let hour = Duration::from_hours(1);
        auth::sign(&SecretString::from(SECRET), &self.config.jwt, subject, &roles, hour).unwrap()
    }

    /// A request as `system_admin`.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request_as(&["system_admin"], method, path)
    }

    /// A request with these roles.
    pub(crate) fn request_as(&self, roles: &[&str], method: Method, path: &str) -> reqwest::RequestBuilder {
        self.anonymous(method, path).bearer_auth(self.token(roles))
    }

    /// A request without a token.
    pub(crate) fn anonymous(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Response {
        self.request(Method::PUT, path).json(body).send().await.unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) -> Response {
        self.request(Method::DELETE, path).send().await.unwrap()
    }

    /// Defines a queue, which must be accepted.
    pub(crate) async fn define(&self, name: &str, definition: Value) {
        let response = self.put(&format!("/queues/{name}"), &definition).await;
        let status = response.status();
        assert!(status.is_success(), "{status}: {}", response.text().await.unwrap());
    }

    /// Defines a queue with a JavaScript handler.
    pub(crate) async fn define_javascript(&self, name: &str, source: &str) {
        self.define(name, json!({ "handler": { "kind": "javascript", "source": source } })).await;
    }

    /// Pushes a message, which must be accepted; returns its id.
    pub(crate) async fn push(&self, queue: &str, message: &Value) -> String {
        let response = self.post(&format!("/queues/{queue}/messages"), message).await;
        let status = response.status();
        let body: Value = response.json().await.unwrap();
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    /// Pushes this text as it stands.
    pub(crate) async fn push_text(&self, queue: &str, text: impl Into<reqwest::Body>) -> Response {
        let request = self.request(Method::POST, &format!("/queues/{queue}/messages"));
        request.header("content-type", "application/json").body(text).send().await.unwrap()
    }

    /// Waits until a message has ended, and reads it.
    pub(crate) async fn ended(&self, queue: &str, id: &str) -> Value {
        let mut message = Value::Null;
        super::eventually("the message ends", async || {
            message = self.message(queue, id).await;
            message["status"] == "COMPLETE" || message["status"] == "ERROR"
        })
        .await;
        message
    }

    /// Waits until a message has this status.
    pub(crate) async fn until(&self, queue: &str, id: &str, status: &str) {
        super::eventually(status, async || self.message(queue, id).await["status"] == status).await;
    }

    /// Reads a message.
    pub(crate) async fn message(&self, queue: &str, id: &str) -> Value {
        self.get(&format!("/queues/{queue}/messages/{id}")).await.json().await.unwrap()
    }

    /// Reads the admin view of a message.
    pub(crate) async fn whole_message(&self, queue: &str, id: &str) -> Value {
        self.get(&format!("/queues/{queue}/messages/{id}?view=full")).await.json().await.unwrap()
    }

    /// Pushes a message, waits until nothing is left to do, and reads it.
    pub(crate) async fn handled(&self, queue: &str, message: &Value) -> Value {
        let id = self.push(queue, message).await;
        self.server.run_until_idle().await.unwrap();
        self.message(queue, &id).await
    }

    /// A connection to the instance's schema, for what no route tells.
    pub(crate) async fn connect(&self) -> PgConnection {
        let options = self.database.clone().options([("search_path", SCHEMA)]);
        PgConnection::connect_with(&options).await.unwrap()
    }

    /// Lets time pass, as the database sees it: every moment that is stored moves back, except the heartbeats of
    /// processes, since those that live go on renewing them.
    pub(crate) async fn elapse(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let mut db = self.connect().await;
        for (table, column) in [
            ("leases", "expires_at"),
            ("leases", "deadline"),
            ("duties", "until"),
            ("jobs", "deadline"),
            ("jobs", "answer_by"),
            ("jobs", "cancel_by"),
            ("jobs", "completed_at"),
            ("broadcasts", "created_at"),
            ("job_idempotency_keys", "created_at"),
            ("cardholders", "used_at"),
            ("sdk_sessions", "used_at"),
            ("sdk_sessions", "created_at"),
            ("envelopes", "deadline"),
            ("deliveries", "retry_from"),
            ("schedules", "next_at"),
            ("unique_holders", "since"),
            ("unique_holders", "look_at"),
            // Last: what is due runs at once, and goes by the others.
            ("scheduled", "run_at"),
        ] {
            let statement =
                format!("UPDATE {table} SET {column} = {column} - make_interval(secs => {seconds})");
            db.execute(AssertSqlSafe(statement)).await.unwrap();
        }
        // A process sleeps until the next moment of a schedule, unless a definition changes.
        let look = "UPDATE catalog SET revision = revision + 1; NOTIFY postrider_postrider";
        db.execute(look).await.unwrap();
    }

    /// Stops the instance as a signal would.
    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}
