//! Sends the demo's requests, and prints each as the curl line that would do the same.

use super::stream::Stream;
use crate::auth;
use crate::config::Jwt;
use anyhow::{Context as _, ensure};
use axum::http::Method;
use reqwest::RequestBuilder;
use secrecy::SecretString;
use serde_json::Value;
use std::io::IsTerminal as _;
use std::time::Duration;
use tokio::time::Instant;

/// A message of the demo ends within this, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// As much of an answer is shown, in characters.
const LONGEST: usize = 600;

const ACCESS_KEY: &str = "cardsavr-messaging-access-key";

pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    secret: SecretString,
    jwt: Jwt,
    colour: bool,
}

/// A request of the demo.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    /// Whose token it carries.
    pub(super) role: &'a str,
    /// Its idempotency key.
    pub(super) key: Option<&'a str>,
    /// The key to a job's broadcasts.
    pub(super) access_key: Option<&'a str>,
    pub(super) body: Option<Value>,
}

impl<'a> Ask<'a> {
    pub(super) fn get(role: &'a str, path: &'a str) -> Self {
        Self { method: Method::GET, path, role, key: None, access_key: None, body: None }
    }

    pub(super) fn post(role: &'a str, path: &'a str, body: Value) -> Self {
        Self { method: Method::POST, path, role, key: None, access_key: None, body: Some(body) }
    }

    /// The curl line that sends it.
    fn curl(&self) -> String {
        let mut words = vec![format!("$ curl -H \"Authorization: Bearer ${}\"", self.role.to_uppercase())];
        // What curl does by itself need not be said.
        let implied = if self.body.is_some() { Method::POST } else { Method::GET };
        if self.method != implied {
            words.push(format!("-X {}", self.method));
        }
        words.extend(self.key.map(|key| format!("-H 'Idempotency-Key: {key}'")));
        words.extend(self.access_key.map(|key| format!("-H '{ACCESS_KEY}: {key}'")));
        words.extend(
            self.body.as_ref().map(|body| format!("--json '{}'", body.to_string().replace('\'', r"'\''"))),
        );
        words.push(format!("\"$URL{}\"", self.path));
        words.join(" ")
    }
}

impl Client {
    pub(super) fn new(url: String, secret: SecretString, jwt: Jwt) -> anyhow::Result<Self> {
        // A proxy of the environment is not the way to this machine.
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        Ok(Self { http, url, secret, jwt, colour: std::io::stdout().is_terminal() })
    }

    /// Says what comes.
    pub(super) fn say(&self, title: &str, text: &str) {
        println!("\n{}\n{text}", self.paint("1", title));
    }

    /// Sends a request, prints it and the answer, and returns the answer; its status must be `expected`.
    pub(super) async fn show(&self, expected: u16, ask: Ask<'_>) -> anyhow::Result<Value> {
        let line = ask.curl();
        println!("{}", self.paint("36", &line));
        let (status, answer) = self.send(ask).await?;
        let code = if status < 400 { "32" } else { "33" };
        let cut = answer.char_indices().nth(LONGEST).map_or(answer.len(), |(at, _)| at);
        let more = if cut < answer.len() { " …" } else { "" };
        println!("{} {}{more}", self.paint(code, &status.to_string()), &answer[..cut]);
        ensure!(status == expected, "the answer was {status}, not {expected}");
        parse(&answer)
    }

    /// Opens a stream, and prints how.
    pub(super) async fn stream(&self, ask: Ask<'_>) -> anyhow::Result<Stream> {
        println!(
            "{}",
            self.paint("36", &ask.curl().replacen("curl", "curl -NH 'Accept: text/event-stream'", 1))
        );
        let answer = self.request(&ask)?.header("accept", "text/event-stream").send().await?;
        ensure!(answer.status() == 200, "the answer was {}, not a stream", answer.status());
        Ok(Stream::new(answer))
    }

    /// Waits until the message has ended.
    pub(super) async fn wait(&self, role: &str, path: &str) -> anyhow::Result<()> {
        let ended = |message: &Value| matches!(message["status"].as_str(), Some("COMPLETE" | "ERROR"));
        self.wait_for(role, path, ended).await.map(drop)
    }

    /// Reads `path` until what is there is as it should be, and returns that.
    pub(super) async fn wait_for(
        &self,
        role: &str,
        path: &str,
        is_there: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, there) = self.look(role, path).await?;
            if is_there(&there) {
                return Ok(there);
            }
            ensure!(Instant::now() < deadline, "{path} does not come to its end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reads `path` and prints nothing.
    pub(super) async fn look(&self, role: &str, path: &str) -> anyhow::Result<(u16, Value)> {
        let (status, answer) = self.send(Ask::get(role, path)).await?;
        Ok((status, parse(&answer)?))
    }

    async fn send(&self, ask: Ask<'_>) -> anyhow::Result<(u16, String)> {
        let response = self.request(&ask)?.send().await.context("the demo's server does not answer")?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    fn request(&self, ask: &Ask<'_>) -> anyhow::Result<RequestBuilder> {
        let token = auth::sign(&self.secret, &self.jwt, ask.role, &[ask.role.to_owned()], PATIENCE * 10)?;
        let mut request =
            self.http.request(ask.method.clone(), format!("{}{}", self.url, ask.path)).bearer_auth(token);
        if let Some(key) = ask.key {
            request = request.header("idempotency-key", key);
        }
        if let Some(key) = ask.access_key {
            request = request.header(ACCESS_KEY, key);
        }
        if let Some(body) = &ask.body {
            request = request.json(body);
        }
        Ok(request)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn parse(answer: &str) -> anyhow::Result<Value> {
    Ok(if answer.is_empty() { Value::Null } else { serde_json::from_str(answer)? })
}
