//! The JSON Schema of a queue's messages: compiled once for each version of a definition, and bounded in all
//! that it can cost.
//!
//! `$schema` decides the dialect (drafts 4, 6, 7, 2019-09, 2020-12), and without it draft-07 holds. `format`
//! asserts where the dialect says so by default: in drafts 4 to 7; later it is an annotation. Nothing is
//! fetched: a reference to another document is refused when the schema is defined.
//!
//! What bounds the work, since neither the schema nor the message is to be trusted:
//!
//! | what | bound |
//! | --- | --- |
//! | references that multiply, endless ones | counted before anything runs: `expansion` |
//! | recursion into a nested message, long lists | looks at the message are counted: `meter` |
//! | regular expressions | a linear-time engine; look-around and back-references step back a limited number of times |
//! | the async threads | what needs more than some 0.05 ms goes to a thread of its own: `thread` |

mod compile;
mod expansion;
mod graph;
mod meter;
mod thread;
mod wording;

pub use compile::CompiledSchema;

use crate::error::{Error, Result, Violation};
use crate::http::json_text::{MAX_DEPTH, to_value};
use meter::{Budget, Look, Meter};
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;

/// How long a definition waits for its schema to compile.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a message may use on an async thread: some 0.05 ms.
const BRIEF: Budget = Budget { looks: 10_000, stack: 256 << 10 };
/// What a message may use on a thread of its own: some 0.1 s.
const AMPLE: Budget = Budget { looks: 20_000_000, stack: thread::STACK - (4 << 20) };
/// What listing the violations may use there: 20,000 of them, those inside `anyOf` included, are too many.
const LISTING: Budget = Budget { looks: 2_000_000, ..AMPLE };

/// What came out within a budget.
enum Verdict {
    Valid,
    Invalid(Vec<Violation>),
    /// Not valid, but it takes more than the budget to list all the reasons.
    Unlisted,
    /// It takes more than the budget to say anything.
    Spent,
}

impl CompiledSchema {
    /// Compiles `schema` on a thread of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every violation of the meta-schema, or the reason why it cannot be used; the
    /// pointers count from the schema. [`Error::Unavailable`] if no thread can be had.
    pub async fn compile(schema: Value) -> Result<Arc<Self>> {
        let compiling = thread::run(move || compile::compile(&schema));
        let compiled = match tokio::time::timeout(COMPILE_TIMEOUT, compiling).await {
            Ok(compiled) => compiled?,
            Err(_) => Err(vec![Violation::new("", "schema", "takes too long to compile")]),
        };
        let refused = |violations| Error::Invalid("the schema cannot be used".to_owned(), violations);
        compiled.map(Arc::new).map_err(refused)
    }

    /// As [`CompiledSchema::validate`], for a message as it was sent. A schema sees values: of a string U+FFFD in the
    /// place of half a surrogate pair, of a number that no double can hold the largest double.
    ///
    /// # Errors
    /// As there; [`Error::Invalid`] too for a message that nests too deep to be looked into, as only SQL can send it.
    pub async fn validate_text(self: &Arc<Self>, message: &RawValue) -> Result<()> {
        match to_value(message.get()) {
            Some(value) => self.validate(value).await,
            None => Err(Error::invalid("", "json", format!("nests deeper than {MAX_DEPTH}"))),
        }
    }

    /// Holds the schema against `message`: here if that is quickly done, else on a thread of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every violation, up to [`crate::error::MAX_VIOLATIONS`]; their messages do not repeat values
    /// of `message`. [`Error::Unavailable`] if no thread can be had.
    pub async fn validate(self: &Arc<Self>, message: Value) -> Result<()> {
        let verdict = match self.judge(&message, BRIEF, BRIEF) {
            Verdict::Spent | Verdict::Unlisted => {
                let schema = Arc::clone(self);
                let judge = move || match schema.judge(&message, AMPLE, LISTING) {
                    Verdict::Unlisted => Verdict::Invalid(schema.first_violation(&message)),
                    verdict => verdict,
                };
                thread::run(judge).await?
            }
            verdict => verdict,
        };
        let violations = match verdict {
            Verdict::Valid => return Ok(()),
            Verdict::Invalid(violations) => violations,
            Verdict::Unlisted | Verdict::Spent => {
                vec![Violation::new("", "schema", "takes too many steps to validate")]
            }
        };
        Err(Error::Invalid("the message does not match the queue's schema".to_owned(), violations))
    }

    fn judge(&self, message: &Value, judging: Budget, listing: Budget) -> Verdict {
        let meter = Meter::new(judging, self.price);
        let valid = self.validator.is_valid(Look::new(message, &meter));
        if meter.is_spent() {
            return Verdict::Spent;
        }
        if valid {
            return Verdict::Valid;
        }
        let meter = self.meter(listing, message);
        let violations = wording::violations(self.validator.iter_errors(Look::new(message, &meter)));
        if meter.is_spent() { Verdict::Unlisted } else { Verdict::Invalid(violations) }
    }

    /// What the validator stumbles over first, where it takes too much to list everything.
    fn first_violation(&self, message: &Value) -> Vec<Violation> {
        let meter = self.meter(LISTING, message);
        let first = self.validator.validate(Look::new(message, &meter)).err();
        let mut violations = wording::violations(first.into_iter().filter(|_| !meter.is_spent()));
        violations.push(Violation::new("", "schema", "does not match, in more ways than can be listed"));
        violations
    }

    fn meter(&self, budget: Budget, message: &Value) -> Meter {
        let meter = Meter::new(budget, self.price);
        if self.backtracks { meter.lending(message) } else { meter }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::error::MAX_VIOLATIONS;
    use serde_json::json;
    use std::time::Instant;

    /// Longer than any bounded step takes, even on a busy machine and without optimization.
    const SOON: Duration = Duration::from_secs(20);

    async fn violations(schema: &Arc<CompiledSchema>, message: Value) -> Vec<(String, String, String)> {
        match schema.validate(message).await {
            Ok(()) => Vec::new(),
            Err(Error::Invalid(_, found)) => {
                found.into_iter().map(|v| (v.pointer, v.keyword, v.message)).collect()
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    /// `innermost`, wrapped `depth` times.
    fn nested(depth: usize, innermost: Value, wrap: impl Fn(Value) -> Value) -> Value {
        (0..depth).fold(innermost, |inner, _| wrap(inner))
    }

    #[tokio::test]
    async fn every_violation_is_listed_and_no_value_is_repeated() {
        let schema = CompiledSchema::compile(json!({
            "type": "object",
            "properties": {"hello": {"type": "string"}, "list": {"items": {"enum": [1, 2]}}, "~/": {"const": 1}},
            "propertyNames": {"maxLength": 5},
            "additionalProperties": false,
            "required": ["hello", "world"]
        }));
        let schema = schema.await.unwrap();
        let message =
            json!({"hello": 77_001, "list": [1, 77_002], "~/": "hush", "a/b": "hush", "too long": "hush"});
        let mut found = violations(&schema, message).await;
        found.sort();
        let expected = [
            ("", "propertyNames", "a property's name must have at most 5 characters"),
            ("", "required", "must have the property \"world\""),
            ("/a~1b", "additionalProperties", "no property of this name is allowed"),
            ("/hello", "type", "must be of type string"),
            ("/list/1", "enum", "must be one of [1,2]"),
            ("/too long", "additionalProperties", "no property of this name is allowed"),
            ("/~0~1", "const", "must be 1"),
        ];
        let found: Vec<(&str, &str, &str)> = found.iter().map(|(p, k, m)| (&**p, &**k, &**m)).collect();
        assert_eq!(found, expected);
        let many = json!({"list": vec![9; 5000]});
        assert_eq!(violations(&schema, many).await.len(), MAX_VIOLATIONS);
    }

    #[tokio::test]
    async fn a_nested_message_cannot_make_a_recursive_schema_run_away() {
        let branch = |operator: &str| {
            json!({"properties": {"op": {"const": operator}, "left": {"$ref": "#"}, "right": {"$ref": "#"}},
                   "required": ["op", "left", "right"]})
        };
        let operators = ["add", "sub", "mul", "div"].map(branch);
        let schema = json!({"oneOf": [{"type": "number"}, {"type": "object", "oneOf": operators}]});
        let schema = CompiledSchema::compile(schema).await.unwrap();
        let tree =
            |depth, leaf: Value| nested(depth, leaf, |inner| json!({"op": "mul", "left": inner, "right": 1}));
        assert!(schema.validate(tree(10, json!(1))).await.is_ok());
        assert!(schema.validate(tree(120, json!(1))).await.is_ok());
        let started = Instant::now();
        assert!(!violations(&schema, tree(10, json!("one"))).await.is_empty());
        assert!(!violations(&schema, tree(120, json!("one"))).await.is_empty());
        assert!(started.elapsed() < SOON, "took {:?}", started.elapsed());
    }

    #[tokio::test]
    async fn the_stack_holds_where_nested_messages_meet_long_chains_of_references() {
        let mut definitions: serde_json::Map<String, Value> =
            (0..100).map(|n| (n.to_string(), json!({"$ref": format!("#/definitions/{}", n + 1)}))).collect();
        definitions.insert("100".to_owned(), json!({"items": {"$ref": "#"}, "type": ["array", "null"]}));
        let schema = json!({"definitions": definitions, "allOf": [{"$ref": "#/definitions/0"}]});
        let schema = CompiledSchema::compile(schema).await.unwrap();
        let deep = |innermost| nested(127, innermost, |inner| json!([inner]));
        assert!(schema.validate(deep(json!(null))).await.is_ok());
        let found = violations(&schema, deep(json!("x"))).await;
        assert_eq!((found.len(), &*found[0].1), (1, "type"));
    }

    #[tokio::test]
    async fn long_messages_are_judged_like_short_ones() {
        let schema = CompiledSchema::compile(json!({"items": {"type": "integer"}, "uniqueItems": true}));
        let schema = schema.await.unwrap();
        let long: Vec<u32> = (0..200_000).collect();
        assert!(schema.validate(json!(long)).await.is_ok());
        let mut long: Vec<Value> = long.into_iter().map(Value::from).collect();
        long[150_000] = json!("x");
        long[150_001] = json!("y");
        let found = violations(&schema, json!(long[100_000..])).await;
        assert_eq!(found.iter().map(|(pointer, ..)| &**pointer).collect::<Vec<_>>(), ["/50000", "/50001"]);
    }

    #[tokio::test]
    async fn patterns_run_in_linear_time_and_those_that_cannot_are_stopped() {
        let long = "a".repeat(100_000) + "!";
        let started = Instant::now();
        let linear = CompiledSchema::compile(json!({"pattern": "^(a+)+$"})).await.unwrap();
        assert!(linear.validate(json!(long)).await.is_err());
        let look_ahead = CompiledSchema::compile(json!({"pattern": "^(?=.*\\d)(?!x)"})).await.unwrap();
        assert!(look_ahead.validate(json!("a1")).await.is_ok());
        assert!(look_ahead.validate(json!("x1")).await.is_err());
        let exponential =
            CompiledSchema::compile(json!({"items": {"pattern": "^(a|a)*\\1b"}})).await.unwrap();
        let found = violations(&exponential, json!(vec![long; 3])).await;
        assert_eq!(found[0].2, "takes the pattern too long to match");
        assert!(started.elapsed() < SOON, "took {:?}", started.elapsed());
    }
}
