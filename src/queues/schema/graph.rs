//! The graph of a schema: its subschemas, and which of them apply to the same value.
//!
//! Walked as the compiler of the `jsonschema` crate does, and bounded, so that the compiler is bounded too.

use crate::error::Violation;
use jsonschema::{Draft, ReferencingError, Registry, Retrieve, Uri, uri};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Subschemas to compile; through `$dynamicRef`, one may count several times.
const MAX_VISITS: usize = 100_000;
/// Different regular expressions: each may take some milliseconds to compile, and a megabyte.
const MAX_PATTERNS: usize = 128;

/// Keywords with a subschema, or a list of them, that applies to the same value.
const IN_PLACE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
/// The same for keywords with a map of them.
const IN_PLACE_MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];
/// Keywords that hold subschemas without applying them.
const HOLDERS: [&str; 2] = ["definitions", "$defs"];

/// A subschema that is an object.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// Its keywords; `None` where it only refers to another (up to draft-07, beside `$ref` nothing counts).
    pub(super) keywords: Option<&'a Map<String, Value>>,
    /// The nodes that apply to the same value.
    pub(super) in_place: Vec<usize>,
    /// How many boolean schemas do.
    pub(super) booleans: u64,
}

/// Fetches nothing: a reference must stay inside the schema or name a meta-schema of JSON Schema.
pub(super) struct Offline;

impl Retrieve for Offline {
    fn retrieve(&self, _: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err("references are not fetched".into())
    }
}

enum Step<E, K> {
    /// Visit a subschema, which its parent applies to the same value or not.
    Enter(E, Option<usize>),
    /// All below it is visited.
    Leave(K),
}

/// Passes the graph of all subschemas that the compiler will visit to `then`: it borrows from what resolves the
/// references, and that lives no longer than this call.
///
/// # Errors
/// The violation, if a reference leads nowhere or the graph is too large, or what `then` finds.
pub(super) fn walk<T>(
    schema: &Value,
    draft: Draft,
    then: impl FnOnce(&[Node<'_>]) -> Result<T, Violation>,
) -> Result<T, Violation> {
    let lost = |error: ReferencingError| unresolved(schema, &error);
    let root = draft.create_resource_ref(schema);
    let base = root.id().unwrap_or("json-schema:///");
    let registry = Registry::new().retriever(Offline).draft(draft).add(base, root).map_err(lost)?;
    let registry = registry.prepare().map_err(lost)?;
    let base = uri::from_str(base.trim_end_matches('#')).map_err(lost)?;

    let mut nodes: Vec<Node<'_>> = Vec::new();
    let mut visits = 0;
    // As the compiler does: a subschema is compiled again under another dynamic scope, but not inside itself.
    let mut known = HashMap::new();
    let mut open: HashMap<usize, usize> = HashMap::new();
    let mut patterns: HashSet<&str> = HashSet::new();
    let mut steps = vec![Step::Enter((schema, draft, registry.resolver(base)), None)];
    while let Some(step) = steps.pop() {
        let ((contents, draft, resolver), parent) = match step {
            Step::Enter(subschema, parent) => (subschema, parent),
            Step::Leave(address) => {
                open.remove(&address);
                continue;
            }
        };
        visits += 1;
        if visits > MAX_VISITS {
            let reason = format!("more than {MAX_VISITS} subschemas to compile");
            return Err(Violation::new("", "schema", reason));
        }
        let Value::Object(keywords) = contents else {
            if let Some(parent) = parent {
                nodes[parent].booleans += 1;
            }
            continue;
        };
        let address = std::ptr::from_ref(contents).addr();
        let key = (address, resolver.base_uri(), resolver.dynamic_scope());
        if let Some(&id) = open.get(&address).or_else(|| known.get(&key)) {
            if let Some(parent) = parent {
                nodes[parent].in_place.push(id);
            }
            continue;
        }
        let id = nodes.len();
        if let Some(parent) = parent {
            nodes[parent].in_place.push(id);
        }
        known.insert(key, id);
        open.insert(address, id);
        steps.push(Step::Leave(address));

        let adjacent = !matches!(draft, Draft::Draft4 | Draft::Draft6 | Draft::Draft7);
        let reference =
            |keyword: &str| keywords.get(keyword).and_then(Value::as_str).filter(|r| !r.is_empty());
        let mut targets = Vec::new();
        for keyword in ["$ref", "$dynamicRef"] {
            if let Some(reference) = reference(keyword) {
                targets.push(resolver.lookup(reference).map_err(lost)?);
            }
        }
        if draft == Draft::Draft201909 && reference("$recursiveRef").is_some() {
            targets.push(resolver.lookup_recursive_ref().map_err(lost)?);
        }
        for target in targets {
            let (target, resolver, draft) = target.into_inner();
            // The compiler leaves a reference to itself out.
            if !std::ptr::eq(target, contents) {
                steps.push(Step::Enter((target, draft, resolver), Some(id)));
            }
        }
        let only_refers = !adjacent && keywords.contains_key("$ref");
        let shown = Some(keywords).filter(|_| !only_refers);
        nodes.push(Node { keywords: shown, in_place: Vec::new(), booleans: 0 });
        if only_refers {
            continue;
        }
        patterns.extend(keywords.get("pattern").and_then(Value::as_str));
        patterns.extend(members(keywords, "patternProperties").map(|(pattern, _)| pattern.as_str()));
        if patterns.len() > MAX_PATTERNS {
            let reason = format!("more than {MAX_PATTERNS} regular expressions");
            return Err(Violation::new("", "pattern", reason));
        }
        let held: HashSet<usize> = HOLDERS
            .iter()
            .flat_map(|keyword| members(keywords, keyword))
            .map(|(_, s)| address_of(s))
            .collect();
        let here = in_place(keywords);
        let same: HashSet<usize> = here.iter().map(|subschema| address_of(subschema)).collect();
        let below = draft.subresources_of(contents).filter(|s| !same.contains(&address_of(s)));
        let below = below.filter(|s| !held.contains(&address_of(s))).map(|subschema| (subschema, None));
        for (subschema, parent) in here.iter().map(|subschema| (*subschema, Some(id))).chain(below) {
            let draft = draft.detect(subschema);
            if draft == Draft::Unknown {
                return Err(Violation::new("", "$schema", "an unknown dialect inside the schema"));
            }
            let resolver = resolver.in_subresource(draft.create_resource_ref(subschema)).map_err(lost)?;
            steps.push(Step::Enter((subschema, draft, resolver), parent));
        }
    }
    then(&nodes)
}

fn address_of(value: &Value) -> usize {
    std::ptr::from_ref(value).addr()
}

/// The members of a keyword's value, if that is a map.
pub(super) fn members<'a>(
    keywords: &'a Map<String, Value>,
    keyword: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    keywords.get(keyword).and_then(Value::as_object).into_iter().flatten()
}

/// The subschemas that apply to the same value as `keywords` do, references aside.
fn in_place(keywords: &Map<String, Value>) -> Vec<&Value> {
    let direct = IN_PLACE.iter().filter_map(|keyword| keywords.get(*keyword)).flat_map(|value| match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    });
    let mapped = IN_PLACE_MAPS.iter().flat_map(|keyword| members(keywords, keyword)).map(|(_, s)| s);
    // A list of names, not a schema: the other form of `dependencies`.
    direct.chain(mapped.filter(|subschema| !subschema.is_array())).collect()
}

/// The violation for a reference that cannot be resolved, at the `$ref`s it may mean.
fn unresolved(schema: &Value, error: &ReferencingError) -> Violation {
    match error {
        ReferencingError::Unretrievable { uri, .. } => Violation::new(
            pointer_to_reference(schema, uri, "").unwrap_or_default(),
            "$ref",
            "leads outside of the schema: references to other documents are not fetched",
        ),
        ReferencingError::UnknownSpecification { .. } => {
            Violation::new("", "$schema", "an unknown dialect inside the schema")
        }
        ReferencingError::InvalidUri(_) => Violation::new("", "$ref", "not a URI reference"),
        _ => Violation::new("", "$ref", "leads nowhere"),
    }
}

/// The pointer to a reference that may have meant the document `uri`.
fn pointer_to_reference(value: &Value, uri: &str, at: &str) -> Option<String> {
    let document = |reference: &str| reference.split('#').next().unwrap_or_default().to_owned();
    match value {
        Value::Object(members) => members.iter().find_map(|(name, child)| {
            let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
            let refers = matches!(name.as_str(), "$ref" | "$dynamicRef")
                && child.as_str().map(document).is_some_and(|named| {
                    let named = named.trim_start_matches(['.', '/']);
                    !named.is_empty() && document(uri).ends_with(named)
                });
            if refers { Some(at) } else { pointer_to_reference(child, uri, &at) }
        }),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, child)| pointer_to_reference(child, uri, &format!("{at}/{index}")))
        }
        _ => None,
    }
}
