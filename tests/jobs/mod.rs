//! Job channels: a job is created, followed, worked on, asks and is answered, ends.

mod access;
mod browsers;
mod channels;
mod conversation;
mod durations;
mod ends;
mod field;
mod held;
mod idempotency;
mod json_text;
mod large;
mod metrics;
mod page;
mod safe;
mod sdk;
mod sdk_sessions;
mod sealed;
mod secrets;
mod streams;
mod time;
mod why;
mod workers;

use crate::support::app::TestApp;
use axum::http::{Method, StatusCode};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

/// The type that ships.
const JOBS: &str = "/place_card_on_single_site_jobs";

/// Somebody with a token.
pub(crate) struct Client<'a> {
    app: &'a TestApp,
    subject: &'a str,
    roles: &'a [&'a str],
}

/// The owner of the tests' jobs.
fn ann(app: &TestApp) -> Client<'_> {
    Client { app, subject: "ann", roles: &["cardholder_agent"] }
}

/// The worker of the tests.
fn worker(app: &TestApp) -> Client<'_> {
    Client { app, subject: "worker", roles: &["job_worker"] }
}

impl Client<'_> {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.app.anonymous(method, path).bearer_auth(self.app.token_of(self.subject, self.roles))
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    async fn put(&self, path: &str, body: &Value) -> Response {
        self.request(Method::PUT, path).json(body).send().await.unwrap()
    }

    /// Creates a job for the cardholder 7: its number and its access key.
    async fn create(&self) -> (i64, String) {
        let job = ok(self.post(JOBS, &json!({ "cardholder_id": 7, "site": "shop" })).await).await;
        (job["id"].as_i64().unwrap(), job["access_key"].as_str().unwrap().to_owned())
    }

    /// Registers to follow a job.
    async fn register(&self, job: i64) -> String {
        let registered =
            ok(self.post(&format!("{}/broadcasts/registrations", channel(job)), &json!({})).await);
        registered.await["access_key"].as_str().unwrap().to_owned()
    }

    /// Polls with a key.
    async fn poll(&self, job: i64, key: &str, query: &str) -> Vec<Value> {
        let path = format!("{}/broadcasts{query}", channel(job));
        let answer =
            self.request(Method::GET, &path).header("cardsavr-messaging-access-key", key).send().await;
        ok(answer.unwrap()).await.as_array().unwrap().clone()
    }

    /// Takes one job, which must be there: its number and its lease.
    async fn claim(&self) -> (i64, String) {
        let claimed = ok(self.post(&format!("{JOBS}/claim?wait=20s"), &json!({})).await).await;
        (claimed[0]["id"].as_i64().unwrap(), claimed[0]["lease"].as_str().unwrap().to_owned())
    }

    /// Says something about a job, which must be accepted.
    async fn say(&self, job: i64, status: &Value) {
        ok(self.put(&format!("{JOBS}/{job}"), status).await).await;
    }

    /// Asks something, which must be accepted: the envelope.
    async fn ask(&self, job: i64, kind: &str) -> String {
        let asked =
            self.post(&format!("{}/credential_requests", channel(job)), &json!({ "type": kind })).await;
        ok(asked).await["envelope_id"].as_str().unwrap().to_owned()
    }
}

/// The address of a job's channel.
fn channel(job: i64) -> String {
    format!("/messages{JOBS}/{job}")
}

/// The body of an answer that must be a success; null when it is empty.
async fn ok(answer: Response) -> Value {
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
}

/// Refuses an answer of another status.
fn refused(answer: &Response, status: StatusCode) {
    assert_eq!(answer.status(), status, "{}", answer.url());
}

/// The statuses of messages, in their order.
fn statuses(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["message"]["status"].as_str().unwrap_or("?")).collect()
}
