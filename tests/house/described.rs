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
    for (name, operation) in operations(&api).filter(|(_, operation)| operation["security"].is_null()) {
        assert!(
            operation["responses"].get("400").is_some(),
            "{name} answers 400 to a parameter it does not know"
        );
    }
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
            for (_, after) in
                text.match_indices("ToSchema)]").map(|(at, found)| text.split_at(at + found.len()))
            {
                let words: Vec<&str> = after
                    .lines()
                    .map(str::trim)
                    .find(|line| line.contains("struct ") || line.contains("enum "))
                    .unwrap_or_default()
                    .split_whitespace()
                    .collect();
                let at = words.iter().position(|word| ["struct", "enum"].contains(word));
                let name = at.and_then(|at| words.get(at + 1)).map(|name| name.trim_matches(['{', ';', '(']));
                let place = path.display().to_string();
                places.entry(name.unwrap_or_default().to_owned()).or_default().push(place);
            }
        }
    }
}
