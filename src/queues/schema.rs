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
//! | references that multiply, endless ones | counted before anything runs: [`expansion`] |
//! | recursion into a nested message, long lists | looks at the message are counted: [`meter`] |
//! | regular expressions | a linear-time engine; look-around and back-references step back a limited number of times |
//! | the async threads | what needs more than some 0.1 ms goes to a thread of its own: [`thread`] |

mod expansion;
mod meter;
mod thread;
mod wording;

use crate::error::{Error, Result, Violation};
use jsonschema::{Draft, PatternOptions, Validator, meta::MetaValidator};
use meter::{Budget, Look, Meter, Metered};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Most violations that are listed of one document.
pub const MAX_VIOLATIONS: usize = 50;
/// Largest schema, in bytes of compact JSON.
pub const MAX_SCHEMA: usize = 64 * 1024;

/// How long a definition waits for its schema to compile.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of one compiled regular expression, in bytes.
const PATTERN_SIZE: usize = 1 << 20;
/// Steps back in one match, for patterns beyond the linear-time engine.
const BACKTRACKS: usize = 10_000;
/// Checks of one value that a schema with such patterns may ask for: its errors copy messages.
const MAX_CHECKS_WITH_BACKTRACKING: u64 = 2_000;

/// What a message may use on an async thread: some 0.1 ms.
const BRIEF: Budget = Budget { looks: 10_000, stack: 256 << 10 };
/// What a message may use on a thread of its own: some tenths of a second.
const AMPLE: Budget = Budget { looks: 20_000_000, stack: thread::STACK - (4 << 20) };
/// What listing the violations may use there. Less: each takes memory until the last is found.
const LISTING: Budget = Budget { looks: 500_000, ..AMPLE };

/// A schema, ready to be held against messages.
#[derive(Debug)]
pub struct CompiledSchema {
    validator: Validator<Metered>,
    // The cost of a look, see [`Meter::new`].
    price: u64,
    // Whether a match may be given up, see [`Meter::lending`].
    backtracks: bool,
}

/// What came out within a budget.
enum Verdict {
    Valid,
    Invalid(Vec<Violation>),
    /// Not valid, but it takes more than the budget to say why.
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
        let compiling = thread::run(move || compile(&schema));
        let compiled = match tokio::time::timeout(COMPILE_TIMEOUT, compiling).await {
            Ok(compiled) => compiled?,
            Err(_) => Err(vec![Violation::new("", "schema", "takes too long to compile")]),
        };
        let refused = |violations| Error::Invalid("the schema cannot be used".to_owned(), violations);
        compiled.map(Arc::new).map_err(refused)
    }

    /// Holds the schema against `message`: here if that is quickly done, else on a thread of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every violation, up to [`MAX_VIOLATIONS`]; their messages do not repeat values
    /// of `message`. [`Error::Unavailable`] if no thread can be had.
    pub async fn validate(self: &Arc<Self>, message: Value) -> Result<()> {
        let verdict = match self.judge(&message, BRIEF, BRIEF) {
            Verdict::Spent | Verdict::Unlisted => {
                let schema = Arc::clone(self);
                thread::run(move || schema.judge(&message, AMPLE, LISTING)).await?
            }
            verdict => verdict,
        };
        let violations = match verdict {
            Verdict::Valid => return Ok(()),
            Verdict::Invalid(violations) => violations,
            Verdict::Unlisted => {
                vec![Violation::new("", "schema", "does not match, in more ways than can be listed")]
            }
            Verdict::Spent => vec![Violation::new("", "schema", "takes too many steps to validate")],
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
        let meter = Meter::new(listing, self.price);
        let meter = if self.backtracks { meter.lending(message) } else { meter };
        let violations = wording::violations(self.validator.iter_errors(Look::new(message, &meter)));
        if meter.is_spent() { Verdict::Unlisted } else { Verdict::Invalid(violations) }
    }
}

fn compile(schema: &Value) -> Result<CompiledSchema, Vec<Violation>> {
    let one = |violation| vec![violation];
    if schema.to_string().len() > MAX_SCHEMA {
        return Err(one(Violation::new("", "schema", format!("larger than {MAX_SCHEMA} bytes"))));
    }
    let draft = Draft::Draft7.detect(schema);
    let Some(meta_schema) = meta_schema(draft) else {
        return Err(one(Violation::new("/$schema", "$schema", "not a dialect of JSON Schema known here")));
    };
    // Each step below stops at its first reason; the meta-schema knows all of them.
    let all = |reason: Vec<Violation>| {
        let listed = wording::violations(meta_schema.iter_errors(schema));
        if listed.is_empty() { reason } else { listed }
    };
    let checks = expansion::measure(schema, draft).map_err(|reason| all(vec![reason]))?;
    let options = jsonschema::options_for::<Metered>().with_draft(draft).with_retriever(expansion::Offline);
    let linear = PatternOptions::regex().size_limit(PATTERN_SIZE);
    let backtracking = PatternOptions::fancy_regex().size_limit(PATTERN_SIZE).backtrack_limit(BACKTRACKS);
    if let Ok(validator) = options.clone().with_pattern_options(linear).build(schema) {
        return Ok(CompiledSchema { validator, price: 1 + checks / 256, backtracks: false });
    }
    let validator = options.with_pattern_options(backtracking).build(schema);
    let validator = validator.map_err(|error| all(wording::violations(std::iter::once(error))))?;
    if checks > MAX_CHECKS_WITH_BACKTRACKING {
        let reason = "look-around and back-references need a smaller schema";
        return Err(one(Violation::new("", "pattern", reason)));
    }
    Ok(CompiledSchema { validator, price: 1 + checks / 256, backtracks: true })
}

fn meta_schema(draft: Draft) -> Option<MetaValidator<'static>> {
    match draft {
        Draft::Draft4 => Some(jsonschema::draft4::meta::validator()),
        Draft::Draft6 => Some(jsonschema::draft6::meta::validator()),
        Draft::Draft7 => Some(jsonschema::draft7::meta::validator()),
        Draft::Draft201909 => Some(jsonschema::draft201909::meta::validator()),
        Draft::Draft202012 => Some(jsonschema::draft202012::meta::validator()),
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
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

    async fn refusal(schema: Value) -> (String, String) {
        let started = Instant::now();
        let Err(Error::Invalid(_, found)) = CompiledSchema::compile(schema).await else { panic!("accepted") };
        assert!(started.elapsed() < SOON, "took {:?}", started.elapsed());
        (found[0].pointer.clone(), found[0].keyword.clone())
    }

    fn refused(pointer: &str, keyword: &str) -> (String, String) {
        (pointer.to_owned(), keyword.to_owned())
    }

    /// `depth` arrays in one another.
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
    async fn the_dialect_decides_and_without_one_it_is_draft_07() {
        // Tuples are `items` in draft-07, `prefixItems` in 2020-12.
        let tuple = json!({"items": [{"type": "string"}], "prefixItems": [{"type": "number"}]});
        let draft_07 = CompiledSchema::compile(tuple).await.unwrap();
        assert!(
            draft_07.validate(json!(["a"])).await.is_ok() && draft_07.validate(json!([1])).await.is_err()
        );
        let tuple = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "prefixItems": [{"type": "number"}]});
        let latest = CompiledSchema::compile(tuple).await.unwrap();
        assert!(latest.validate(json!([1])).await.is_ok() && latest.validate(json!(["a"])).await.is_err());
        // `format` asserts up to draft-07 and annotates from 2019-09 on.
        for (dialect, valid) in [
            ("http://json-schema.org/draft-07/schema#", false),
            ("https://json-schema.org/draft/2019-09/schema", true),
        ] {
            let schema =
                CompiledSchema::compile(json!({"$schema": dialect, "format": "date"})).await.unwrap();
            assert_eq!(schema.validate(json!("tomorrow")).await.is_ok(), valid, "{dialect}");
        }
        for (schema, valid) in [(json!(true), true), (json!(false), false), (json!({}), true)] {
            assert_eq!(
                CompiledSchema::compile(schema).await.unwrap().validate(json!(1)).await.is_ok(),
                valid
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_schema_or_leads_outside_is_refused_when_it_is_defined() {
        let broken = json!({"type": "strin", "minLength": -1, "properties": {"a": {"required": "b"}}});
        let Err(Error::Invalid(_, found)) = CompiledSchema::compile(broken).await else { panic!() };
        let mut pointers: Vec<&str> = found.iter().map(|violation| violation.pointer.as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/minLength", "/properties/a/required", "/type"]);

        assert_eq!(
            refusal(json!({"$schema": "https://example.com/mine"})).await,
            refused("/$schema", "$schema")
        );
        for outside in
            ["http://127.0.0.1:1/s.json", "file:///etc/passwd", "other.json#/definitions/a", "//host/s"]
        {
            let schema = json!({"properties": {"a": {"$ref": outside}}});
            assert_eq!(refusal(schema).await, refused("/properties/a/$ref", "$ref"), "{outside}");
        }
        assert_eq!(refusal(json!({"$ref": "#/nowhere"})).await.1, "$ref");
        assert_eq!(refusal(json!({"$ref": "#nothing"})).await.1, "$ref");
        assert_eq!(refusal(json!({"pattern": "("})).await, refused("/pattern", "format"));
        assert_eq!(refusal(json!({"$comment": "x".repeat(MAX_SCHEMA)})).await, refused("", "schema"));
        // The dialects' own meta-schemas are at hand.
        let meta = CompiledSchema::compile(json!({"$ref": "http://json-schema.org/draft-07/schema#"}))
            .await
            .unwrap();
        assert!(meta.validate(json!({"type": "string"})).await.is_ok());
        assert!(meta.validate(json!({"type": "strin"})).await.is_err());
    }

    #[tokio::test]
    async fn references_that_multiply_or_never_end_are_refused_when_they_are_defined() {
        for keyword in ["allOf", "anyOf", "oneOf"] {
            let mut definitions = serde_json::Map::new();
            for step in 0..40 {
                let next = json!({"$ref": format!("#/definitions/s{}", step + 1)});
                definitions.insert(format!("s{step}"), json!({keyword: [next, next]}));
            }
            definitions.insert("s40".to_owned(), json!({"type": "object"}));
            let bomb = json!({"definitions": definitions, "$ref": "#/definitions/s0"});
            assert_eq!(refusal(bomb).await.1, "$ref", "{keyword}");
        }
        assert_eq!(refusal(json!({"allOf": [{"$ref": "#"}]})).await.1, "$ref");
        let there_and_back = json!({
            "definitions": {"a": {"not": {"$ref": "#/definitions/b"}}, "b": {"$ref": "#/definitions/a"}},
            "properties": {"x": {"$ref": "#/definitions/a"}}
        });
        assert_eq!(refusal(there_and_back).await.1, "$ref");
        let chain: serde_json::Map<String, Value> =
            (0..1500).map(|n| (n.to_string(), json!({"$ref": format!("#/definitions/{}", n + 1)}))).collect();
        let chain = json!({"definitions": chain, "items": {"$ref": "#/definitions/0"}});
        assert_eq!(refusal(chain).await.1, "$ref");
        // Every layer of resources can be entered from two others, each time with another dynamic scope.
        let mut resources = serde_json::Map::new();
        for layer in 0..24 {
            for side in ["a", "b"] {
                let below = |side| json!({"$ref": format!("{side}{}", layer + 1)});
                let at =
                    json!({"$id": format!("{side}{layer}"), "items": {"allOf": [below("a"), below("b")]}});
                resources.insert(format!("{side}{layer}"), at);
            }
        }
        for side in ["a24", "b24"] {
            resources.insert(side.to_owned(), json!({"$id": side, "type": "string"}));
        }
        let dialect = "https://json-schema.org/draft/2020-12/schema";
        let scopes =
            json!({"$schema": dialect, "$id": "https://x.example/", "$defs": resources, "$ref": "a0"});
        assert_eq!(refusal(scopes).await.1, "schema");
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
