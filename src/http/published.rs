//! Holds a published schema and the reader of its documents together: used by the tests of both.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};

/// What stands in the place of a member at random: each of another type, or beyond a range.
fn strange(pick: u32) -> Value {
    let all = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1_000_000_000),
        json!(""),
        json!("x"),
        json!(" x "),
        json!([]),
        json!([1]),
        json!([[]]),
        json!({}),
        json!({"nonsense": 1}),
        json!("y".repeat(3000)),
    ];
    all[pick as usize % all.len()].clone()
}

/// A schema as `/openapi.json` has it, with those that it names.
#[derive(Debug)]
pub(crate) struct Published {
    root: Value,
    validator: jsonschema::Validator,
}

impl Published {
    /// The schema of `T`.
    pub(crate) fn of<T: utoipa::ToSchema>() -> Self {
        let mut named: Vec<(String, RefOr<Schema>)> = Vec::new();
        T::schemas(&mut named);
        named.push((T::name().into_owned(), T::schema()));
        let schemas: Map<String, Value> =
            named.into_iter().map(|(name, schema)| (name, json!(schema))).collect();
        let root = json!({
            "$ref": format!("#/components/schemas/{}", T::name()), "components": { "schemas": schemas }
        });
        let validator = jsonschema::validator_for(&root).expect("a schema that is published compiles");
        Self { root, validator }
    }

    /// Whether the schema allows `document`.
    pub(crate) fn allows(&self, document: &Value) -> bool {
        self.validator.is_valid(document)
    }

    /// Makes a document that the schema describes and one that differs from it at one place, and checks that `read`
    /// reads what the schema allows, unless the first breaks one of the rules `between` members or the second one of
    /// those `beyond` the schema, and refuses what the schema refuses.
    pub(crate) fn agrees(
        &self,
        picks: &[u32],
        between: &[&str],
        beyond: &[&str],
        read: impl Fn(&Value) -> Result<(), Vec<String>>,
    ) -> Result<(), TestCaseError> {
        let mut picks = picks.iter().copied().cycle();
        let mut next = || picks.next().unwrap_or_default();
        let made = self.make(&self.root, &mut next);
        prop_assert!(self.allows(&made), "the schema refuses its own {made}");
        if let Err(found) = read(&made) {
            prop_assert!(
                found.iter().all(|keyword| between.contains(&keyword.as_str())),
                "{found:?}: {made}"
            );
        }
        let mut changed = made;
        mutate(&mut changed, &mut next);
        match (self.allows(&changed), read(&changed)) {
            (false, read) => prop_assert!(read.is_err(), "is read although the schema refuses it: {changed}"),
            (true, Ok(())) => {}
            (true, Err(found)) => prop_assert!(
                found.iter().all(|keyword| {
                    let keyword = keyword.as_str();
                    between.contains(&keyword) || beyond.contains(&keyword)
                }),
                "is refused for {found:?} although the schema allows it: {changed}"
            ),
        }
        Ok(())
    }

    /// A document that `schema` describes; texts are the examples.
    fn make(&self, schema: &Value, next: &mut impl FnMut() -> u32) -> Value {
        if let Some(value) = schema.get("example").filter(|_| schema["type"] != "integer") {
            return value.clone();
        }
        if let Some(value) = schema.get("default").filter(|value| value.is_string()) {
            return value.clone();
        }
        if let Some(name) = schema["$ref"].as_str() {
            let pointer = name.trim_start_matches('#');
            return self.make(self.root.pointer(pointer).unwrap_or(&Value::Null), next);
        }
        for several in ["oneOf", "anyOf", "enum"] {
            if let Some(all) = schema[several].as_array() {
                let one = &all[next() as usize % all.len()];
                return if several == "enum" { one.clone() } else { self.make(one, next) };
            }
        }
        let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or_default();
        match kind {
            "object" => Value::Object(self.members(schema, next)),
            "array" => {
                let least = schema["minItems"].as_u64().unwrap_or(0);
                let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
                let many = least.max(u64::from(next() % 3)).min(most);
                Value::Array((0..many).map(|_| self.make(&schema["items"], next)).collect())
            }
            "null" => Value::Null,
            "integer" | "number" => {
                let (least, most) =
                    (schema["minimum"].as_i64().unwrap_or(0), schema["maximum"].as_i64().unwrap_or(9));
                [json!(least), json!(most), json!(i64::midpoint(least, most))][next() as usize % 3].clone()
            }
            "boolean" => json!(next().is_multiple_of(2)),
            "string" => json!("text"),
            _ => json!(1),
        }
    }

    /// Those that are required, and some of the others; what only answers have is left out.
    fn members(&self, schema: &Value, next: &mut impl FnMut() -> u32) -> Map<String, Value> {
        let required =
            |name: &String| schema["required"].as_array().is_some_and(|all| all.contains(&json!(name)));
        let mut members = Map::new();
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            if member["readOnly"] != true && (required(name) || next().is_multiple_of(2)) {
                members.insert(name.clone(), self.make(member, next));
            }
        }
        members
    }
}

/// Changes one place of a document: another value, no value, or a member that is not known.
fn mutate(document: &mut Value, next: &mut impl FnMut() -> u32) {
    let inner = !next().is_multiple_of(3);
    match document {
        Value::Object(members) if !members.is_empty() && inner => {
            let at = next() as usize % members.len();
            let name = members.keys().nth(at).cloned().unwrap_or_default();
            if next().is_multiple_of(4) {
                members.remove(&name);
            } else if let Some(member) = members.get_mut(&name) {
                mutate(member, next);
            }
        }
        Value::Array(items) if !items.is_empty() && inner => {
            let at = next() as usize % items.len();
            mutate(&mut items[at], next);
        }
        Value::Object(members) if next().is_multiple_of(2) => {
            members.insert("nonsense".to_owned(), strange(next()));
        }
        other => *other = strange(next()),
    }
}
