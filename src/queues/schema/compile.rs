//! From a schema, as it was put, to one that can validate messages; or to the reasons why not.

use super::expansion::{self, Checks};
use super::graph::Offline;
use super::meter::{Metered, Price};
use super::wording;
use crate::error::Violation;
use jsonschema::{Draft, PatternOptions, Validator, meta::MetaValidator};
use serde_json::Value;

/// Largest schema, in bytes of compact JSON.
const MAX_SCHEMA: usize = 64 * 1024;

/// Size of one compiled regular expression, in bytes.
const PATTERN_SIZE: usize = 1 << 20;
/// Steps back in one match, for patterns beyond the linear-time engine.
const BACKTRACKS: usize = 4_000;
/// What such a match costs on top, in looks. It may take 100 times that, but hardly ever does.
const BACKTRACKING_TEXT: u64 = 1_000;
/// Checks of one value that a schema with such patterns may ask for: its errors copy messages.
const MAX_CHECKS_WITH_BACKTRACKING: u64 = 2_000;

/// A schema, ready to validate messages.
#[derive(Debug)]
pub struct CompiledSchema {
    pub(super) validator: Validator<Metered>,
    pub(super) price: Price,
    /// Whether a match may be given up, see `Meter::lending`.
    pub(super) backtracks: bool,
}

/// Compiles `schema`. Takes some frames of stack for each level of nesting, and up to some seconds.
pub(super) fn compile(schema: &Value) -> Result<CompiledSchema, Vec<Violation>> {
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
    let Checks { all: checks, silent } =
        expansion::measure(schema, draft).map_err(|reason| all(vec![reason]))?;
    // Between two looks, and a look takes as long as some of these.
    let look = 1 + silent / 8;
    let options = jsonschema::options_for::<Metered>().with_draft(draft).with_retriever(Offline);
    let linear = PatternOptions::regex().size_limit(PATTERN_SIZE);
    let backtracking = PatternOptions::fancy_regex().size_limit(PATTERN_SIZE).backtrack_limit(BACKTRACKS);
    if let Ok(validator) = options.clone().with_pattern_options(linear).build(schema) {
        return Ok(CompiledSchema { validator, price: Price { look, text: 0 }, backtracks: false });
    }
    let validator = options.with_pattern_options(backtracking).build(schema);
    let validator = validator.map_err(|error| all(wording::violations(std::iter::once(error))))?;
    if checks > MAX_CHECKS_WITH_BACKTRACKING {
        let reason = "look-around and back-references need a smaller schema";
        return Err(one(Violation::new("", "pattern", reason)));
    }
    Ok(CompiledSchema { validator, price: Price { look, text: BACKTRACKING_TEXT }, backtracks: true })
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
    use crate::error::Error;
    use serde_json::json;
    use std::time::{Duration, Instant};

    /// Longer than any bounded step takes, even on a busy machine and without optimization.
    const SOON: Duration = Duration::from_secs(20);

    async fn refusal(schema: Value) -> (String, String) {
        let started = Instant::now();
        let Err(Error::Invalid(_, found)) = CompiledSchema::compile(schema).await else { panic!("accepted") };
        assert!(started.elapsed() < SOON, "took {:?}", started.elapsed());
        (found[0].pointer.clone(), found[0].keyword.clone())
    }

    fn refused(pointer: &str, keyword: &str) -> (String, String) {
        (pointer.to_owned(), keyword.to_owned())
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
}
