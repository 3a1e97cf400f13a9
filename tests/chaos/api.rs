//! Speaks to the servers as clients do, and says of each answer what may be concluded from it.

use crate::dice::Dice;
use crate::history::Phase;
use crate::node::SECRET;
use crate::world::World;
use postrider::config::Jwt;
use postrider::internals::auth;
use reqwest::{Method, RequestBuilder};
use secrecy::SecretString;
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;

/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(12);

/// What came of a request.
pub(crate) struct Answer {
    pub(crate) phase: Phase,
    pub(crate) body: Value,
}

pub(crate) struct Api {
    client: reqwest::Client,
    tokens: HashMap<&'static str, String>,
}

impl Api {
    pub(crate) fn new() -> Self {
        let client =
            reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).no_proxy().build().unwrap();
        let sign = |subject: &str, role: &str| {
            let (secret, roles) = (SecretString::from(SECRET), [role.to_owned()]);
            auth::sign(&secret, &Jwt::default(), subject, &roles, Duration::from_hours(48)).unwrap()
        };
        let tokens = [("admin", "system_admin"), ("owner", "cardholder_agent"), ("worker", "job_worker")];
        Self { client, tokens: tokens.map(|(subject, role)| (subject, sign(subject, role))).into() }
    }

    pub(crate) fn token(&self, subject: &str) -> &str {
        &self.tokens[subject]
    }

    /// A request without a time limit.
    pub(crate) fn send(&self, method: Method, url: &str, subject: &str) -> RequestBuilder {
        self.client.request(method, url).bearer_auth(self.token(subject))
    }
}

/// A client: what it is called, and its chance.
pub(crate) struct Client<'a> {
    pub(crate) world: &'a World,
    pub(crate) name: String,
    pub(crate) dice: Dice,
    made: u64,
}

impl<'a> Client<'a> {
    pub(crate) fn new(world: &'a World, name: String) -> Self {
        let dice = Dice::of(world.seed, &name);
        Self { world, name, dice, made: 0 }
    }

    /// A word that nobody else says, nor this client again.
    pub(crate) fn word(&mut self) -> String {
        self.made += 1;
        format!("{}-{}", self.name, self.made)
    }

    /// Some server's URL; waits while there is none.
    pub(crate) async fn url(&mut self) -> String {
        loop {
            let urls: Vec<String> = self.world.nodes.iter().filter_map(crate::node::Node::url).collect();
            if !urls.is_empty() {
                return urls[self.dice.index(urls.len())].clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks some server.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        subject: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Answer {
        let url = format!("{}{path}", self.url().await);
        let request = with(self.world.api.send(method, &url, subject).timeout(PATIENCE));
        let silent = Answer { phase: Phase::Unknown, body: Value::Null };
        let Ok(answer) = request.send().await else { return silent };
        let status = answer.status();
        let Ok(text) = answer.text().await else { return silent };
        let phase = match status.as_u16() {
            200..=299 => Phase::Ok,
            400..=407 | 409..=499 => Phase::Fail,
            _ => Phase::Unknown,
        };
        Answer { phase, body: serde_json::from_str(&text).unwrap_or_default() }
    }
}

/// A member that is a text.
pub(crate) fn text(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
