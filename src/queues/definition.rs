//! A queue's definition: the JSON document that an administrator puts, and what it says.
//!
//! `{name?, client_id?, roles?, incoming?, handler?, options?, schedules?}`, where `roles` is
//! `{needsRole?, replace?, roles?}`, `incoming` is `{schema}`, and absent means:
//!
//! | absent | then |
//! | --- | --- |
//! | `roles` and its members | a role is needed, the general ones do, no own ones |
//! | `incoming` | any JSON value may be pushed |
//! | `handler` | messages wait, PENDING, until there is one |
//! | `options` and its members | [`Options::default`] |
//! | `schedules` | those that there are stay |
//!
//! Unknown members are refused, so that a misspelt one is not silently without effect.

pub mod documented;
mod handler;

pub use handler::{Handler, handler_of, handlers_of, with_handler};

use super::name;
use super::options::Options;
use super::roles::Roles;
use super::schedules::entry;
use super::schema::CompiledSchema;
use crate::error::{Error, MAX_VIOLATIONS, Result, Violation};
use crate::http::json_text::raw;
use crate::http::reader::Reader;
use serde_json::Value;
use std::sync::Arc;

/// What a definition says.
#[derive(Debug, Clone)]
pub struct Definition {
    /// `client_id`: the OAuth client under which the handler calls other services.
    pub client_id: Option<String>,
    /// `roles`: who may push, read and delete.
    pub roles: Roles,
    /// `incoming.schema`: what may be pushed; absent, any JSON value.
    pub schema: Option<Value>,
    /// `handler`: what runs the messages; absent, they wait.
    pub handler: Option<Handler>,
    /// `options`: how they run.
    pub options: Options,
}

impl Definition {
    /// Reads the definition `document` of the queue `name`. The schema is taken as it is: see
    /// [`Definition::compile_schema`].
    ///
    /// # Errors
    /// [`Error::Invalid`] with every violation, up to [`MAX_VIOLATIONS`]; they do not repeat what was put.
    pub fn read(name: &str, document: &Value) -> Result<Self> {
        let mut violations = Vec::new();
        let mut definition = Self {
            client_id: None,
            roles: Roles::default(),
            schema: None,
            handler: None,
            options: Options::default(),
        };
        let mut has_schedules = false;
        if let Err(reason) = name::check(name) {
            violations.push(Violation::new("/name", "pattern", format!("the queue's name {reason}")));
        }
        Reader::within(document, String::new(), &mut violations, |reader| {
            if reader.text("name").is_some_and(|given| given != name) {
                reader.note("/name", "const", "must be the name that the definition is put under");
            }
            definition.client_id = reader.word("client_id");
            reader.object("roles", |reader| {
                definition.roles.needs_role = reader.boolean("needsRole").unwrap_or(true);
                definition.roles.replace = reader.boolean("replace").unwrap_or(false);
                definition.roles.roles = reader.words("roles");
            });
            reader.object("incoming", |reader| {
                definition.schema = reader.take("schema").cloned();
                match definition.schema {
                    Some(Value::Object(_) | Value::Bool(_)) => {}
                    Some(_) => {
                        reader.note("/schema", "type", "must be a JSON Schema: an object or a boolean");
                    }
                    None => reader.note("", "required", "must have the property \"schema\""),
                }
            });
            reader.object("handler", |reader| definition.handler = Handler::take(reader));
            reader.object("options", |reader| definition.options = Options::read(reader));
            // Stored apart from the definition: `install.rs`.
            if reader.take(entry::MEMBER).is_some() {
                has_schedules = true;
            }
        });
        if has_schedules {
            entry::read_member(&raw(document), &mut violations);
        }
        if violations.is_empty() {
            return Ok(definition);
        }
        violations.truncate(MAX_VIOLATIONS);
        Err(Error::Invalid("the definition breaks a rule".to_owned(), violations))
    }

    /// The schema, ready to validate messages; `None` if any JSON value may be pushed.
    ///
    /// # Errors
    /// As [`CompiledSchema::compile`], with pointers that count from the definition.
    pub async fn compile_schema(&self) -> Result<Option<Arc<CompiledSchema>>> {
        let Some(schema) = &self.schema else { return Ok(None) };
        CompiledSchema::compile(schema.clone()).await.map(Some).map_err(|error| match error {
            Error::Invalid(title, mut violations) => {
                for violation in &mut violations {
                    violation.pointer.insert_str(0, "/incoming/schema");
                }
                Error::Invalid(title, violations)
            }
            error => error,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::time::Duration;

    fn violations(document: &Value) -> Vec<(String, String)> {
        match Definition::read("q", document) {
            Err(Error::Invalid(_, found)) => found.into_iter().map(|v| (v.pointer, v.keyword)).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_source_documents_definition_is_read() {
        let document: Value =
            serde_json::from_str(include_str!("../../examples/myQueue.queue.json")).unwrap();
        let definition = Definition::read("myQueue", &document).unwrap();
        assert_eq!(definition.client_id.as_deref(), Some("my-client"));
        let roles = vec!["one".to_owned(), "two".to_owned()];
        assert_eq!(definition.roles, Roles { needs_role: true, replace: true, roles });
        assert_eq!(definition.schema.unwrap()["required"], json!(["hello"]));
        assert!(definition.handler.is_none());
        assert_eq!(definition.options, Options::default());
    }

    #[test]
    fn an_empty_definition_takes_every_default() {
        let definition = Definition::read("q", &json!({})).unwrap();
        assert_eq!(definition.roles, Roles::default());
        assert!(
            definition.schema.is_none() && definition.handler.is_none() && definition.client_id.is_none()
        );
        let Options { timeout, concurrency, terms, priority, retention, unique } = definition.options;
        assert_eq!((timeout, concurrency, terms), (None, None, crate::queues::retry::Terms::default()));
        assert_eq!((retention, priority, unique), (Duration::from_hours(30 * 24), 0, None));
    }

    #[test]
    fn every_violation_is_reported_and_none_repeats_what_was_put() {
        let document = json!({
            "name": "hush", "client_id": "", "colour": "hush",
            "roles": {"needsRole": "hush", "replace": 1, "roles": ["fine", "", " hush", 7], "role": "hush"},
            "incoming": {"schema": "hush", "examples": []},
            "handler": {"kind": "http", "url": "ftp://hush", "secret": "whsec_hush", "source": "hush"},
            "options": {
                "timeout": "0s", "concurrency": 0, "max_attempts": 1.5, "priority": 101, "retention": "59m",
                "retry": {
                    "base": "10s", "cap": "5s", "kind": "hush", "power": 2, "jitter": 2, "max_age": "hush",
                    "by": {"hush/": "hush", " ": "final", "E": {"after": [], "cap": "1s"}, "F": {"max_attempts": 0}}
                },
                "speed": "hush",
                "unique": {"key": "hush", "while": "hush", "conflict": "hush"}
            }
        });
        let mut found = violations(&document);
        found.sort();
        let expected = [
            ("/client_id", "word"),
            ("/colour", "additionalProperties"),
            ("/handler/secret", "secret"),
            ("/handler/source", "additionalProperties"),
            ("/handler/url", "url"),
            ("/incoming/examples", "additionalProperties"),
            ("/incoming/schema", "type"),
            ("/name", "const"),
            ("/options/concurrency", "range"),
            ("/options/max_attempts", "range"),
            ("/options/priority", "range"),
            ("/options/retention", "range"),
            ("/options/retry/by/ ", "word"),
            ("/options/retry/by/E/after", "minItems"),
            ("/options/retry/by/E/cap", "alone"),
            ("/options/retry/by/F/max_attempts", "range"),
            ("/options/retry/by/hush~1", "type"),
            ("/options/retry/cap", "minimum"),
            ("/options/retry/jitter", "range"),
            ("/options/retry/kind", "enum"),
            ("/options/retry/max_age", "duration"),
            ("/options/retry/power", "alone"),
            ("/options/speed", "additionalProperties"),
            ("/options/timeout", "range"),
            ("/options/unique/conflict", "enum"),
            ("/options/unique/key", "pointer"),
            ("/options/unique/while", "duration"),
            ("/roles/needsRole", "type"),
            ("/roles/replace", "type"),
            ("/roles/role", "additionalProperties"),
            ("/roles/roles/1", "word"),
            ("/roles/roles/2", "word"),
            ("/roles/roles/3", "word"),
        ];
        let found: Vec<(&str, &str)> = found.iter().map(|(p, k)| (p.as_str(), k.as_str())).collect();
        assert_eq!(found, expected);
        let Err(Error::Invalid(_, all)) = Definition::read("q", &document) else { panic!() };
        assert!(all.iter().all(|violation| !violation.message.contains("hush")), "{all:?}");
    }

    #[test]
    fn a_list_without_end_is_reported_up_to_the_cap() {
        let many: Vec<Value> = vec![json!(7); 1000];
        assert_eq!(violations(&json!({"roles": {"roles": many}})).len(), MAX_VIOLATIONS);
        let unknown: Value =
            (0..1000).map(|n| (format!("x{n}"), json!(1))).collect::<serde_json::Map<_, _>>().into();
        assert_eq!(violations(&unknown).len(), MAX_VIOLATIONS);
    }

    #[test]
    fn what_is_no_object_and_what_is_null_are_refused() {
        for document in [json!(null), json!([]), json!("q"), json!({"roles": null}), json!({"handler": null})]
        {
            assert_eq!(violations(&document)[0].1, "type", "{document}");
        }
        assert_eq!(violations(&json!({"incoming": {}})), [("/incoming".to_owned(), "required".to_owned())]);
        assert_eq!(violations(&json!({"handler": {}}))[0].1, "required");
        assert_eq!(violations(&json!({"handler": {"kind": "shell"}}))[0].1, "enum");
        assert_eq!(violations(&json!({"handler": {"kind": "native"}}))[0].1, "required");
        assert_eq!(violations(&json!({"options": {"timeout": "500us"}}))[0].1, "duration");
        assert_eq!(violations(&json!({"options": {"timeout": 30}}))[0].1, "duration");
    }

    #[tokio::test]
    async fn a_schema_that_does_not_compile_is_pointed_at_from_the_definition() {
        let definition = Definition::read("q", &json!({"incoming": {"schema": {"type": 1}}})).unwrap();
        let Err(Error::Invalid(_, found)) = definition.compile_schema().await else { panic!() };
        assert_eq!(found[0].pointer, "/incoming/schema/type");
        assert!(Definition::read("q", &json!({})).unwrap().compile_schema().await.unwrap().is_none());
    }

    #[test]
    fn each_kind_of_handler_is_read() {
        let read = |document| Handler::read(&document).unwrap();
        assert!(
            matches!(read(json!({"kind": "javascript", "source": "x"})), Handler::JavaScript { source } if source == "x")
        );
        assert!(matches!(read(json!({"kind": "worker"})), Handler::Worker));
        assert!(
            matches!(read(json!({"kind": "native", "name": "resize"})), Handler::Native { name } if name == "resize")
        );
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let http = read(json!({"kind": "http", "url": "https://example.com/m", "secret": secret}));
        assert!(matches!(http, Handler::Http { url } if url.as_str() == "https://example.com/m"));
        for url in
            ["http://user@example.com", "https://:pw@example.com", "file:///etc/passwd", "example.com", ""]
        {
            assert!(Handler::read(&json!({"kind": "http", "url": url})).is_err(), "{url}");
        }
    }

    proptest! {
        #[test]
        fn options_say_what_was_written(
            timeout in 1..=86_400_000_u64, concurrency in 1..=10_000_u16, attempts in 1..=1_000_u16,
            base in 1..=86_400_000_u64, more in 0..=86_400_000_u64, priority in -100..=100_i16,
            retention in 3_600_000..=1_000_000_000_000_u64 / 10,
        ) {
            let text = |ms| humantime::format_duration(Duration::from_millis(ms)).to_string();
            let document = json!({"options": {
                "timeout": text(timeout), "concurrency": concurrency, "max_attempts": attempts,
                "retry": {"base": text(base), "cap": text(base + more)},
                "priority": priority, "retention": text(retention),
            }});
            let Options { timeout: time, concurrency: places, terms, priority: rank, retention: kept, unique: None } =
                Definition::read("q", &document).unwrap().options
            else {
                panic!("nothing is unique")
            };
            prop_assert_eq!((time, places), (Some(Duration::from_millis(timeout)), Some(concurrency)));
            prop_assert_eq!((rank, kept), (priority, Duration::from_millis(retention)));
            prop_assert_eq!(terms.max_attempts(), attempts);
            prop_assert_eq!(terms.backoff(1) <= Duration::from_millis(base), true);
        }
    }
}
