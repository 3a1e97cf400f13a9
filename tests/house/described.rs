//! The description of the API is whole: bodies have shapes, schemas have names of their own, limits have ends.

use crate::support::answer::json;
use crate::support::app::TestApp;
use axum::http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Bodies that may be any JSON value: a queue's message is what its schema says.
const ANYTHING: &[&str] = &["push_message"];

async fn description() -> Value {
    let app = TestApp::start().await;
    let api = json(app.anonymous(Method::GET, "/openapi.json").send().await.unwrap(), 200).await;
    app.stop().await;
    api
}

/// Every operation, with its name.
fn operations(api: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let paths = api["paths"].as_object().unwrap().values();
    let operations = paths.flat_map(|operations| operations.as_object().unwrap().values());
    operations.filter_map(|operation| Some((operation["operationId"].as_str()?, operation)))
}

/// Whether a schema says nothing of what it allows.
fn is_open(schema: &Value) -> bool {
    let says = ["$ref", "type", "oneOf", "anyOf", "allOf", "enum", "const"];
    !says.iter().any(|keyword| schema.get(keyword).is_some())
}

/// The places in a schema at which a reader would be shown "string", since nothing says what stands there.
fn unsaid(api: &Value, schema: &Value, place: &str, depth: usize, found: &mut Vec<String>) {
    let says = ["example", "examples", "default", "enum", "const", "format"];
    if depth > 12 || says.iter().any(|keyword| schema.get(keyword).is_some()) {
        return;
    }
    if let Some(name) = schema["$ref"].as_str() {
        let named = api.pointer(name.trim_start_matches('#')).unwrap();
        return unsaid(
            api,
            named,
            &format!("{place} ({})", name.rsplit('/').next().unwrap()),
            depth + 1,
            found,
        );
    }
    let mut below = |schema: &Value, name: &str| {
        unsaid(api, schema, &format!("{place}/{name}"), depth + 1, found);
    };
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        below(member, name);
    }
    for several in ["oneOf", "anyOf", "allOf"] {
        schema[several].as_array().into_iter().flatten().for_each(|one| below(one, several));
    }
    if let Some(items) = schema.get("items") {
        below(items, "items");
    }
    let is_text = schema["type"] == "string"
        || schema["type"].as_array().is_some_and(|kinds| kinds.contains(&json!("string")));
    if is_text {
        found.push(place.to_owned());
    }
}

fn each_schema<'v>(part: &'v Value, place: &str, look: &mut impl FnMut(&str, &'v Value)) {
    look(place, part);
    match part {
        Value::Object(members) => {
            for (name, member) in members.iter().filter(|(name, _)| !name.starts_with("example")) {
                each_schema(member, &format!("{place}/{name}"), look);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each_schema(item, place, look)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_body_that_has_a_shape_is_described() {
    let api = description().await;
    let mut seen = 0;
    for (name, operation) in operations(&api) {
        let request = operation.pointer("/requestBody/content").into_iter();
        let answers = operation["responses"].as_object().unwrap().values();
        let answers = answers.filter_map(|answer| answer.get("content"));
        for (kind, content) in request.chain(answers).flat_map(|content| content.as_object().unwrap()) {
            let Some(schema) = content.get("schema") else { continue };
            seen += 1;
            assert!(!is_open(schema) || ANYTHING.contains(&name), "{name}: the {kind} is {{}}");
        }
    }
    assert!(seen > 100, "only {seen} bodies were looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_any_member_says_so_and_every_limit_has_its_ends() {
    let api = description().await;
    assert_eq!(api["servers"][0]["url"], "/");
    let mut limits = 0;
    each_schema(&api, "", &mut |place, part| {
        if part["type"] == "object" && part.get("properties").is_none() {
            assert!(
                part.get("additionalProperties").is_some(),
                "{place} may have any member and does not say so"
            );
        }
        let limit =
            if part["name"] == "limit" { part.get("schema") } else { part.pointer("/properties/limit") };
        if let Some(limit) = limit {
            limits += 1;
            assert_eq!(limit["minimum"], json!(1), "{place}");
            assert!(limit["maximum"].is_u64(), "{place}: {limit}");
        }
    });
    assert!(limits >= 5, "only {limits} limits were looked at");
    for (name, operation) in operations(&api) {
        assert!(
            operation["responses"].get("400").is_some(),
            "{name} answers 400 to a parameter it does not know"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_text_that_is_sent_or_answered_has_an_example_of_its_own() {
    let api = description().await;
    let (mut found, mut seen) = (Vec::new(), 0);
    for (name, operation) in operations(&api) {
        let request = operation.pointer("/requestBody/content").into_iter();
        let answers = operation["responses"].as_object().unwrap().values();
        let answers = answers.filter_map(|answer| answer.get("content"));
        for (kind, content) in request.chain(answers).flat_map(|content| content.as_object().unwrap()) {
            if content.get("example").is_none() && kind.ends_with("json") {
                seen += 1;
                unsaid(&api, &content["schema"], &format!("{name}: {kind}"), 0, &mut found);
            }
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(
                parameter["schema"].get("oneOf").is_none_or(|_| parameter["name"] == "wait"),
                "{name}: {parameter}"
            );
            assert!(
                !parameter["schema"]["type"].is_array(),
                "{name}: a parameter is absent, not null: {parameter}"
            );
            if parameter.get("example").is_none() {
                unsaid(&api, &parameter["schema"], &format!("{name}: {}", parameter["name"]), 0, &mut found);
            }
        }
    }
    found.sort();
    found.dedup();
    assert!(found.is_empty(), "{} texts are shown as \"string\": {found:#?}", found.len());
    assert!(seen > 100, "only {seen} bodies were looked at");
}

#[test]
fn no_two_schemas_have_one_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut places);
    assert!(places.len() > 50, "only these were found: {places:?}");
    for (name, places) in places {
        assert_eq!(
            places.len(),
            1,
            "of the schemas called {name} in {places:?} the description has one only"
        );
    }
}

/// The names of the types that are schemas, and the files that define them.
fn collect(folder: &Path, places: &mut BTreeMap<String, Vec<String>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, places);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for (at, found) in text.match_indices("ToSchema)]") {
                let after = &text[at + found.len()..];
                let place = path.display().to_string();
                places.entry(name(after)).or_default().push(place);
            }
        }
    }
}

/// The name that the first type in `after` has in the description: its own, or the one after `as`.
fn name(after: &str) -> String {
    let mut called = None;
    for line in after.lines().map(str::trim) {
        if let Some((_, rest)) = line.split_once("schema(as = ") {
            called = rest.split([',', ')']).next();
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| ["struct", "enum"].contains(word));
        if let Some(name) = at.filter(|_| !line.starts_with("//")).and_then(|at| words.get(at + 1)) {
            let own = name.split(['{', ';', '(', '<']).next().unwrap_or_default();
            return called.unwrap_or(own).to_owned();
        }
    }
    String::new()
}
