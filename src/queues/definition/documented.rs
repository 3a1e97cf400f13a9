//! The published shape of a queue's definition: what `/openapi.json` says of it, with each member's meaning, range and
//! default. [`super::Definition::read`] reads it by hand, to report every violation at once; the test below holds the
//! two together.

use crate::http::duration::DurationText;
use crate::http::openapi::tag;
use crate::queues::retry::documented::QueueRetry;
use crate::queues::schedules::documented::QueueSchedule;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use utoipa::openapi::schema::Object;

/// A queue's definition: who may push, what may be pushed, what handles it and how.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueDefinition {
    /// The queue's name; where it is there, it must be the one in the path.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$", example = "q")]
    pub name: String,
    /// The OAuth client under which the handler calls other services.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100, pattern = r"^\S(.*\S)?$", example = "my-client")]
    pub client_id: String,
    /// Who may push, read and delete.
    #[serde(default)]
    pub roles: QueueRoles,
    /// What may be pushed; absent, any JSON value.
    #[serde(default)]
    pub incoming: Incoming,
    /// What handles the messages; absent, they wait, PENDING, until there is a handler.
    #[serde(default)]
    pub handler: QueueHandler,
    /// How the messages run.
    #[serde(default)]
    pub options: QueueOptions,
    /// Its schedules, by their names: the whole set, at most 1,000. Absent, those that there are stay. An answer does not
    /// have them: `GET /queues/{queue}/schedules` does.
    #[serde(default)]
    #[schema(write_only)]
    pub schedules: HashMap<String, QueueSchedule>,
    /// In the answer to a GET only: whether the queue is paused, and who wrote its definition. A PUT ignores it.
    #[serde(default)]
    #[schema(read_only)]
    pub state: QueueState,
}

/// How a queue stands.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueueState {
    /// Whether nothing is claimed from it.
    pub paused: bool,
    /// Who wrote the definition: api, file, code or example.
    #[schema(example = "api")]
    pub source: String,
}

/// Who may push, read and delete.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueRoles {
    /// Whether a role is needed at all; `false` lets in everybody who has a token.
    #[serde(default, rename = "needsRole")]
    #[schema(default = true)]
    pub needs_role: bool,
    /// Whether `roles` take the place of the general ones.
    #[serde(default)]
    #[schema(default = false)]
    pub replace: bool,
    /// Roles of the queue's own.
    #[serde(default)]
    #[schema(example = json!(["billing"]))]
    pub roles: Vec<String>,
}

/// What may be pushed.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Incoming {
    /// The JSON Schema that every message must satisfy.
    pub schema: MessageSchema,
}

/// A JSON Schema: an object, or `true` (anything) or `false` (nothing).
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum MessageSchema {
    /// Keywords of JSON Schema.
    Object(HashMap<String, Value>),
    /// Anything, or nothing.
    Boolean(bool),
}

impl Default for MessageSchema {
    fn default() -> Self {
        Self::Boolean(true)
    }
}

/// What handles the messages of a queue, by its `kind`.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum QueueHandler {
    /// JavaScript inside the server.
    JavaScript(JavaScriptHandler),
    /// A web server that messages are posted to.
    Http(HttpHandler),
    /// Any program that claims over HTTP.
    Worker(WorkerHandler),
    /// Rust code of a program that uses this crate.
    Native(NativeHandler),
}

impl Default for QueueHandler {
    fn default() -> Self {
        Self::Worker(WorkerHandler { kind: "worker".to_owned() })
    }
}

/// Messages are handled by JavaScript inside the server.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JavaScriptHandler {
    /// `javascript`.
    #[schema(schema_with = javascript_kind)]
    pub kind: String,
    /// A CommonJS module that exports a function of the message; what it returns is the message's response.
    #[schema(min_length = 1, example = "module.exports = async function (message) { return message; };")]
    pub source: String,
}

/// Messages are posted to a web server.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpHandler {
    /// `http`.
    #[schema(schema_with = http_kind)]
    pub kind: String,
    /// Where messages are posted to, by `http` or `https`, without a user name or a password.
    #[schema(min_length = 1, pattern = "^[Hh][Tt][Tt][Pp][Ss]?:", example = "https://example.com/messages")]
    pub url: String,
    /// What requests are signed with, by Standard Webhooks: `whsec_` and 24 to 64 bytes in base64. Absent, they are not
    /// signed. It is shown as `[redacted]`, which, put back, keeps it.
    #[serde(default)]
    #[schema(min_length = 1, example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    pub secret: String,
}

/// Messages are claimed over HTTP by any program: `POST /queues/{queue}/claim`.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkerHandler {
    /// `worker`.
    #[schema(schema_with = worker_kind)]
    pub kind: String,
}

/// Messages are handled by Rust code of a program that uses this crate.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NativeHandler {
    /// `native`.
    #[schema(schema_with = native_kind)]
    pub kind: String,
    /// The name under which the program registered the handler.
    #[schema(min_length = 1, max_length = 100, pattern = r"^\S(.*\S)?$", example = "resize")]
    pub name: String,
}

/// How the messages of a queue run.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueOptions {
    /// How long one attempt may take, the time it awaits services included: a duration from `1ms` to `24h`. Absent,
    /// `30s`; but a remote worker may take any time, as long as its heartbeats come.
    #[serde(default)]
    #[schema(value_type = DurationText)]
    pub timeout: String,
    /// How many messages one process handles at a time, or all remote workers together have claimed. Absent, one a
    /// process, and any number of remote workers.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10000)]
    pub concurrency: u16,
    /// The most attempts, of every kind together. Absent, three where the worker was lost or the handler asked for
    /// another try, else one.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    pub max_attempts: u16,
    /// When a message is tried again, and for how long.
    #[serde(default)]
    pub retry: QueueRetry,
    /// The priority of messages that are pushed without one; higher first.
    #[serde(default)]
    #[schema(minimum = -100, maximum = 100, default = 0)]
    pub priority: i16,
    /// How long a message is kept once it has ended, at least: a duration from `1h` to 10 years. Absent, 30 days.
    #[serde(default)]
    #[schema(value_type = DurationText, default = "30days")]
    pub retention: String,
    /// Which messages are the same, and what becomes of a push that finds one. Absent, none are.
    #[serde(default)]
    pub unique: QueueUniqueness,
}

/// Which messages of a queue are the same, for how long, and what becomes of a push that finds one.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueUniqueness {
    /// Where the value of a message is found: a JSON pointer into it, `body` for the whole of it, or `key` for the own key
    /// of the push. Where nothing or `null` is found, the message is not unique. Absent, only pushes with `unique` have a
    /// value.
    #[serde(default)]
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^(body|key|/([^~]|~[01])*)$",
        example = "/order/id"
    )]
    pub key: String,
    /// For how long a message holds its value: until it is claimed for the first time (`waiting`), until it has ended
    /// (`unfinished`), or a duration from `1s` to `retention`, from its push. One that is deleted holds none.
    #[serde(default, rename = "while")]
    #[schema(value_type = UniqueWhile, default = "unfinished")]
    pub holds: String,
    /// What becomes of a push whose value is held.
    #[serde(default)]
    #[schema(default = "existing")]
    pub conflict: UniqueConflict,
}

/// For how long a value is held: one of two words, or a duration.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum UniqueWhile {
    /// Until something has become of its message.
    Until(UniqueUntil),
    /// For a time.
    For(DurationText),
}

/// Until its message is claimed for the first time, or until it has ended.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UniqueUntil {
    /// It is claimed.
    Waiting,
    /// It has ended.
    Unfinished,
}

/// What becomes of a push whose value is held: the message that holds it is the answer (`existing`); that message takes
/// over body, priority and time, if it was never claimed, and otherwise the push is stored (`replace`); it is refused
/// (`reject`).
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UniqueConflict {
    /// The other is the answer.
    #[default]
    Existing,
    /// The other takes over what the push says.
    Replace,
    /// It is refused.
    Reject,
}

fn javascript_kind() -> Object {
    tag("javascript")
}

fn http_kind() -> Object {
    tag("http")
}

fn worker_kind() -> Object {
    tag("worker")
}

fn native_kind() -> Object {
    tag("native")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::http::published::Published;
    use crate::queues::definition::{Definition, Handler};
    use proptest::prelude::*;
    use serde_json::json;

    /// Rules between members, and about the meaning of a text, which no schema says.
    const BEYOND: &[&str] = &["minimum", "alone", "url", "secret", "word", "const", "pointer"];

    fn keywords<T>(read: Result<T, Error>) -> Result<(), Vec<String>> {
        match read {
            Ok(_) => Ok(()),
            Err(Error::Invalid(_, found)) => Err(found.into_iter().map(|one| one.keyword).collect()),
            Err(other) => Err(vec![other.to_string()]),
        }
    }

    proptest! {
        #[test]
        fn what_the_published_schema_of_a_definition_allows_is_read_and_what_it_refuses_is_not(
            picks in proptest::collection::vec(any::<u32>(), 100),
        ) {
            let published = Published::of::<QueueDefinition>();
            published.agrees(&picks, &["minimum", "alone"], BEYOND, |document| keywords(Definition::read("q", document)))?;
        }

        #[test]
        fn what_the_published_schema_of_a_handler_allows_is_read_and_what_it_refuses_is_not(
            picks in proptest::collection::vec(any::<u32>(), 40),
        ) {
            let published = Published::of::<QueueHandler>();
            published.agrees(&picks, &[], BEYOND, |document| keywords(Handler::read(document)))?;
        }
    }

    #[test]
    fn the_published_schema_knows_each_member_and_refuses_another() {
        let published = Published::of::<QueueDefinition>();
        let whole = json!({
            "name": "q", "client_id": "c", "roles": {"needsRole": true, "replace": false, "roles": ["a"]},
            "incoming": {"schema": true}, "handler": {"kind": "native", "name": "n"},
            "options": {"timeout": "1s", "concurrency": 10_000, "max_attempts": 1000, "priority": -100,
                "retention": "1h", "retry": {"kind": "polynomial", "base": "1ms", "cap": "1ms", "power": 4, "jitter": 0.15, "max_age": "2d",
                    "by": {"NotFound": "final", "RateLimited": {"max_attempts": 100, "after": ["1s"]}}},
                "unique": {"key": "/a~1b/0", "while": "1h", "conflict": "replace"}}
        });
        assert!(published.allows(&whole) && Definition::read("q", &whole).is_ok());
        for refused in [
            json!({"colour": 1}),
            json!({"roles": {"role": 1}}),
            json!({"roles": null}),
            json!({"incoming": {}}),
            json!({"incoming": {"schema": 1}}),
            json!({"handler": {"kind": "shell"}}),
            json!({"handler": {"kind": "worker", "source": "x"}}),
            json!({"handler": {"kind": "javascript"}}),
            json!({"options": {"concurrency": 0}}),
            json!({"options": {"max_attempts": 1001}}),
            json!({"options": {"priority": 101}}),
            json!({"options": {"retry": {"speed": 1}}}),
            json!({"options": {"retry": {"jitter": 1.01}}}),
            json!({"options": {"retry": {"after": []}}}),
            json!({"options": {"retry": {"by": {"E": "last"}}}}),
            json!({"options": {"retry": {"by": {"E": {"by": {}}}}}}),
            json!({"options": {"unique": true}}),
            json!({"options": {"unique": {"key": "a"}}}),
            json!({"options": {"unique": {"while": "running"}}}),
            json!({"options": {"unique": {"conflict": "merge"}}}),
        ] {
            assert!(!published.allows(&refused), "{refused}");
            assert!(Definition::read("q", &refused).is_err(), "{refused}");
        }
    }
}
