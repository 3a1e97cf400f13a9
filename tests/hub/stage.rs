//! What tests of deliveries share: a store with endpoints and mappings, and what became of a message.

use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

/// The store of the tests.
pub(crate) const STORE: &str = "/stores/s1";

/// Options with which a failure is tried again at once, more or less.
pub(crate) fn eager() -> Value {
    json!({ "retry": { "base": "5ms", "cap": "20ms" } })
}

impl TestApp {
    /// Puts an endpoint, which must be accepted, that no breaker protects unless `members` say so.
    pub(crate) async fn endpoint(&self, name: &str, url: &str, members: Value) {
        let mut definition = json!({ "url": url, "breaker": { "failures": 1000, "cooldown": "1s" } });
        definition.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let answer = self.put(&format!("{STORE}/endpoints/{name}"), &definition).await;
        let status = answer.status();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
    }

    /// Puts a mapping of these messages to the service `take` of an endpoint, eager unless `members` say otherwise.
    pub(crate) async fn mapping(&self, name: &str, endpoint: &str, messages: &[&str], members: Value) {
        let mut definition =
            json!({ "endpoint": endpoint, "service": "take", "messages": messages, "options": eager() });
        definition.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let answer = self.put(&format!("{STORE}/mappings/{name}"), &definition).await;
        let status = answer.status();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
    }

    /// Puts a parameter.
    pub(crate) async fn parameter(&self, name: &str, value: Value, data_type: &str) {
        let body = json!({ "value": value, "data_type": data_type });
        let answer = self.put(&format!("{STORE}/parameters/{name}"), &body).await;
        let status = answer.status();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
    }

    /// Pushes a message into the store; returns its id.
    pub(crate) async fn tell(&self, message: &str, payload: Value) -> String {
        let body = json!({ "message": message, "payload": payload });
        let stored = json(self.post(&format!("{STORE}/messages"), &body).await, 201).await;
        stored["message_id"].as_str().unwrap().to_owned()
    }

    /// A message of the store as it stands.
    pub(crate) async fn told(&self, id: &str) -> Value {
        json(self.get(&format!("{STORE}/messages/{id}")).await, 200).await
    }

    /// Waits until the first delivery of a message has this status; returns the message.
    pub(crate) async fn delivered(&self, id: &str, status: &str) -> Value {
        let mut message = Value::Null;
        eventually(&format!("the delivery is {status}"), async || {
            message = self.told(id).await;
            message["deliveries"][0]["status"] == status
        })
        .await;
        message
    }

    /// The attempts of the first delivery of a message.
    pub(crate) async fn attempts(&self, message: &Value) -> Vec<Value> {
        let id = message["deliveries"][0]["id"].as_str().unwrap();
        let attempts = json(self.get(&format!("{STORE}/deliveries/{id}/attempts")).await, 200).await;
        attempts.as_array().unwrap().clone()
    }

    /// Waits until a statement like this one waits for a lock.
    pub(crate) async fn waits_for_a_lock(&self, statement: &str) {
        let waiting = format!(
            "SELECT EXISTS (
                SELECT FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%{statement}%'
            )"
        );
        let mut db = self.connect().await;
        eventually("it waits for a lock", async || {
            sqlx::query_scalar::<_, bool>(AssertSqlSafe(&*waiting)).fetch_one(&mut db).await.unwrap()
        })
        .await;
    }

    /// The store's log entries: level, subject, description and how often each occurred.
    pub(crate) async fn log(&self) -> Vec<(String, String, String, i64)> {
        let page = json(self.get(&format!("{STORE}/log-entries")).await, 200).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let entry = |entry: &Value| {
            let words = [&entry["level"], &entry["subject"], &entry["description"]].map(text);
            let [level, subject, description] = words;
            (level, subject, description, entry["occurrences"].as_i64().unwrap())
        };
        page["log_entries"].as_array().unwrap().iter().map(entry).collect()
    }
}
